// ONNX Runtime on a CPU. Input and output tensors are kept while the shape stays the same, so a frame allocates nothing.
//
// The library is opened with the first model. Linking it would bind this library to the version it was built with.
#define ORT_API_MANUAL_INIT
#include <dlfcn.h>
#include <onnxruntime_cxx_api.h>
#undef ORT_API_MANUAL_INIT

#include <algorithm>
#include <cctype>
#include <cstdlib>
#include <optional>
#include <vector>

#include "backend.hpp"
#include "error.hpp"
#include "preflight.hpp"
#include "processor.hpp"

namespace dpt::core {
namespace {

struct Library {
  const OrtApiBase* base = nullptr;
  const OrtApi* api = nullptr;
  std::string error;
};

// The first library that opens: the one DPT_ONNXRUNTIME names, the one found at build time, the system's.
Library open_library() {
  const char* named = std::getenv("DPT_ONNXRUNTIME");
  void* handle = nullptr;
  for (const char* path : {named, DPT_ONNXRUNTIME_LIBRARY, "libonnxruntime.so.1"}) {
    if (handle == nullptr && path != nullptr && *path != '\0') handle = dlopen(path, RTLD_NOW | RTLD_LOCAL);
  }
  Library library;
  if (handle == nullptr) {
    library.error = std::string("ONNX Runtime's library cannot be opened: ") + dlerror();
    return library;
  }
  const auto get = reinterpret_cast<const OrtApiBase* (*)()>(dlsym(handle, "OrtGetApiBase"));
  library.base = get != nullptr ? get() : nullptr;
  library.api = library.base != nullptr ? library.base->GetApi(ORT_API_VERSION) : nullptr;
  if (library.api == nullptr) {
    library.error = "ONNX Runtime's library is older than the headers that this one was built with (API " +
                    std::to_string(ORT_API_VERSION) + ")";
  }
  return library;
}

// Opened once, never closed. Throws Failure (missing back end).
const Library& library() {
  static const Library one = open_library();
  if (!one.error.empty()) {
    throw Failure(DPT_MISSING_BACKEND, one.error, "pip install onnxruntime, or let DPT_ONNXRUNTIME name libonnxruntime.so");
  }
  return one;
}

// Never destroyed: a session may outlive the destructors of static objects.
const Ort::Env& environment() {
  static const Ort::Env* env = [] {
    Ort::InitApi(library().api);
    auto* made = new Ort::Env(ORT_LOGGING_LEVEL_FATAL, "dpt");  // errors arrive as exceptions
    made->DisableTelemetryEvents();
    return made;
  }();
  return *env;
}

std::string line_of(const std::exception& error) {
  std::string text = error.what();
  std::replace(text.begin(), text.end(), '\n', ' ');
  return text.substr(0, 300);
}

bool is_memory(const std::string& text) {
  std::string lower = text;
  std::transform(lower.begin(), lower.end(), lower.begin(), [](unsigned char c) { return std::tolower(c); });
  return lower.find("alloc") != std::string::npos || lower.find("out of memory") != std::string::npos;
}

ONNXTensorElementDataType element_of(DType dtype) {
  switch (dtype) {
    case DType::float32: return ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT;
    case DType::uint8: return ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT8;
    case DType::int32: return ONNX_TENSOR_ELEMENT_DATA_TYPE_INT32;
    case DType::int64: return ONNX_TENSOR_ELEMENT_DATA_TYPE_INT64;
  }
  return ONNX_TENSOR_ELEMENT_DATA_TYPE_UNDEFINED;
}

class OnnxRuntime final : public Backend {
 public:
  OnnxRuntime(const std::string& path, const Sidecar& sidecar, const BackendOptions& options)
      : session_(open(path, sidecar, options)),
        input_name_(sidecar.input_name),
        input_type_(sidecar.uint8_input ? DType::uint8 : DType::float32),
        outputs_(sidecar.outputs),
        results_(outputs_.size()) {
    for (const Output& output : outputs_) {
      names_.push_back(output.name.c_str());
      dtype_from(output.dtype);  // throws if this library does not know the type
      values_.emplace_back(nullptr);
    }
    check(path);
  }

  void* input(const Shape& shape) override {
    if (!input_ || !(shape == input_shape_)) {
      for (Ort::Value& value : values_) value = Ort::Value(nullptr);
      std::fill(results_.begin(), results_.end(), Result{});
      const auto rank = static_cast<std::size_t>(shape.rank);
      input_ = translated(shape, [&] {
        return Ort::Value::CreateTensor(allocator_, shape.dim.data(), rank, element_of(input_type_));
      });
      input_shape_ = shape;
    }
    return input_->GetTensorMutableRawData();
  }

  Result run() override {
    const char* in = input_name_.c_str();
    translated(input_shape_, [&] {
      session_.Run(run_options_, &in, &*input_, 1, names_.data(), values_.data(), values_.size());
      return 0;
    });
    return output(0);
  }

  Result output(std::size_t index) override {
    if (results_.at(index).data == nullptr) results_[index] = described(index);
    return results_[index];
  }

 private:
  static Ort::Session open(const std::string& path, const Sidecar& sidecar, const BackendOptions& options) {
    const Ort::Env& env = environment();
    Ort::SessionOptions settings;
    if (options.threads > 0) settings.SetIntraOpNumThreads(options.threads);
    const std::string version = library().base->GetVersionString();
    check_onnxruntime(version, sidecar.precision);
    // Asks for kernels that do not cut sums. Where the processor cuts none, they can be several times slower.
    if (sums_8_bits_in_16()) settings.AddConfigEntry("session.x64quantprecision", "1");
    // 8 bits among FP16 have no integer kernels. Rewriting their pairs divides biases in FP16, where they overflow.
    if (sidecar.precision == "int8" || sidecar.precision == "fp8") {
      settings.AddConfigEntry("session.disable_quant_qdq", "1");
    }
    try {
      return {env, path.c_str(), settings};
    } catch (const Ort::Exception& error) {
      const std::string text = line_of(error);
      if (is_memory(text)) throw Failure(DPT_RESOURCE, "out of memory while loading " + path, "free some memory");
      if (error.GetOrtErrorCode() == ORT_NOT_IMPLEMENTED) {
        throw Failure(DPT_INCOMPATIBLE, "ONNX Runtime " + version + " has no kernel here for " + path + ": " + text,
                      "build an engine of it, or export another precision");
      }
      throw Failure(DPT_BAD_FILE, "ONNX Runtime " + version + " cannot load " + path + ": " + text, "export again");
    }
  }

  // Address and shape of an output of a first run; they stay valid while the shape of the input does.
  Result described(std::size_t index) const {
    const Ort::Value& value = values_[index];
    const DType type = dtype_from(outputs_[index].dtype);
    const auto information = value.GetTensorTypeAndShapeInfo();
    const std::vector<std::int64_t> dims = information.GetShape();
    Result result{value.GetTensorRawData(), type, {}};
    if (dims.size() > result.shape.dim.size() || information.GetElementType() != element_of(type)) {
      throw Failure(DPT_BAD_FILE, "the network returned a tensor of rank " + std::to_string(dims.size()) +
                                      " or of a type that its sidecar does not state", "export again");
    }
    result.shape.rank = static_cast<int>(dims.size());
    std::copy(dims.begin(), dims.end(), result.shape.dim.begin());
    return result;
  }

  void check(const std::string& path) const {
    if (session_.GetInputCount() == 1 && session_.GetOutputCount() == outputs_.size()) return;
    throw Failure(DPT_BAD_FILE, path + " has " + std::to_string(session_.GetInputCount()) + " inputs and " +
                                    std::to_string(session_.GetOutputCount()) + " outputs; expected 1 and " +
                                    std::to_string(outputs_.size()),
                  "export again");
  }

  template <typename Call>
  static auto translated(const Shape& shape, const Call& call) -> decltype(call()) {
    try {
      return call();
    } catch (const Ort::Exception& error) {
      const std::string text = line_of(error);
      if (is_memory(text)) {
        throw Failure(DPT_RESOURCE, "out of memory for an input " + text_of(shape) + ": " + text, "use a smaller size");
      }
      throw Failure(DPT_USAGE, "the network does not accept an input " + text_of(shape) + ": " + text,
                    "see its inputs with `dpt-deploy inspect`");
    }
  }

  Ort::Session session_;
  Ort::AllocatorWithDefaultOptions allocator_;
  Ort::RunOptions run_options_;
  std::string input_name_;
  DType input_type_;
  std::vector<Output> outputs_;
  std::vector<const char*> names_;  // of the outputs
  Shape input_shape_;
  std::optional<Ort::Value> input_;
  std::vector<Ort::Value> values_;  // of the last run; written into again while the shape stays
  std::vector<Result> results_;
};

}  // namespace

std::unique_ptr<Backend> open_onnxruntime(const std::string& path, const Sidecar& sidecar, const BackendOptions& options) {
  return std::make_unique<OnnxRuntime>(path, sidecar, options);
}

}  // namespace dpt::core
