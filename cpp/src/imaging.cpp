#include "imaging.hpp"

#include <algorithm>
#include <cfloat>
#include <cmath>
#include <cstring>

#include "error.hpp"

namespace dpt::core {
namespace {

struct Layout {
  int step;
  std::array<int, 3> rgb;
};

// By number: a caller in C may have stored any.
Layout layout_of(std::int32_t format) {
  switch (format) {
    case DPT_RGB8: return {3, {0, 1, 2}};
    case DPT_BGR8: return {3, {2, 1, 0}};
    case DPT_RGBA8: return {4, {0, 1, 2}};
    case DPT_BGRA8: return {4, {2, 1, 0}};
    case DPT_GRAY8: return {1, {0, 0, 0}};
  }
  throw Failure(DPT_USAGE, "pixel format " + std::to_string(format) + " is unknown",
                "use one of dpt_pixel_format");
}

int multiple_of(int stride, double side, int bound, Resize resize) {
  double multiple = std::nearbyint(side / stride) * stride;  // half to even
  if (resize == Resize::upper_bound && multiple > bound) multiple = std::floor(side / stride) * stride;
  if (resize == Resize::lower_bound && multiple < bound) multiple = std::ceil(side / stride) * stride;
  return static_cast<int>(std::clamp<double>(multiple, stride, 1 << 30));
}

std::uint16_t saturated(double value) {
  if (!(value > 0)) return 0;  // NaN too
  return static_cast<std::uint16_t>(std::min(value, 65535.0));
}

}  // namespace

std::string text_of(Size size) { return std::to_string(size.height) + "x" + std::to_string(size.width); }

Pixels pixels_of(const dpt_image& image) {
  std::int32_t format = 0;
  static_assert(sizeof format == sizeof image.format);
  std::memcpy(&format, &image.format, sizeof format);
  const Layout layout = layout_of(format);
  if (image.data == nullptr) throw Failure(DPT_USAGE, "the image has no pixels (null pointer)", "set image.data");
  if (image.height < 1 || image.width < 1 || image.height > kMaxSide || image.width > kMaxSide) {
    throw Failure(DPT_USAGE, "the image is " + text_of(Size{image.height, image.width}) + " (height x width)",
                  "expected sides of 1.." + std::to_string(kMaxSide));
  }
  const std::ptrdiff_t least = std::ptrdiff_t{image.width} * layout.step;
  const std::ptrdiff_t row_bytes = image.row_bytes == 0 ? least : image.row_bytes;
  constexpr std::ptrdiff_t kFarthest = PTRDIFF_MAX / kMaxSide;  // no row lies outside the address space
  if ((row_bytes < least && row_bytes > -least) || row_bytes > kFarthest || row_bytes < -kFarthest) {
    throw Failure(DPT_USAGE, "rows are " + std::to_string(row_bytes) + " bytes apart and " + std::to_string(least) +
                                 " long", "set image.row_bytes, or 0 where rows follow one another");
  }
  return {image.data, {image.height, image.width}, row_bytes, layout.step, layout.rgb};
}

Size network_size(Size image, const ImageRule& rule, int stride) {
  double scale_h = static_cast<double>(rule.height) / image.height;
  double scale_w = static_cast<double>(rule.width) / image.width;
  if (rule.keep_aspect) {
    const bool follow_width = rule.resize == Resize::minimal       ? std::abs(1 - scale_w) < std::abs(1 - scale_h)
                              : rule.resize == Resize::lower_bound ? scale_w > scale_h
                                                                   : scale_w < scale_h;
    scale_h = scale_w = follow_width ? scale_w : scale_h;
  }
  const Size size{multiple_of(stride, scale_h * image.height, rule.height, rule.resize),
                  multiple_of(stride, scale_w * image.width, rule.width, rule.resize)};
  if (std::int64_t{size.height} * size.width > kMaxNetworkPixels) {
    throw Failure(DPT_USAGE, "an image of " + text_of(image) + " would enter the network at " + text_of(size),
                  "crop it, or open the model with a fixed size");
  }
  return size;
}

void depth_to_uint16(const float* depth, std::size_t count, std::uint16_t* out) {
  float low = 0, high = 0;
  bool any = false;
  for (std::size_t i = 0; i < count; ++i) {
    if (!std::isfinite(depth[i])) continue;
    low = any ? std::min(low, depth[i]) : depth[i];
    high = any ? std::max(high, depth[i]) : depth[i];
    any = true;
  }
  const double range = static_cast<double>(high) - low;
  if (!any || range <= DBL_EPSILON) {
    std::fill_n(out, count, std::uint16_t{0});
    return;
  }
  const bool roomy = range * 65535 < FLT_MAX;  // float32 as in the original, float64 where that would overflow
  for (std::size_t i = 0; i < count; ++i) {
    out[i] = saturated(roomy ? 65535.0f * (depth[i] - low) / static_cast<float>(range)
                             : 65535.0 * (static_cast<double>(depth[i]) - low) / range);
  }
}

void metric_to_uint16(const float* depth, std::size_t count, double png_scale, std::uint16_t* out) {
  const float scale = static_cast<float>(png_scale);
  for (std::size_t i = 0; i < count; ++i) out[i] = saturated(depth[i] * scale);
}

bool all_finite(const float* values, std::size_t count) {
  constexpr std::uint32_t kExponent = 0x7f800000;  // all ones in NaN and infinity alone
  std::uint32_t bad = 0;
  for (std::size_t i = 0; i < count; ++i) {
    std::uint32_t bits;
    std::memcpy(&bits, values + i, sizeof bits);
    bad |= (bits & kExponent) == kExponent ? 1u : 0u;
  }
  return bad == 0;
}

}  // namespace dpt::core
