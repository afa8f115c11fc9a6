// Library of TensorRT or TensorRT-RTX, opened with the first model, as ONNX Runtime's is; and the GPU of this machine.
#pragma once

#include <NvInfer.h>

#include <mutex>
#include <optional>
#include <string>

#include "preflight.hpp"

namespace dpt::core {

struct TensorRtLibrary {
  std::string edition;  // "tensorrt" or "tensorrt_rtx": that of the headers
  std::string version;  // of the library: "11.1.0.106"
  void* (*create)(void* logger, std::int32_t version) = nullptr;
};

// Throws Failure: missing, or of another major version than the headers, whose tables of functions differ.
const TensorRtLibrary& tensorrt_library();

// The GPU that this thread uses and its number; none if CUDA finds none.
std::optional<Gpu> current_gpu(int& device);

// Keeps TensorRT's last error, which may come from threads of its own.
class TensorRtLogger final : public nvinfer1::ILogger {
 public:
  void log(Severity severity, const char* message) noexcept override;
  std::string last() const;  // ": …", or nothing

 private:
  mutable std::mutex mutex_;
  std::string last_;
};

}  // namespace dpt::core
