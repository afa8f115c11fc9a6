// The C API over core::Model: exceptions become statuses, every handle is looked up, every structure is read by its size.
#include <algorithm>
#include <cstring>
#include <memory>
#include <mutex>
#include <new>
#include <unordered_map>

#include "decode.hpp"
#include "dpt/dpt.h"
#include "error.hpp"
#include "files.hpp"
#include "formats.hpp"
#include "model.hpp"

namespace {

using namespace dpt::core;

thread_local std::string last_error, last_hint;  // NOLINT

dpt_status failed(dpt_status status, const char* message, const char* hint) noexcept {
  try {
    last_error = message;
    last_hint = hint;
  } catch (...) {  // out of memory for the message: the status is enough
    last_error.clear();
    last_hint.clear();
  }
  return status;
}

template <typename Call>
dpt_status guarded(const Call& call) noexcept {
  last_error.clear();
  last_hint.clear();
  try {
    call();
    return DPT_OK;
  } catch (const Failure& failure) {
    return failed(failure.status(), failure.what(), failure.hint().c_str());
  } catch (const std::bad_alloc&) {
    return failed(DPT_RESOURCE, "out of memory", "use a smaller image or size");
  } catch (const std::exception& error) {
    return failed(DPT_INTERNAL, error.what(), "this is a defect; please report it");
  } catch (...) {
    return failed(DPT_INTERNAL, "an unknown exception", "this is a defect; please report it");
  }
}

void require(const void* pointer, const char* name) {
  if (pointer == nullptr) throw Failure(DPT_USAGE, std::string(name) + " is a null pointer", "pass an object");
}

template <typename T>
T& present(T* pointer, const char* name) {
  require(pointer, name);
  return *pointer;
}

template <typename T>
std::size_t checked_size(const T* structure, const char* name) {
  const std::size_t size = present(structure, name).struct_size;
  if (size < sizeof(std::size_t) + sizeof(void*) || size > 16 * sizeof(T)) {
    throw Failure(DPT_USAGE, std::string(name) + ".struct_size is " + std::to_string(size) + "; this library's is " +
                                 std::to_string(sizeof(T)), "set it to sizeof of the structure");
  }
  return size;
}

// Copies the caller's structure into one of this library's size. An older caller's is shorter and is filled with zeros;
// a newer one's is longer, and the members that this library does not know must be zero.
template <typename T>
T taken(const T* from, const char* name) {
  const std::size_t size = checked_size(from, name);
  const auto* bytes = reinterpret_cast<const unsigned char*>(from);
  if (size > sizeof(T) && std::any_of(bytes + sizeof(T), bytes + size, [](unsigned char byte) { return byte != 0; })) {
    throw Failure(DPT_USAGE, std::string(name) + " asks for something that this library does not know yet",
                  "update the library");
  }
  T copy{};
  std::memcpy(&copy, from, std::min(size, sizeof(T)));
  return copy;
}

// Fills in the caller's structure, no further than its size.
template <typename T>
void give(T values, T* to, const char* name) {
  values.struct_size = checked_size(to, name);
  std::memcpy(to, &values, std::min(values.struct_size, sizeof(T)));
}

void give_tensor(const Result& result, dpt_tensor* output) {
  dpt_tensor values{0, result.data, name_of(result.dtype), result.shape.rank, {}};
  std::copy(result.shape.dim.begin(), result.shape.dim.end(), values.shape);
  give(values, output, "output");
}

struct Handles {
  std::mutex mutex;
  std::unordered_map<dpt_model, std::shared_ptr<Model>> open;
  dpt_model last = 0;
};

Handles& handles() {
  static Handles* one = new Handles;  // never destroyed: a thread may still be running while the process ends
  return *one;
}

std::shared_ptr<Model> model_of(dpt_model handle) {
  Handles& all = handles();
  const std::lock_guard lock(all.mutex);
  const auto found = all.open.find(handle);
  if (found == all.open.end()) {
    throw Failure(DPT_USAGE, "handle " + std::to_string(handle) + " is not an open model", "was it closed, or never opened?");
  }
  return found->second;
}

// Runs the call with exclusive use of its model. A model that is closed meanwhile lives until the call ends.
template <typename Call>
dpt_status with_model(dpt_model handle, const Call& call) noexcept {
  return guarded([&] {
    const std::shared_ptr<Model> model = model_of(handle);
    const std::unique_lock lock(model->mutex(), std::try_to_lock);
    if (!lock.owns_lock()) {
      throw Failure(DPT_USAGE, "the model is in use by another thread", "open one model for each thread");
    }
    call(*model);
  });
}

Size map_size(std::int32_t height, std::int32_t width) {
  if (height < 1 || width < 1 || height > kMaxSide || width > kMaxSide) {
    throw Failure(DPT_USAGE, "the map is " + text_of(Size{height, width}) + " (height x width)",
                  "expected sides of 1.." + std::to_string(kMaxSide));
  }
  return {height, width};
}

Pixels image_for(const dpt_image* image, const void* map, std::size_t count) {
  const Pixels pixels = pixels_of(taken(image, "image"));
  require(map, "the map");
  const std::size_t needed = static_cast<std::size_t>(pixels.size.height) * static_cast<std::size_t>(pixels.size.width);
  if (count != needed) {
    throw Failure(DPT_USAGE, "the map has room for " + std::to_string(count) + " values; " + text_of(pixels.size) +
                                 " pixels need " + std::to_string(needed), "pass height * width");
  }
  return pixels;
}

bool ends_with(const std::string& text, const std::string& end) {
  return text.size() >= end.size() && text.compare(text.size() - end.size(), end.size(), end) == 0;
}

template <std::size_t N>
void copy_text(const std::string& text, char (&out)[N]) {
  const std::size_t size = std::min(text.size(), N - 1);
  std::memcpy(out, text.data(), size);
  out[size] = '\0';
}

}  // namespace

const char* dpt_version(void) { return DPT_VERSION; }

const char* dpt_backends(void) {
  thread_local std::string names;
  return guarded([] { names = backend_names(); }) == DPT_OK ? names.c_str() : "";
}

const char* dpt_last_error(void) { return last_error.c_str(); }
const char* dpt_last_hint(void) { return last_hint.c_str(); }

dpt_status dpt_open(const char* path, const dpt_options* options, dpt_model* model) {
  return guarded([&] {
    present(model, "model") = 0;
    require(path, "path");
    ModelOptions wanted;
    if (options != nullptr) {
      const dpt_options given = taken(options, "options");
      if (given.threads < 0 || given.threads > 1024) {
        throw Failure(DPT_USAGE, std::to_string(given.threads) + " threads", "expected 0 (automatic) to 1024");
      }
      wanted = {given.backend != nullptr ? given.backend : "", given.threads, {given.height, given.width},
                given.skip_hashes != 0, given.host_imaging != 0};
    }
    auto opened = std::make_shared<Model>(path, wanted);
    Handles& all = handles();
    const std::lock_guard lock(all.mutex);
    all.open.emplace(all.last + 1, std::move(opened));
    *model = ++all.last;
  });
}

dpt_status dpt_close(dpt_model model) {
  return guarded([&] {
    const std::shared_ptr<Model> last = model_of(model);  // released outside the lock
    Handles& all = handles();
    const std::lock_guard lock(all.mutex);
    all.open.erase(model);
  });
}

dpt_status dpt_get_info(dpt_model model, dpt_info* info) {
  return guarded([&] {
    const std::shared_ptr<Model> found = model_of(model);
    const Sidecar& sidecar = found->sidecar();
    dpt_info values{};
    values.task = sidecar.task;
    const auto metric = [&](const Output& output) { return found->quantity_of(output) == DPT_METRES; };
    const auto first = std::find_if(sidecar.outputs.begin(), sidecar.outputs.end(), metric);
    values.metric = first != sidecar.outputs.end() ? 1 : 0;
    values.num_classes = sidecar.num_classes;
    values.stride = sidecar.stride;
    values.png_scale = values.metric != 0 ? found->png_scale_of(*first) : 0;
    values.quantity = found->quantity_of(sidecar.outputs.front()).value_or(DPT_INVERSE_DEPTH);
    copy_text(sidecar.precision, values.precision);
    copy_text(found->backend_name(), values.backend);
    give(values, info, "info");
  });
}

dpt_status dpt_network_size(dpt_model model, int32_t height, int32_t width, int32_t* network_height,
                            int32_t* network_width) {
  return guarded([&] {
    const Size size = model_of(model)->network_size(map_size(height, width));
    present(network_height, "network_height") = size.height;
    present(network_width, "network_width") = size.width;
  });
}

dpt_status dpt_predict_depth(dpt_model model, const dpt_image* image, float* depth, size_t count) {
  return with_model(model, [&](Model& open) { open.predict_depth(image_for(image, depth, count), depth); });
}

dpt_status dpt_predict_labels(dpt_model model, const dpt_image* image, uint16_t* labels, size_t count) {
  return with_model(model, [&](Model& open) { open.predict_labels(image_for(image, labels, count), labels); });
}

dpt_status dpt_output_count(dpt_model model, int32_t* count) {
  return guarded([&] { present(count, "count") = static_cast<int32_t>(model_of(model)->sidecar().outputs.size()); });
}

dpt_status dpt_get_output_info(dpt_model model, int32_t index, dpt_output_info* info) {
  return guarded([&] {
    const std::shared_ptr<Model> found = model_of(model);
    const Sidecar& sidecar = found->sidecar();
    if (index < 0 || static_cast<std::size_t>(index) >= sidecar.outputs.size()) {
      throw Failure(DPT_USAGE, "the model has no output " + std::to_string(index) + "; it has " +
                                   std::to_string(sidecar.outputs.size()), "count from 0");
    }
    const Output& output = sidecar.outputs[static_cast<std::size_t>(index)];
    dpt_output_info values{};
    values.name = output.name.c_str();
    values.dtype = output.dtype.c_str();
    values.task = output.quantity ? DPT_DEPTH : output.of_classes() ? DPT_SEGMENTATION : output.sky() ? DPT_SKY : DPT_OTHER;
    values.quantity = found->quantity_of(output).value_or(DPT_INVERSE_DEPTH);
    values.metric = values.task == DPT_DEPTH && values.quantity == DPT_METRES ? 1 : 0;
    values.num_classes = output.of_classes() ? sidecar.num_classes : 0;
    values.png_scale = found->png_scale_of(output);
    give(values, info, "info");
  });
}

dpt_status dpt_set_focal(dpt_model model, double focal_x, double focal_y) {
  return with_model(model, [&](Model& open) { open.set_focal(focal_x, focal_y); });
}

dpt_status dpt_predict(dpt_model model, const dpt_image* image) {
  return with_model(model, [&](Model& open) { open.predict(pixels_of(taken(image, "image"))); });
}

dpt_status dpt_get_depth(dpt_model model, const char* name, float* depth, size_t count) {
  return with_model(model, [&](Model& open) {
    require(depth, "the map");
    open.depth(name != nullptr ? name : "", depth, count);
  });
}

dpt_status dpt_get_map(dpt_model model, const char* name, float* values, size_t count) {
  return with_model(model, [&](Model& open) {
    require(name, "name");
    require(values, "the map");
    open.map(name, values, count);
  });
}

dpt_status dpt_get_labels(dpt_model model, const char* name, uint16_t* labels, size_t count) {
  return with_model(model, [&](Model& open) {
    require(labels, "the map");
    open.labels(name != nullptr ? name : "", labels, count);
  });
}

dpt_status dpt_get_output(dpt_model model, const char* name, dpt_tensor* output) {
  return with_model(model, [&](Model& open) {
    require(name, "name");
    give_tensor(open.output(name), output);
  });
}

dpt_status dpt_get_timing(dpt_model model, dpt_timing* timing) {
  return with_model(model, [&](Model& open) {
    const Timing& found = open.timing();
    give(dpt_timing{0, found.prepare, found.model, found.finish}, timing, "timing");
  });
}

dpt_status dpt_infer(dpt_model model, const dpt_tensor* input, dpt_tensor* output) {
  return with_model(model, [&](Model& open) {
    const dpt_tensor tensor = taken(input, "input");
    require(tensor.data, "input.data");
    require(tensor.dtype, "input.dtype");
    Shape shape{tensor.rank, {}};
    if (tensor.rank != 4) throw Failure(DPT_USAGE, "input.rank is " + std::to_string(tensor.rank), "expected 4");
    std::copy_n(tensor.shape, 4, shape.dim.begin());
    const Result result = open.infer(tensor.data, dtype_from(tensor.dtype), shape);
    give_tensor(result, output);
  });
}

dpt_status dpt_write_depth(const char* path, const float* depth, int32_t height, int32_t width, double png_scale) {
  return guarded([&] {
    const std::string where = &present(path, "path");
    require(depth, "depth");
    const Size size = map_size(height, width);
    if (ends_with(where, ".pfm")) return write_file(where, pfm_of(depth, size));
    if (!ends_with(where, ".png")) throw Failure(DPT_USAGE, where + " is neither .pfm nor .png", "name one of the two");
    std::vector<std::uint16_t> pixels(static_cast<std::size_t>(height) * static_cast<std::size_t>(width));
    if (png_scale > 0) {
      metric_to_uint16(depth, pixels.size(), png_scale, pixels.data());
    } else {
      depth_to_uint16(depth, pixels.size(), pixels.data());
    }
    write_file(where, png16_of(pixels.data(), size));
  });
}

dpt_status dpt_write_labels(const char* path, const uint16_t* labels, int32_t height, int32_t width, int32_t num_classes) {
  return guarded([&] {
    const std::string where = &present(path, "path");
    require(labels, "labels");
    if (!ends_with(where, ".png")) throw Failure(DPT_USAGE, where + " is not a .png file", "labels go to a palette image");
    write_file(where, palette_png_of(labels, map_size(height, width), num_classes));
  });
}

dpt_status dpt_read_image(const char* path, dpt_image* image) {
  return guarded([&] {
    checked_size(image, "image");
    const Picture picture = read_image(&present(path, "path"));
    std::unique_ptr<std::uint8_t[]> pixels(new std::uint8_t[picture.rgb.size()]);
    std::copy(picture.rgb.begin(), picture.rgb.end(), pixels.get());
    give(dpt_image{0, pixels.get(), picture.size.height, picture.size.width, 0, DPT_RGB8}, image, "image");
    pixels.release();
  });
}

void dpt_free_image(dpt_image* image) {
  if (image == nullptr) return;
  delete[] image->data;
  image->data = nullptr;
}
