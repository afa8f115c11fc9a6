// OpenVINO on a CPU, through its C interface. Everything that is not quantised is computed in FP32.
//
// The library is opened with the first model, as ONNX Runtime's is. Its headers declare functions to link; here they only
// give the types of those that are looked up.
#include <dlfcn.h>
#include <openvino/c/openvino.h>

#include <algorithm>
#include <cctype>
#include <cstdlib>
#include <vector>

#include "backend.hpp"
#include "error.hpp"
#include "processor.hpp"

namespace dpt::core {
namespace {

#define DPT_OPENVINO_FUNCTIONS(apply)                                                                               \
  apply(ov_get_openvino_version) apply(ov_version_free) apply(ov_get_last_err_msg) apply(ov_free)                   \
  apply(ov_core_create) apply(ov_core_read_model) apply(ov_core_compile_model)                                      \
  apply(ov_model_free) apply(ov_model_inputs_size) apply(ov_model_outputs_size)                                     \
  apply(ov_compiled_model_create_infer_request) apply(ov_compiled_model_free)                                       \
  apply(ov_infer_request_set_tensor) apply(ov_infer_request_get_tensor) apply(ov_infer_request_infer)               \
  apply(ov_infer_request_free) apply(ov_tensor_create) apply(ov_tensor_free) apply(ov_tensor_data)                  \
  apply(ov_tensor_get_shape) apply(ov_tensor_get_element_type) apply(ov_shape_free)

struct Library {
#define DPT_MEMBER(name) decltype(&::name) name = nullptr;
  DPT_OPENVINO_FUNCTIONS(DPT_MEMBER)
#undef DPT_MEMBER
  std::string error, version;
};

std::string release_of(const std::string& version) { return version.substr(0, version.find('.', version.find('.') + 1)); }

// The first library that opens: the one DPT_OPENVINO names, the one found at build time. Numbers of its types change
// between releases, so another release than that of the headers is refused.
Library open_library() {
  const char* named = std::getenv("DPT_OPENVINO");
  void* handle = nullptr;
  for (const char* path : {named, DPT_OPENVINO_LIBRARY}) {
    if (handle == nullptr && path != nullptr && *path != '\0') handle = dlopen(path, RTLD_NOW | RTLD_LOCAL);
  }
  Library library;
  if (handle == nullptr) {
    const char* why = dlerror();
    library.error = std::string("OpenVINO's library cannot be opened: ") + (why != nullptr ? why : "none was found");
    return library;
  }
#define DPT_LOOK_UP(name)                                                         \
  library.name = reinterpret_cast<decltype(&::name)>(dlsym(handle, #name));       \
  if (library.name == nullptr) library.error = "OpenVINO's library lacks " #name;
  DPT_OPENVINO_FUNCTIONS(DPT_LOOK_UP)
#undef DPT_LOOK_UP
  ov_version_t version{};
  if (library.error.empty() && library.ov_get_openvino_version(&version) == OK) {
    library.version = version.buildNumber;
    library.ov_version_free(&version);
  }
  if (library.error.empty() && release_of(library.version) != release_of(DPT_OPENVINO_VERSION)) {
    library.error = "OpenVINO's library is " + library.version + "; this one was built for " DPT_OPENVINO_VERSION;
  }
  return library;
}

// Opened once, never closed. Throws Failure (missing back end).
const Library& library() {
  static const Library one = open_library();
  if (!one.error.empty()) {
    throw Failure(DPT_MISSING_BACKEND, one.error,
                  "pip install openvino==" DPT_OPENVINO_VERSION ", or let DPT_OPENVINO name its libopenvino_c.so");
  }
  return one;
}

std::string last_error() {  // its last line: those before it are places in OpenVINO's source
  const char* message = library().ov_get_last_err_msg();
  std::string text = message != nullptr ? message : "no message";
  if (message != nullptr) library().ov_free(message);
  while (!text.empty() && std::isspace(static_cast<unsigned char>(text.back()))) text.pop_back();
  const std::size_t line = text.rfind('\n');
  return text.substr(line == std::string::npos ? 0 : line + 1).substr(0, 300);
}

bool is_memory(const std::string& text) {
  std::string lower = text;
  std::transform(lower.begin(), lower.end(), lower.begin(), [](unsigned char c) { return std::tolower(c); });
  return lower.find("alloc") != std::string::npos || lower.find("out of memory") != std::string::npos;
}

ov_element_type_e element_of(DType dtype) {
  switch (dtype) {
    case DType::float32: return F32;
    case DType::uint8: return U8;
    case DType::int32: return I32;
    case DType::int64: return I64;
  }
  return DYNAMIC;
}

template <typename T>
struct Free {
  void (*free)(T*);
  void operator()(T* value) const { free(value); }
};
template <typename T>
using Owned = std::unique_ptr<T, Free<T>>;

// Never destroyed: a model may outlive the destructors of static objects.
ov_core_t* core() {
  static ov_core_t* const one = [] {
    ov_core_t* made = nullptr;
    if (library().ov_core_create(&made) != OK) throw Failure(DPT_MISSING_BACKEND, "OpenVINO: " + last_error(), "install it again");
    return made;
  }();
  return one;
}

class OpenVino final : public Backend {
 public:
  OpenVino(const std::string& path, const Sidecar& sidecar, const BackendOptions& options)
      : input_name_(sidecar.input_name),
        input_type_(sidecar.uint8_input ? DType::uint8 : DType::float32),
        outputs_(sidecar.outputs) {
    for (const Output& output : outputs_) {
      dtype_from(output.dtype);  // throws if this library does not know the type
      values_.push_back({nullptr, {library().ov_tensor_free}});
    }
    // It computes some signed 8-bit graphs of earlier exports wrong, and 16-bit graphs in FP32.
    if (sidecar.precision != "fp32" && sidecar.precision != "int8-cpu" && sidecar.precision != "int8-openvino") {
      throw Failure(DPT_INCOMPATIBLE,
                    "back end 'openvino' runs fp32, int8-cpu and int8-openvino; " + path + " is " + sidecar.precision,
                    "export it as int8-openvino");
    }
    open(path, options);
  }

  void* input(const Shape& shape) override {
    if (!input_ || !(shape == input_shape_)) {
      std::vector<std::int64_t> dims(shape.dim.begin(), shape.dim.begin() + shape.rank);
      ov_tensor_t* made = nullptr;
      check(shape, library().ov_tensor_create(element_of(input_type_), ov_shape_t{shape.rank, dims.data()}, &made));
      input_ = {made, {library().ov_tensor_free}};
      input_shape_ = shape;
      check(shape, library().ov_infer_request_set_tensor(request_.get(), input_name_.c_str(), made));
    }
    void* data = nullptr;
    check(shape, library().ov_tensor_data(input_.get(), &data));
    return data;
  }

  Result run() override {
    check(input_shape_, library().ov_infer_request_infer(request_.get()));
    return output(0);
  }

  Result output(std::size_t index) override {
    const std::string& name = outputs_.at(index).name;
    ov_tensor_t* found = nullptr;  // its memory may be another one after each run
    check(input_shape_, library().ov_infer_request_get_tensor(request_.get(), name.c_str(), &found));
    values_[index].reset(found);
    return described(found, dtype_from(outputs_[index].dtype));
  }

 private:
  void open(const std::string& path, const BackendOptions& options) {
    const Library& lib = library();
    ov_model_t* read = nullptr;
    if (lib.ov_core_read_model(core(), path.c_str(), nullptr, &read) != OK) throw unreadable(path);
    const Owned<ov_model_t> model{read, {lib.ov_model_free}};
    std::size_t inputs = 0, outputs = 0;
    if (lib.ov_model_inputs_size(read, &inputs) != OK || lib.ov_model_outputs_size(read, &outputs) != OK) throw unreadable(path);
    if (inputs != 1 || outputs != outputs_.size()) {
      throw Failure(DPT_BAD_FILE, path + " has " + std::to_string(inputs) + " inputs and " + std::to_string(outputs) +
                                      " outputs; expected 1 and " + std::to_string(outputs_.size()), "export again");
    }
    // Each as a name and a value. OpenVINO's own default of the first is BF16 where the processor has it; 0 threads are its own choice.
    // Floats are exact where sums of integers would be cut.
    const std::string threads = std::to_string(std::max(0, options.threads));
    constexpr std::size_t kWords = 8;
    ov_compiled_model_t* compiled = nullptr;
    if (lib.ov_core_compile_model(core(), read, "CPU", kWords, &compiled, "INFERENCE_PRECISION_HINT", "f32", "PERFORMANCE_HINT",
                                  "LATENCY", "INFERENCE_NUM_THREADS", threads.c_str(), "LP_TRANSFORMS_MODE",
                                  sums_8_bits_in_16() ? "NO" : "YES") != OK) {
      throw unreadable(path);
    }
    compiled_ = {compiled, {lib.ov_compiled_model_free}};
    ov_infer_request_t* request = nullptr;
    if (lib.ov_compiled_model_create_infer_request(compiled, &request) != OK) throw unreadable(path);
    request_ = {request, {lib.ov_infer_request_free}};
  }

  static Failure unreadable(const std::string& path) {
    const std::string text = last_error();
    if (is_memory(text)) return Failure(DPT_RESOURCE, "out of memory while loading " + path, "free some memory");
    return Failure(DPT_BAD_FILE, "OpenVINO " + library().version + " cannot load " + path + ": " + text, "export again");
  }

  static void check(const Shape& shape, ov_status_e status) {
    if (status == OK) return;
    const std::string text = last_error();
    if (is_memory(text)) {
      throw Failure(DPT_RESOURCE, "out of memory for an input " + text_of(shape) + ": " + text, "use a smaller size");
    }
    throw Failure(DPT_USAGE, "the network does not accept an input " + text_of(shape) + ": " + text,
                  "see its inputs with `dpt-deploy inspect`");
  }

  Result described(const ov_tensor_t* tensor, DType stated) const {
    const Library& lib = library();
    ov_shape_t shape{};
    ov_element_type_e type = DYNAMIC;
    void* data = nullptr;
    check(input_shape_, lib.ov_tensor_get_shape(tensor, &shape));
    Result result{nullptr, stated, {}};
    const auto rank = static_cast<std::size_t>(shape.rank);
    const bool fits = rank <= result.shape.dim.size();
    if (fits) {
      result.shape.rank = static_cast<int>(rank);
      std::copy(shape.dims, shape.dims + rank, result.shape.dim.begin());
    }
    lib.ov_shape_free(&shape);
    check(input_shape_, lib.ov_tensor_get_element_type(tensor, &type));
    if (!fits || type != element_of(stated)) {
      throw Failure(DPT_BAD_FILE, "the network returned a tensor of rank " + std::to_string(rank) +
                                      " or of a type that its sidecar does not state", "export again");
    }
    check(input_shape_, lib.ov_tensor_data(tensor, &data));
    result.data = data;
    return result;
  }

  std::string input_name_;
  DType input_type_;
  std::vector<Output> outputs_;
  Shape input_shape_;
  Owned<ov_compiled_model_t> compiled_{nullptr, {nullptr}};
  Owned<ov_infer_request_t> request_{nullptr, {nullptr}};
  Owned<ov_tensor_t> input_{nullptr, {nullptr}};
  std::vector<Owned<ov_tensor_t>> values_;  // of the last run
};

}  // namespace

std::unique_ptr<Backend> open_openvino(const std::string& path, const Sidecar& sidecar, const BackendOptions& options) {
  return std::make_unique<OpenVino>(path, sidecar, options);
}

}  // namespace dpt::core
