#include "model.hpp"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstring>

#include "error.hpp"

namespace dpt::core {
namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

std::string task_name(dpt_task task) {
  return task == DPT_DEPTH ? "depth" : task == DPT_SKY ? "map of the sky" : "segmentation";
}

dpt_task task_of(const Output& output) {
  return output.quantity ? DPT_DEPTH : output.of_classes() ? DPT_SEGMENTATION : output.sky() ? DPT_SKY : DPT_OTHER;
}

bool is_task(const Output& output, dpt_task task) { return task_of(output) == task; }

void fix_size(Sidecar& sidecar, Size size) {
  if (size.height < 1 || size.width < 1 || size.height > kMaxSide || size.width > kMaxSide ||
      size.height % sidecar.stride != 0 || size.width % sidecar.stride != 0) {
    throw Failure(DPT_USAGE, "size " + text_of(size) + " is not a positive multiple of " + std::to_string(sidecar.stride) +
                                 " on both sides", "for example " + text_of(Size{12 * sidecar.stride, 12 * sidecar.stride}));
  }
  if (sidecar.static_size.height > 0 && sidecar.static_size != size) {
    throw Failure(DPT_USAGE, "the artefact takes " + text_of(sidecar.static_size) + " only", "leave the size out");
  }
  sidecar.image.height = size.height, sidecar.image.width = size.width;
  sidecar.image.keep_aspect = false;
}

void resize_any_labels(const Result& result, Size size, Size target, std::uint16_t* out) {
  if (result.dtype == DType::int64) {
    resize_labels(static_cast<const std::int64_t*>(result.data), size, target, out);
  } else {
    resize_labels(static_cast<const std::int32_t*>(result.data), size, target, out);
  }
}

void check_labels(const Result& result, bool of_graph) {
  const bool integers = result.dtype == DType::int64 || result.dtype == DType::int32;
  if (of_graph ? integers : result.dtype == DType::float32) return;
  const std::string what = of_graph ? "labels" : "logits";
  throw Failure(DPT_BAD_FILE, what + " of type " + name_of(result.dtype), "export again");
}

}  // namespace

Model::Model(const std::string& path, const ModelOptions& options) : sidecar_(open_artifact(path, options.skip_hashes)) {
  const Size asked = options.fixed == Size{} ? sidecar_.static_size : options.fixed;
  if (asked != Size{}) fix_size(sidecar_, asked);
  const ChosenBackend chosen = choose_backend(options.backend, sidecar_.kind);
  backend_name_ = chosen.name;
  backend_ = chosen.open(path, sidecar_, {options.threads});
  // A device resizes one output; several come to the host.
  if (!options.host_imaging && sidecar_.outputs.size() == 1) device_ = backend_->imaging();
}

void Model::prepare(const Pixels& image, Size size) {
  if (device_ != nullptr) return device_->prepare(image, size);
  void* input = backend_->input(input_shape(size, sidecar_.uint8_input));
  if (sidecar_.uint8_input) {
    resize_uint8_input(image, size, input_scratch_, static_cast<std::uint8_t*>(input));
  } else {
    preprocess(image, size, sidecar_.image, input_scratch_, static_cast<float*>(input));
  }
}

void Model::predict(const Pixels& image) {
  ran_ = false;
  const auto start = Clock::now();
  prepare(image, network_size(image.size));
  timing_.prepare = seconds_since(start);
  const auto prepared = Clock::now();
  first_ = device_ != nullptr ? device_->run_prepared() : backend_->run();
  timing_.model = seconds_since(prepared);
  timing_.finish = 0;
  predicted_ = image.size;
  ran_ = true;
}

std::size_t Model::index_of(dpt_task task) const {
  for (std::size_t i = 0; i < sidecar_.outputs.size(); ++i) {
    if (is_task(sidecar_.outputs[i], task)) return i;
  }
  throw Failure(DPT_USAGE, "this is a " + task_name(sidecar_.task) + " model; it has no " + task_name(task),
                "ask for what it was trained for");
}

std::size_t Model::index_of(const std::string& name) const {
  std::string names;
  for (std::size_t i = 0; i < sidecar_.outputs.size(); ++i) {
    if (sidecar_.outputs[i].name == name) return i;
    names += (i > 0 ? ", " : "") + sidecar_.outputs[i].name;
  }
  throw Failure(DPT_USAGE, "the model has no output '" + name.substr(0, 200) + "'; it has: " + names, "name one of its outputs");
}

std::size_t Model::index_of(const std::string& name, dpt_task task) const {
  if (name.empty()) return index_of(task);
  const std::size_t index = index_of(name);
  if (is_task(sidecar_.outputs[index], task)) return index;
  throw Failure(DPT_USAGE, "output '" + name + "' has task '" + sidecar_.outputs[index].task + "'; it is no " + task_name(task),
                "read the outputs' tasks with dpt_get_output_info");
}

void Model::check_predicted(std::size_t count) const {
  if (!ran_ || predicted_ == Size{}) {
    throw Failure(DPT_USAGE, "the model has not run on an image", "call dpt_predict first");
  }
  const std::size_t needed = static_cast<std::size_t>(predicted_.height) * static_cast<std::size_t>(predicted_.width);
  if (count == needed) return;
  throw Failure(DPT_USAGE, "the map has room for " + std::to_string(count) + " values; " + text_of(predicted_) +
                               " pixels need " + std::to_string(needed), "pass height * width");
}

Result Model::result_of(std::size_t index) { return index == 0 ? first_ : backend_->output(index); }

bool Model::finite(const Result& result) const {
  if (result.dtype != DType::float32) return true;
  if (device_ != nullptr) return device_->finite(result);
  return all_finite(static_cast<const float*>(result.data), result.shape.count());
}

void Model::check_map(const Result& result, std::size_t index, int rank) const {
  bool fits = result.shape.rank == rank && result.shape.dim[0] == 1;
  for (int i = 0; i < result.shape.rank; ++i) {
    const std::int64_t side = result.shape.dim[static_cast<std::size_t>(i)];
    fits = fits && side > 0 && side <= kMaxSide;
  }
  const bool classes_fit = rank < 4 || result.shape.dim[1] == sidecar_.num_classes;
  if (!fits || !classes_fit) {
    throw Failure(DPT_BAD_FILE, "the network returned " + text_of(result.shape) + ", which is no " +
                                    task_name(task_of(sidecar_.outputs[index])) + " of one image", "export again");
  }
  if (!finite(result)) {
    throw Failure(DPT_NOT_FINITE, "the network returned NaN or Inf", "run `dpt-deploy verify` on this artefact");
  }
}

void Model::depth_of(std::size_t index, float* depth) {
  const auto start = Clock::now();
  Size size;
  const float* values = numbers_of(index, size);
  if (device_ != nullptr) {
    device_->depth(result_of(index), predicted_, depth);
  } else {
    if (sidecar_.sky) values = with_filled_sky(values, size);
    restore(values, size, predicted_, sidecar_.image.restore, output_scratch_, depth);
  }
  if (has_focal_ && sidecar_.outputs[index].quantity == DPT_CANONICAL_DEPTH) to_metres(depth);
  timing_.finish += seconds_since(start);
}

void Model::map_of(std::size_t index, float* values) {
  const auto start = Clock::now();
  Size size;
  const float* found = numbers_of(index, size);
  restore(found, size, predicted_, sidecar_.image.restore, output_scratch_, values);
  timing_.finish += seconds_since(start);
}

// Checked numbers of one image, on the device if that one resizes.
const float* Model::numbers_of(std::size_t index, Size& size) {
  const Result result = result_of(index);
  check_map(result, index, 3);
  if (result.dtype != DType::float32) {
    throw Failure(DPT_BAD_FILE, task_name(task_of(sidecar_.outputs[index])) + " is not float32", "export again");
  }
  size = {static_cast<int>(result.shape.dim[1]), static_cast<int>(result.shape.dim[2])};
  return static_cast<const float*>(result.data);
}

const float* Model::with_filled_sky(const float* depth, Size size) {
  Size sky_size;
  const float* sky = numbers_of(index_of(DPT_SKY), sky_size);
  if (sky_size != size) {
    throw Failure(DPT_BAD_FILE, "the map of the sky has " + text_of(sky_size) + " pixels, the depth " + text_of(size),
                  "export again");
  }
  const std::size_t count = static_cast<std::size_t>(size.height) * static_cast<std::size_t>(size.width);
  fill_sky(depth, sky, count, *sidecar_.sky, ground_, filled_);
  return filled_.data();
}

// As dpt_deploy/imaging/maps.py: by the focal length of the network's input, the mean of both axes.
void Model::to_metres(float* depth) const {
  const Size network = network_size(predicted_);
  const double scaled = (focal_x_ * network.width / predicted_.width + focal_y_ * network.height / predicted_.height) / 2;
  const auto factor = static_cast<float>(scaled / sidecar_.canonical_focal);
  const std::size_t count = static_cast<std::size_t>(predicted_.height) * static_cast<std::size_t>(predicted_.width);
  for (std::size_t i = 0; i < count; ++i) depth[i] *= factor;
}

void Model::set_focal(double x, double y) {
  const bool given = x != 0 || y != 0;
  if (given && !(x > 0 && y > 0 && std::isfinite(x) && std::isfinite(y))) {
    throw Failure(DPT_USAGE, "the focal length is " + std::to_string(x) + ", " + std::to_string(y) + " pixels",
                  "give two positive numbers: fx and fy of the camera's intrinsics");
  }
  const auto canonical = [](const Output& output) { return output.quantity == DPT_CANONICAL_DEPTH; };
  if (given && std::none_of(sidecar_.outputs.begin(), sidecar_.outputs.end(), canonical)) {
    throw Failure(DPT_USAGE, "this model returns no canonical depth; a focal length does not change it",
                  "leave the focal length out; only canonical depth becomes metres by it");
  }
  focal_x_ = x, focal_y_ = y;
  has_focal_ = given;
}

std::optional<dpt_quantity> Model::quantity_of(const Output& output) const {
  return has_focal_ && output.quantity == DPT_CANONICAL_DEPTH ? DPT_METRES : output.quantity;
}

double Model::png_scale_of(const Output& output) const {
  if (quantity_of(output) != DPT_METRES) return 0;
  return output.quantity == DPT_METRES ? sidecar_.png_scale : sidecar_.canonical_png_scale;
}

void Model::labels_of(std::size_t index, std::uint16_t* labels) {
  const auto start = Clock::now();
  const Result result = result_of(index);
  const bool of_graph = sidecar_.outputs[index].labels();
  check_map(result, index, of_graph ? 3 : 4);
  const auto rank = static_cast<std::size_t>(result.shape.rank);
  const Size size{static_cast<int>(result.shape.dim[rank - 2]), static_cast<int>(result.shape.dim[rank - 1])};
  check_labels(result, of_graph);
  if (device_ != nullptr) {
    device_->labels(result, predicted_, labels);
  } else if (of_graph) {
    resize_any_labels(result, size, predicted_, labels);
  } else {
    labels_from_logits(static_cast<const float*>(result.data), sidecar_.num_classes, size, predicted_,
                       sidecar_.image.restore, output_scratch_, labels);
  }
  timing_.finish += seconds_since(start);
}

void Model::predict_depth(const Pixels& image, float* depth) {
  const std::size_t index = index_of(DPT_DEPTH);
  predict(image);
  depth_of(index, depth);
}

void Model::predict_labels(const Pixels& image, std::uint16_t* labels) {
  const std::size_t index = index_of(DPT_SEGMENTATION);
  predict(image);
  labels_of(index, labels);
}

void Model::depth(const std::string& name, float* depth, std::size_t count) {
  const std::size_t index = index_of(name, DPT_DEPTH);
  check_predicted(count);
  depth_of(index, depth);
}

void Model::labels(const std::string& name, std::uint16_t* labels, std::size_t count) {
  const std::size_t index = index_of(name, DPT_SEGMENTATION);
  check_predicted(count);
  labels_of(index, labels);
}

void Model::map(const std::string& name, float* values, std::size_t count) {
  const std::size_t index = index_of(name);
  const dpt_task task = task_of(sidecar_.outputs[index]);
  if (task != DPT_DEPTH && task != DPT_SKY) {
    throw Failure(DPT_USAGE, "output '" + name + "' has task '" + sidecar_.outputs[index].task + "'; it is no map of numbers",
                  "read its labels with dpt_get_labels, or its tensor with dpt_get_output");
  }
  check_predicted(count);
  if (task == DPT_DEPTH) return depth_of(index, values);
  map_of(index, values);
}

Result Model::output(const std::string& name) {
  const std::size_t index = index_of(name);
  if (!ran_) throw Failure(DPT_USAGE, "the model has not run", "call dpt_predict or dpt_infer first");
  if (device_ != nullptr && predicted_ != Size{}) {
    throw Failure(DPT_USAGE, "the output lies on a GPU", "open the model with host_imaging, or call dpt_infer");
  }
  return result_of(index);
}

Result Model::infer(const void* data, DType dtype, const Shape& shape) {
  const DType wanted = sidecar_.uint8_input ? DType::uint8 : DType::float32;
  bool fits = dtype == wanted && shape.rank == 4;
  std::int64_t pixels = 1;
  for (int i = 0; fits && i < 4; ++i) {
    const std::int64_t side = shape.dim[static_cast<std::size_t>(i)];
    fits = side > 0 && side <= kMaxSide;
    pixels = std::min(pixels * std::max<std::int64_t>(side, 1), 16 * kMaxNetworkPixels);
  }
  if (!fits || pixels >= 16 * kMaxNetworkPixels) {
    throw Failure(DPT_USAGE, std::string("the network does not accept ") + name_of(dtype) + " " + text_of(shape),
                  std::string("expected ") + name_of(wanted) + (sidecar_.uint8_input ? " (N, H, W, 3)" : " (N, 3, H, W)"));
  }
  ran_ = false;
  void* input = backend_->input(shape);
  std::memcpy(input, data, shape.count() * size_of(dtype));
  const auto start = Clock::now();
  first_ = backend_->run();
  timing_ = {0, seconds_since(start), 0};
  predicted_ = {};
  ran_ = true;
  return first_;
}

}  // namespace dpt::core
