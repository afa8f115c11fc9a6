// Image to network input and network output to map, bit for bit as dpt_deploy/imaging/rules.py computes them.
//
// The input filter is OpenCV's INTER_CUBIC in float64, the output filter PyTorch's bicubic (align_corners=False) or
// bilinear in float32. The cubic ones have a = -0.75 and four taps a side; the border is replicated. Compile with -ffp-contract=off: a fused multiply-add
// rounds once, the reference twice.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "dpt/dpt.h"

namespace dpt::core {

constexpr int kMaxSide = DPT_MAX_SIDE;
constexpr std::int64_t kMaxNetworkPixels = 1 << 28;  // far beyond any memory; sums of them stay far from overflow

struct Size {
  int height = 0, width = 0;
  bool operator==(const Size& other) const { return height == other.height && width == other.width; }
  bool operator!=(const Size& other) const { return !(*this == other); }
};

std::string text_of(Size size);  // "384x672"

enum class Resize { minimal, lower_bound, upper_bound };

// Filter that brings a map of the network back to the image's size; corners: align_corners=True.
enum class Restore { bicubic, bilinear, bilinear_corners };

// Rule by which an image becomes the network's input, and a map of the network the image's.
struct ImageRule {
  int height = 0, width = 0;
  Resize resize = Resize::minimal;
  std::array<double, 3> mean{}, std{1, 1, 1};
  bool keep_aspect = true;
  Restore restore = Restore::bicubic;
};

// Pixels owned by the caller: row y at data + y * row_bytes, `step` bytes a pixel, its red, green, blue at `rgb`.
struct Pixels {
  const std::uint8_t* data = nullptr;
  Size size;
  std::ptrdiff_t row_bytes = 0;
  int step = 3;
  std::array<int, 3> rgb{0, 1, 2};
};

// Throws Failure (usage): null, no side, too large, rows that overlap, an unknown format.
Pixels pixels_of(const dpt_image& image);

// The size at which an image enters the network. Throws Failure (usage) past kMaxNetworkPixels.
Size network_size(Size image, const ImageRule& rule, int stride);

// One axis of a separable filter: output i is the sum over k of weight[k][i] * input[index[k][i]].
template <typename Real>
struct Taps {
  int length = 0, target = 0;
  void (*maker)(int, int, Taps&) = nullptr;  // tells the filters of the same two sizes apart
  std::array<std::vector<int>, 4> index;
  std::array<std::vector<Real>, 4> weight;
};

// Filters and rows that one resize after another needs; nothing is allocated while the sizes stay.
struct InputScratch {
  Taps<double> rows, cols;
  std::vector<double> source, filtered, blended;
};
struct OutputScratch {
  Taps<float> rows, cols;
  std::vector<float> filtered, blended;
};

// (3, h, w) float32, normalised.
void preprocess(const Pixels& image, Size size, const ImageRule& rule, InputScratch& scratch, float* out);
// (h, w, 3) bytes for a graph that normalises inside: rounded half to even and clipped.
void resize_uint8_input(const Pixels& image, Size size, InputScratch& scratch, std::uint8_t* out);

// A map (h, w) at `target`.
void restore(const float* values, Size size, Size target, Restore rule, OutputScratch& scratch, float* out);
// Labels of the largest of the logits (classes, h, w) after that resize, 1-based; memory for a few rows only.
void labels_from_logits(const float* logits, int classes, Size size, Size target, Restore rule, OutputScratch& scratch,
                        std::uint16_t* out);
// Resizes 0-based labels of the graph (h, w) to 1-based ones at `target`: each pixel takes the label under its centre.
template <typename Integer>
void resize_labels(const Integer* labels, Size size, Size target, std::uint16_t* out) {
  for (std::int64_t y = 0; y < target.height; ++y) {
    const Integer* row = labels + (2 * y + 1) * size.height / (2 * target.height) * size.width;
    for (std::int64_t x = 0; x < target.width; ++x) {
      *out++ = static_cast<std::uint16_t>(row[(2 * x + 1) * size.width / (2 * target.width)] + 1);
    }
  }
}

// Stretched over 0..65535 and truncated; NaN and -inf become 0, +inf 65535.
void depth_to_uint16(const float* depth, std::size_t count, std::uint16_t* out);
// Metres times png_scale, truncated and saturated; NaN becomes 0.
void metric_to_uint16(const float* depth, std::size_t count, double png_scale, std::uint16_t* out);

bool all_finite(const float* values, std::size_t count);

}  // namespace dpt::core
