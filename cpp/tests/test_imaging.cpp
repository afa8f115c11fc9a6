// Imaging against the golden vectors of the Python reference, bit for bit, and against its plain definition.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <nlohmann/json.hpp>
#include <random>

#include "check.hpp"
#include "golden.hpp"
#include "imaging.hpp"
#include "pixel.hpp"
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

Restore restore_of(const Json& arguments) {
  const std::map<std::string, Restore> rules{{"bicubic", Restore::bicubic},
                                             {"bilinear", Restore::bilinear},
                                             {"bilinear-corners", Restore::bilinear_corners}};
  return rules.at(arguments.value("rule", "bicubic"));
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

template <typename Real>
TapView<Real> view_of(const Taps<Real>& taps) {
  TapView<Real> view{};
  for (std::size_t k = 0; k < 4; ++k) view.index[k] = taps.index[k].data(), view.weight[k] = taps.weight[k].data();
  return view;
}

// Runs the kernels of a GPU on this CPU.
template <typename Job>
void compute(const Job& job) {
  for (std::int64_t y = 0; y < job.height; ++y) {
    for (std::int64_t x = 0; x < job.width; ++x) pixel(job, y, x);
  }
}

// The function of this name in imaging.hpp, computed by the jobs of pixel.hpp.
void preprocess_by_pixels(const Pixels& image, Size size, const ImageRule& rule, float* planes, std::uint8_t* bytes) {
  Taps<double> rows, cols;
  opencv_taps(image.size.height, size.height, rows);
  opencv_taps(image.size.width, size.width, cols);
  InputJob job{{image.data, image.row_bytes, image.step, {image.rgb[0], image.rgb[1], image.rgb[2]}},
               view_of(rows), view_of(cols), size.height, size.width, {}, {}, planes, bytes};
  std::copy(rule.mean.begin(), rule.mean.end(), job.mean);
  std::copy(rule.std.begin(), rule.std.end(), job.std);
  compute(job);
}

void restore_by_pixels(const float* values, Size size, Size target, Restore rule, float* out) {
  Taps<float> rows, cols;
  taps_of(rule)(size.height, target.height, rows);
  taps_of(rule)(size.width, target.width, cols);
  compute(MapJob{values, size.width, view_of(rows), view_of(cols), target.height, target.width, out});
}

void labels_by_pixels(const float* logits, int classes, Size size, Size target, Restore rule, std::uint16_t* out) {
  Taps<float> rows, cols;
  taps_of(rule)(size.height, target.height, rows);
  taps_of(rule)(size.width, target.width, cols);
  compute(ScoreJob{logits, classes, size.height, size.width, view_of(rows), view_of(cols), target.height, target.width, out});
}

// Output of this library for the input of a case, as bytes: by the CPU's code, or pixel by pixel.
std::string made(const Json& entry, const golden::Array& input, bool by_pixels = false) {
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
    const bool normalised = function == "preprocess";
    if (by_pixels) {
      preprocess_by_pixels(pixels, size, rule, floats.data(), normalised ? nullptr : bytes.data());
    } else if (normalised) {
      preprocess(pixels, size, rule, input_scratch, floats.data());
    } else {
      resize_uint8_input(pixels, size, input_scratch, bytes.data());
    }
    return normalised ? bytes_of(floats) : bytes_of(bytes);
  }
  const Restore rule = restore_of(arguments);
  if (function == "resize_bicubic" || function == "restore") {
    std::vector<float> out(count);
    if (by_pixels) return restore_by_pixels(input.as<float>(), size_at(input, 0), target, rule, out.data()), bytes_of(out);
    return restore(input.as<float>(), size_at(input, 0), target, rule, scratch, out.data()), bytes_of(out);
  }
  std::vector<std::uint16_t> out(count);
  if (function == "labels_from_logits") {
    const int classes = static_cast<int>(input.shape[0]);
    const auto* logits = input.as<float>();
    if (by_pixels) return labels_by_pixels(logits, classes, size_at(input, 1), target, rule, out.data()), bytes_of(out);
    labels_from_logits(logits, classes, size_at(input, 1), target, rule, scratch, out.data());
    return bytes_of(out);
  }
  if (function == "resize_labels") {  // the reference adds its 1 before
    const Size size = size_at(input, 0);
    if (by_pixels) {
      compute(LabelJob<std::uint16_t>{input.as<std::uint16_t>(), size.height, size.width, target.height, target.width, out.data()});
    } else {
      resize_labels(input.as<std::uint16_t>(), size, target, out.data());
    }
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

const std::vector<Restore> kRules{Restore::bicubic, Restore::bilinear, Restore::bilinear_corners};
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
  CHECK(document()["cases"].size() >= 25);
  for (const Json& entry : document()["cases"]) {
    const std::string name = entry["name"];
    const bool same = made(entry, array(name + ".input")) == array(name + ".output").bytes;
    if (!same) std::fprintf(stderr, "%s differs\n", name.c_str());
    CHECK(same);
  }
}

TEST(golden_vectors_bit_for_bit_by_what_a_gpu_computes) {
  std::size_t held = 0;
  for (const Json& entry : document()["cases"]) {
    const std::string name = entry["name"], function = entry["function"];
    if (function.find("to_uint16") != std::string::npos) continue;  // of files, on the CPU alone
    CHECK(made(entry, array(name + ".input"), /*by_pixels=*/true) == array(name + ".output").bytes);
    ++held;
  }
  CHECK(held >= 19);
}

TEST(golden_vectors_notice_a_changed_input) {
  for (const Json& entry : document()["cases"]) {
    const std::string function = entry["function"], name = entry["name"];
    if (function != "preprocess" && function != "resize_bicubic" && function != "restore") continue;
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
    const Pixels image{bytes.data(), size, size.width * 3, 3, {0, 1, 2}};
    ImageRule rule;
    rule.mean = {0.25, 0.5, 0.75}, rule.std = {0.2, 0.3, 0.7};
    const auto count = static_cast<std::size_t>(target.height * target.width * 3);
    std::vector<float> expected(count), found(count);
    std::vector<std::uint8_t> expected_bytes(count), found_bytes(count);
    InputScratch scratch;
    preprocess_by_pixels(image, target, rule, expected.data(), nullptr);
    preprocess(image, target, rule, scratch, found.data());
    preprocess_by_pixels(image, target, rule, nullptr, expected_bytes.data());
    resize_uint8_input(image, target, scratch, found_bytes.data());
    CHECK(found == expected && found_bytes == expected_bytes);
  }
}

TEST(the_fast_output_filter_is_the_plain_one) {
  std::mt19937 random(2);
  for (const auto& [size, target] : kResizes) {
    std::vector<float> source(static_cast<std::size_t>(size.height * size.width));
    for (auto& value : source) value = static_cast<float>(random()) / 4e9f;
    std::vector<float> expected(static_cast<std::size_t>(target.height * target.width)), found = expected;
    OutputScratch scratch;  // one for all rules: a filter of the same sizes is no longer the one that is asked for
    for (const Restore rule : kRules) {
      restore_by_pixels(source.data(), size, target, rule, expected.data());
      restore(source.data(), size, target, rule, scratch, found.data());
      CHECK(found == expected);
    }
  }
}

TEST(labels_are_the_first_of_the_largest_scores) {
  std::mt19937 random(3);
  for (const int classes : {1, 5, 8, 21, 150}) {
    const Size size{6, 7}, target{13, 10};
    std::vector<float> logits(static_cast<std::size_t>(classes * size.height * size.width));
    for (auto& value : logits) value = static_cast<float>(random() % 4);  // many ties
    std::vector<std::uint16_t> expected(static_cast<std::size_t>(target.height * target.width)), found = expected;
    OutputScratch scratch;
    for (const Restore rule : kRules) {
      labels_by_pixels(logits.data(), classes, size, target, rule, expected.data());
      labels_from_logits(logits.data(), classes, size, target, rule, scratch, found.data());
      CHECK(found == expected);
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
    dpt_image image{sizeof(dpt_image), data, height, width, row_bytes, DPT_RGB8};
    std::memcpy(&image.format, &format, sizeof format);  // as a caller in C may: no enumerator has to fit
    CHECK_FAILS(DPT_USAGE, text, pixels_of(image));
  };
  refused(nullptr, 1, 1, 0, 0, "null pointer");
  refused(&byte, 0, 1, 0, 0, "0x1");
  refused(&byte, 1, -5, 0, 0, "1x-5");
  refused(&byte, kMaxSide + 1, 1, 0, 0, "65537x1");
  refused(&byte, 1, 2, 5, 0, "5 bytes apart");
  refused(&byte, 1, 2, -5, 0, "-5 bytes apart");
  refused(&byte, 2, 2, PTRDIFF_MAX, 0, "bytes apart");
  refused(&byte, 2, 2, PTRDIFF_MIN, 0, "bytes apart");
  refused(&byte, 1, 1, 0, 7, "pixel format 7");
  refused(&byte, 1, 1, 0, -1, "pixel format -1");
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
