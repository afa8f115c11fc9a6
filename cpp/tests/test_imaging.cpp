// Imaging against the golden vectors of the Python reference, bit for bit, and against its plain definition.
#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <random>

#include "check.hpp"
#include "golden.hpp"
#include "imaging.hpp"
#include "taps.hpp"

using namespace dpt::core;
using Json = nlohmann::json;

namespace {

const Json& document() {
  static const Json found = Json::parse(read_file(std::string(DPT_GOLDEN) + "/imaging.json", 1 << 24));
  return found;
}

const golden::Array& array(const std::string& name) {
  static const auto arrays = golden::load_npz(std::string(DPT_GOLDEN) + "/imaging.npz");
  return arrays.at(name);
}

ImageRule rule_of(const Json& spec) {
  const std::map<std::string, Resize> rules{
      {"minimal", Resize::minimal}, {"lower_bound", Resize::lower_bound}, {"upper_bound", Resize::upper_bound}};
  return {spec["height"], spec["width"], rules.at(spec["resize"]), spec["mean"], spec["std"], spec["keep_aspect"]};
}

Size size_from(const Json& pair) { return {pair[0], pair[1]}; }

Size size_at(const golden::Array& values, std::size_t axis) {
  return {static_cast<int>(values.shape.at(axis)), static_cast<int>(values.shape.at(axis + 1))};
}

float widened(std::uint16_t half) {
  const int exponent = half >> 10 & 31, mantissa = half & 1023;
  const float magnitude = exponent == 0 ? std::ldexp(static_cast<float>(mantissa), -24)
                                        : std::ldexp(static_cast<float>(1024 + mantissa), exponent - 25);
  return half >> 15 ? -magnitude : magnitude;
}

std::vector<float> floats_of(const golden::Array& values) {
  const std::size_t count = values.bytes.size() / (values.dtype == "<f2" ? 2 : 4);
  std::vector<float> found(count);
  for (std::size_t i = 0; i < count; ++i) {
    found[i] = values.dtype == "<f2" ? widened(values.as<std::uint16_t>()[i]) : values.as<float>()[i];
  }
  return found;
}

template <typename T>
std::string bytes_of(const std::vector<T>& values) {
  return {reinterpret_cast<const char*>(values.data()), values.size() * sizeof(T)};
}

// What this library makes of the input of a case, as the bytes of its output.
std::string made(const Json& entry, const golden::Array& input) {
  const std::string function = entry["function"];
  const Json& arguments = entry["arguments"];
  const Size target = arguments.contains("size") ? size_from(arguments["size"]) : Size{};
  const auto count = static_cast<std::size_t>(target.height) * static_cast<std::size_t>(target.width);
  OutputScratch scratch;
  if (function == "preprocess" || function == "resize_uint8_input") {
    const ImageRule rule = rule_of(arguments["spec"]);
    const Pixels pixels{input.as<std::uint8_t>(), size_at(input, 0), input.shape[1] * 3, 3, {0, 1, 2}};
    const Size size = network_size(pixels.size, rule, arguments["stride"]);
    InputScratch input_scratch;
    const auto values = static_cast<std::size_t>(size.height) * static_cast<std::size_t>(size.width) * 3;
    std::vector<float> floats(values);
    std::vector<std::uint8_t> bytes(values);
    if (function == "preprocess") return preprocess(pixels, size, rule, input_scratch, floats.data()), bytes_of(floats);
    return resize_uint8_input(pixels, size, input_scratch, bytes.data()), bytes_of(bytes);
  }
  if (function == "resize_bicubic") {
    std::vector<float> out(count);
    return resize_bicubic(input.as<float>(), size_at(input, 0), target, scratch, out.data()), bytes_of(out);
  }
  std::vector<std::uint16_t> out(count);
  if (function == "labels_from_logits") {
    const int classes = static_cast<int>(input.shape[0]);
    labels_from_logits(input.as<float>(), classes, size_at(input, 1), target, scratch, out.data());
    return bytes_of(out);
  }
  if (function == "resize_labels") {  // the reference adds its 1 before
    resize_labels(input.as<std::uint16_t>(), size_at(input, 0), target, out.data());
    for (auto& label : out) --label;
    return bytes_of(out);
  }
  const std::vector<float> depth = floats_of(input);
  out.resize(depth.size());
  if (function == "depth_to_uint16") return depth_to_uint16(depth.data(), depth.size(), out.data()), bytes_of(out);
  if (function == "metric_to_uint16") {
    return metric_to_uint16(depth.data(), depth.size(), arguments["png_scale"], out.data()), bytes_of(out);
  }
  throw std::runtime_error("no golden case is known for " + function);
}

// A filter written down as it is defined, one value at a time.
template <typename Real>
std::vector<Real> plainly(const std::vector<Real>& source, Size size, int channels, const Taps<Real>& rows,
                          const Taps<Real>& cols) {
  std::vector<Real> out;
  const auto at = [&](int y, int x, int c) { return source[static_cast<std::size_t>((y * size.width + x) * channels + c)]; };
  for (std::size_t y = 0; y < static_cast<std::size_t>(rows.target); ++y) {
    for (std::size_t x = 0; x < static_cast<std::size_t>(cols.target); ++x) {
      for (int c = 0; c < channels; ++c) {
        Real total = 0;
        for (std::size_t j = 0; j < 4; ++j) {
          Real across = 0;
          for (std::size_t i = 0; i < 4; ++i) {
            const Real term = at(rows.index[j][y], cols.index[i][x], c) * cols.weight[i][x];
            across = i == 0 ? term : across + term;
          }
          total = j == 0 ? across * rows.weight[j][y] : total + across * rows.weight[j][y];
        }
        out.push_back(total);
      }
    }
  }
  return out;
}

const std::vector<std::pair<Size, Size>> kResizes{
    {{7, 9}, {7, 9}}, {{5, 3}, {64, 31}}, {{61, 40}, {9, 200}}, {{1, 1}, {3, 2}}, {{90, 2}, {1, 1}}, {{2, 90}, {33, 90}}};

}  // namespace

TEST(golden_sizes) {
  CHECK(document()["sizes"].size() > 40);
  for (const Json& entry : document()["sizes"]) {
    const Size found = network_size(size_from(entry["image"]), rule_of(entry["spec"]), entry["stride"]);
    CHECK(found == size_from(entry["expected"]));
  }
}

TEST(golden_vectors_bit_for_bit) {
  CHECK(document()["cases"].size() >= 18);
  for (const Json& entry : document()["cases"]) {
    const std::string name = entry["name"];
    const bool same = made(entry, array(name + ".input")) == array(name + ".output").bytes;
    if (!same) std::fprintf(stderr, "%s differs\n", name.c_str());
    CHECK(same);
  }
}

TEST(golden_vectors_notice_a_changed_input) {
  for (const Json& entry : document()["cases"]) {
    const std::string function = entry["function"], name = entry["name"];
    if (function != "preprocess" && function != "resize_bicubic") continue;
    golden::Array input = array(name + ".input");
    const std::size_t step = function == "preprocess" ? 1 : 4;  // every byte, or a bit of every float's mantissa
    for (std::size_t i = step / 2; i < input.bytes.size(); i += step) input.bytes[i] = static_cast<char>(input.bytes[i] ^ 1);
    CHECK(made(entry, input) != array(name + ".output").bytes);
  }
}

TEST(the_fast_input_filter_is_the_plain_one) {
  std::mt19937 random(1);
  for (const auto& [size, target] : kResizes) {
    std::vector<std::uint8_t> bytes(static_cast<std::size_t>(size.height * size.width * 3));
    for (auto& byte : bytes) byte = static_cast<std::uint8_t>(random());
    std::vector<double> source;
    for (const auto byte : bytes) source.push_back(byte / 255.0);
    Taps<double> rows, cols;
    opencv_taps(size.height, target.height, rows);
    opencv_taps(size.width, target.width, cols);
    const auto expected = plainly(source, size, 3, rows, cols);
    ImageRule rule;
    rule.mean = {0.25, 0.5, 0.75};
    std::vector<float> found(expected.size());
    InputScratch scratch;
    preprocess({bytes.data(), size, size.width * 3, 3, {0, 1, 2}}, target, rule, scratch, found.data());
    const std::size_t plane = expected.size() / 3;
    for (std::size_t i = 0; i < expected.size(); ++i) {
      CHECK(found[i % 3 * plane + i / 3] == static_cast<float>((expected[i] - rule.mean[i % 3]) / 1.0));
    }
  }
}

TEST(the_fast_output_filter_is_the_plain_one) {
  std::mt19937 random(2);
  for (const auto& [size, target] : kResizes) {
    std::vector<float> source(static_cast<std::size_t>(size.height * size.width));
    for (auto& value : source) value = static_cast<float>(random()) / 4e9f;
    Taps<float> rows, cols;
    torch_taps(size.height, target.height, rows);
    torch_taps(size.width, target.width, cols);
    const auto expected = plainly(source, size, 1, rows, cols);
    std::vector<float> found(expected.size());
    OutputScratch scratch;
    resize_bicubic(source.data(), size, target, scratch, found.data());
    CHECK(found == expected);
  }
}

TEST(labels_are_the_first_of_the_largest_scores) {
  std::mt19937 random(3);
  for (const int classes : {1, 5, 8, 21, 150}) {
    const Size size{6, 7}, target{13, 10};
    std::vector<float> logits(static_cast<std::size_t>(classes * size.height * size.width));
    for (auto& value : logits) value = static_cast<float>(random() % 4);  // many ties
    Taps<float> rows, cols;
    torch_taps(size.height, target.height, rows);
    torch_taps(size.width, target.width, cols);
    // Vertically first, as the labels are computed.
    std::vector<std::vector<float>> maps;
    for (int c = 0; c < classes; ++c) {
      std::vector<float> turned;
      for (int x = 0; x < size.width; ++x) {
        for (int y = 0; y < size.height; ++y) {
          turned.push_back(logits[static_cast<std::size_t>((c * size.height + y) * size.width + x)]);
        }
      }
      maps.push_back(plainly(turned, {size.width, size.height}, 1, cols, rows));  // (x, y)
    }
    std::vector<std::uint16_t> found(static_cast<std::size_t>(target.height * target.width));
    OutputScratch scratch;
    labels_from_logits(logits.data(), classes, size, target, scratch, found.data());
    for (int y = 0; y < target.height; ++y) {
      for (int x = 0; x < target.width; ++x) {
        const auto at = static_cast<std::size_t>(x * target.height + y);
        const auto best = std::max_element(maps.begin(), maps.end(), [at](const auto& a, const auto& b) { return a[at] < b[at]; });
        CHECK(found[static_cast<std::size_t>(y * target.width + x)] == best - maps.begin() + 1);
      }
    }
  }
}

TEST(formats_rows_and_order_of_bytes_are_honoured) {
  const std::vector<std::uint8_t> rgb{10, 20, 30, 40, 50, 60, 70, 80, 90, 100, 110, 120};  // (2, 2, 3)
  const auto input = [](const dpt_image& image) {
    InputScratch scratch;
    std::vector<float> out(2 * 2 * 3);
    preprocess(pixels_of(image), {2, 2}, ImageRule{}, scratch, out.data());
    return out;
  };
  const auto image = [](const std::vector<std::uint8_t>& data, std::ptrdiff_t row_bytes, dpt_pixel_format format) {
    return dpt_image{sizeof(dpt_image), data.data(), 2, 2, row_bytes, format};
  };
  const auto expected = input(image(rgb, 0, DPT_RGB8));
  CHECK(expected[0] == static_cast<float>(10 / 255.0) && expected[4] == static_cast<float>(20 / 255.0));
  CHECK(input(image({30, 20, 10, 60, 50, 40, 90, 80, 70, 120, 110, 100}, 0, DPT_BGR8)) == expected);
  CHECK(input(image({10, 20, 30, 0, 40, 50, 60, 0, 70, 80, 90, 0, 100, 110, 120, 0}, 8, DPT_RGBA8)) == expected);
  CHECK(input(image({30, 20, 10, 0, 60, 50, 40, 0, 90, 80, 70, 0, 120, 110, 100, 0}, 0, DPT_BGRA8)) == expected);
  CHECK(input(image({10, 20, 30, 40, 50, 60, 1, 2, 70, 80, 90, 100, 110, 120}, 8, DPT_RGB8)) == expected);
  const auto grey = input(image({10, 40, 70, 100}, 0, DPT_GRAY8));
  CHECK(std::equal(grey.begin(), grey.begin() + 4, expected.begin()) && grey[4] == grey[0]);
  const std::vector<std::uint8_t> upside_down{70, 80, 90, 100, 110, 120, 10, 20, 30, 40, 50, 60};
  dpt_image flipped = image(upside_down, -6, DPT_RGB8);
  flipped.data += 6;
  CHECK(input(flipped) == expected);
}

TEST(what_is_no_image_is_refused) {
  const std::uint8_t byte = 0;
  const auto refused = [&](const std::uint8_t* data, int height, int width, std::ptrdiff_t row_bytes, int format,
                           const char* text) {
    const dpt_image image{sizeof(dpt_image), data, height, width, row_bytes, static_cast<dpt_pixel_format>(format)};
    CHECK_FAILS(DPT_USAGE, text, pixels_of(image));
  };
  refused(nullptr, 1, 1, 0, 0, "null pointer");
  refused(&byte, 0, 1, 0, 0, "0x1");
  refused(&byte, 1, -5, 0, 0, "1x-5");
  refused(&byte, kMaxSide + 1, 1, 0, 0, "65537x1");
  refused(&byte, 1, 2, 5, 0, "5 bytes apart");
  refused(&byte, 1, 2, -5, 0, "-5 bytes apart");
  refused(&byte, 1, 1, 0, 4711 & 7, "pixel format 7");
  ImageRule rule;
  rule.height = rule.width = 384;
  rule.resize = Resize::lower_bound;
  CHECK_FAILS(DPT_USAGE, "would enter the network", network_size({1, 65536}, rule, 32));
}

TEST(what_is_not_finite_is_noticed) {
  std::vector<float> values(1001, 1.0f);
  CHECK(all_finite(values.data(), values.size()));
  for (const float bad : {NAN, INFINITY, -INFINITY}) {
    values[1000] = bad;
    CHECK(!all_finite(values.data(), values.size()));
  }
}

TEST_MAIN()
