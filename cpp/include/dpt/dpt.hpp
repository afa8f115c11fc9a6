// dpt.h for C++17: models that close themselves, errors as exceptions, results as vectors.
//
//     auto model = dpt::Model::load("out/hybrid-fp32.onnx");
//     dpt::Depth depth = model.predict({rgb, width, height});
#pragma once

#include <cstddef>
#include <cstdint>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "dpt/dpt.h"

namespace dpt {

// Thrown by a failed call; what() says what was found, hint() what to do.
class Error : public std::runtime_error {
 public:
  explicit Error(dpt_status status) : Error(status, dpt_last_error(), dpt_last_hint()) {}
  Error(dpt_status status, const std::string& what, std::string hint)
      : std::runtime_error(what), status_(status), hint_(std::move(hint)) {}
  dpt_status status() const { return status_; }
  const std::string& hint() const { return hint_; }

 private:
  dpt_status status_;
  std::string hint_;
};

inline void check(dpt_status status) {
  if (status != DPT_OK) throw Error(status);
}

// Pixels owned by the caller, valid during the call. `row_bytes` 0: rows are contiguous.
struct Image {
  const std::uint8_t* data = nullptr;
  int width = 0, height = 0;
  std::ptrdiff_t row_bytes = 0;
  dpt_pixel_format format = DPT_RGB8;

  dpt_image raw() const { return {sizeof(dpt_image), data, height, width, row_bytes, format}; }
};

// (height, width), row-major, in the units of `quantity`; `metric` if those are metres.
struct Depth {
  int width = 0, height = 0;
  bool metric = false;
  dpt_quantity quantity = DPT_INVERSE_DEPTH;
  std::vector<float> values;
};

// (height, width), row-major; 1 is the first class.
struct Labels {
  int width = 0, height = 0, num_classes = 0;
  std::vector<std::uint16_t> values;
};

struct Options {
  std::string backend;         // empty: chosen by the kind of file
  int threads = 0;             // 0: the back end's choice
  int height = 0, width = 0;   // fixed network size; 0, 0: the artefact's own rule
  bool skip_hashes = false;
  bool host_imaging = false;   // resize on the CPU even if the back end's GPU can
};

// A loaded artefact, for one thread at a time. Throws Error.
class Model {
 public:
  static Model load(const std::string& path, const Options& options = {}) {
    dpt_options raw = dpt_default_options();
    if (!options.backend.empty()) raw.backend = options.backend.c_str();
    raw.threads = options.threads;
    raw.height = options.height, raw.width = options.width;
    raw.skip_hashes = options.skip_hashes ? 1 : 0;
    raw.host_imaging = options.host_imaging ? 1 : 0;
    dpt_model handle = 0;
    check(dpt_open(path.c_str(), &raw, &handle));
    return Model(handle);
  }

  Model(Model&& other) noexcept
      : handle_(std::exchange(other.handle_, 0)), width_(other.width_), height_(other.height_) {}
  Model& operator=(Model&& other) noexcept {
    std::swap(handle_, other.handle_);
    std::swap(width_, other.width_);
    std::swap(height_, other.height_);
    return *this;
  }
  ~Model() {
    if (handle_ != 0) dpt_close(handle_);
  }

  // Of the camera, in pixels of the images: canonical depth is returned in metres; 0, 0 undoes it.
  void set_focal(double x, double y) { check(dpt_set_focal(handle_, x, y)); }
  void set_focal(double focal) { set_focal(focal, focal); }

  Depth predict(const Image& image) {
    Depth depth;
    predict(image, depth);
    return depth;
  }
  // Into an existing map: nothing is allocated while the size stays the same.
  void predict(const Image& image, Depth& depth) {
    room_for(image, depth);
    const dpt_info found = info();
    depth.metric = found.metric != 0;
    depth.quantity = found.quantity;
    const dpt_image raw = image.raw();
    check(dpt_predict_depth(handle_, &raw, depth.values.data(), depth.values.size()));
  }

  Labels segment(const Image& image) {
    Labels labels;
    segment(image, labels);
    return labels;
  }
  void segment(const Image& image, Labels& labels) {
    room_for(image, labels);
    labels.num_classes = info().num_classes;
    const dpt_image raw = image.raw();
    check(dpt_predict_labels(handle_, &raw, labels.values.data(), labels.values.size()));
  }

  // Several outputs from one run: run(), then each by its name; an empty name is the first that fits.
  void run(const Image& image) {
    const dpt_image raw = image.raw();
    check(dpt_predict(handle_, &raw));
    width_ = image.width, height_ = image.height;
  }
  Depth depth(const std::string& name = "") {
    Depth depth;
    room_for({nullptr, width_, height_}, depth);
    check(dpt_get_depth(handle_, name.empty() ? nullptr : name.c_str(), depth.values.data(), depth.values.size()));
    const dpt_output_info found = info_of(name, DPT_DEPTH);
    depth.metric = found.metric != 0;
    depth.quantity = found.quantity;
    return depth;
  }
  // Depth, or the sky, whose quantity says nothing.
  Depth map(const std::string& name) {
    Depth map;
    room_for({nullptr, width_, height_}, map);
    check(dpt_get_map(handle_, name.c_str(), map.values.data(), map.values.size()));
    const dpt_output_info found = info_of(name, DPT_DEPTH);
    map.metric = found.metric != 0;
    map.quantity = found.quantity;
    return map;
  }
  Labels labels(const std::string& name = "") {
    Labels labels;
    room_for({nullptr, width_, height_}, labels);
    check(dpt_get_labels(handle_, name.empty() ? nullptr : name.c_str(), labels.values.data(), labels.values.size()));
    labels.num_classes = info_of(name, DPT_SEGMENTATION).num_classes;
    return labels;
  }
  // As the network returned it; the data are valid until the model's next run.
  dpt_tensor output(const std::string& name) {
    dpt_tensor tensor{};
    tensor.struct_size = sizeof tensor;
    check(dpt_get_output(handle_, name.c_str(), &tensor));
    return tensor;
  }
  std::vector<dpt_output_info> outputs() const {
    std::int32_t count = 0;
    check(dpt_output_count(handle_, &count));
    std::vector<dpt_output_info> found(static_cast<std::size_t>(count));
    for (std::int32_t i = 0; i < count; ++i) {
      dpt_output_info& each = found[static_cast<std::size_t>(i)];
      each.struct_size = sizeof each;
      check(dpt_get_output_info(handle_, i, &each));
    }
    return found;
  }

  dpt_info info() const {
    dpt_info info{};
    info.struct_size = sizeof info;
    check(dpt_get_info(handle_, &info));
    return info;
  }
  // Seconds of each step of the last prediction.
  dpt_timing timing() const {
    dpt_timing timing{};
    timing.struct_size = sizeof timing;
    check(dpt_get_timing(handle_, &timing));
    return timing;
  }
  dpt_model handle() const { return handle_; }

 private:
  explicit Model(dpt_model handle) : handle_(handle) {}

  template <typename Map>
  static void room_for(const Image& image, Map& map) {
    map.width = image.width, map.height = image.height;
    const bool real = image.width > 0 && image.height > 0 && image.width <= DPT_MAX_SIDE && image.height <= DPT_MAX_SIDE;
    map.values.resize(real ? static_cast<std::size_t>(image.width) * static_cast<std::size_t>(image.height)
                           : 1);  // the call reports what is wrong
  }

  dpt_output_info info_of(const std::string& name, dpt_task task) const {
    for (const dpt_output_info& each : outputs()) {
      if (name.empty() ? each.task == task : name == each.name) return each;
    }
    return {};  // not reached: the call before would have failed
  }

  dpt_model handle_ = 0;
  int width_ = 0, height_ = 0;  // of the image of the last run()
};

// Throws unless the number of values in a map is width * height.
template <typename Map>
void check_map(const Map& map) {
  const bool real = map.width > 0 && map.height > 0;
  if (real && map.values.size() / static_cast<std::size_t>(map.width) == static_cast<std::size_t>(map.height) &&
      map.values.size() % static_cast<std::size_t>(map.width) == 0) {
    return;
  }
  throw Error(DPT_USAGE, "a map of " + std::to_string(map.height) + "x" + std::to_string(map.width) + " holds " +
                             std::to_string(map.values.size()) + " values", "write what predict or segment returned");
}

// To .pfm, or to a 16-bit .png: stretched over its range, or with `png_scale` steps per metre.
inline void write_depth(const std::string& path, const Depth& depth, double png_scale = 0) {
  check_map(depth);
  check(dpt_write_depth(path.c_str(), depth.values.data(), depth.height, depth.width, png_scale));
}

inline void write_labels(const std::string& path, const Labels& labels) {
  check_map(labels);
  check(dpt_write_labels(path.c_str(), labels.values.data(), labels.height, labels.width, labels.num_classes));
}

// A JPEG, PNG, PPM or PGM, read from a file; see dpt_read_image.
class Picture {
 public:
  explicit Picture(const std::string& path) {
    raw_.struct_size = sizeof raw_;
    check(dpt_read_image(path.c_str(), &raw_));
  }
  Picture(Picture&& other) noexcept : raw_(std::exchange(other.raw_, {})) {}
  Picture& operator=(Picture&& other) noexcept {
    std::swap(raw_, other.raw_);
    return *this;
  }
  ~Picture() { dpt_free_image(&raw_); }

  operator Image() const { return {raw_.data, raw_.width, raw_.height}; }  // NOLINT: implicit on purpose

 private:
  dpt_image raw_{};
};

}  // namespace dpt
