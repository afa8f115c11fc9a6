// The fakes. Work is done when it is queued, except in a capture, where it is kept for the launch.
#include "fake.hpp"

#include <cmath>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <memory>
#include <vector>

#include "NvInfer.h"
#include "kernels.hpp"

using Work = std::vector<std::function<void()>>;
struct CUgraph_st {
  Work work;
};
struct CUgraphExec_st {
  Work work;
};
struct CUstream_st {
  std::unique_ptr<Work> recorded;
};

namespace fake {

Nvidia& nvidia() {
  static Nvidia one;
  return one;
}

namespace {

// True if this call of CUDA succeeds.
bool fine() {
  Nvidia& all = nvidia();
  if (all.device != 0) ++all.used_on_other_device;
  return ++all.calls != all.fails_at;
}

cudaError_t queued(cudaStream_t stream, std::function<void()> work) {
  if (!fine()) return cudaErrorLaunchFailure;
  if (stream->recorded) {
    stream->recorded->push_back(std::move(work));
  } else {
    work();
  }
  return cudaSuccess;
}

cudaError_t allocate(void** memory, std::size_t bytes) {
  if (!fine() || bytes > nvidia().free_bytes) return cudaErrorMemoryAllocation;
  *memory = std::malloc(bytes);
  ++nvidia().held;
  return cudaSuccess;
}

cudaError_t release(void* memory) {
  if (memory != nullptr) --nvidia().held;
  std::free(memory);
  return cudaSuccess;
}

// Counted as held while it lives.
struct Held {
  Held() { ++nvidia().held; }
  ~Held() { --nvidia().held; }
};

class Context final : public nvinfer1::IExecutionContext, Held {
 public:
  void setDeviceMemoryV2(void* memory, std::int64_t) override { scratch_ = memory; }
  bool setOptimizationProfileAsync(std::int32_t profile, cudaStream_t) override {
    nvidia().profile = profile;
    return profile < nvidia().profiles;
  }
  bool setInputShape(const char* name, const nvinfer1::Dims& dims) override {
    shape_ = dims;
    return std::string(name) == "pixel_values";
  }
  nvinfer1::Dims getTensorShape(const char* name) override {
    const bool depth = nvidia().joint && std::string(name) == "predicted_depth";
    const int classes = depth ? 0 : nvidia().classes;
    if (classes > 0 && !nvidia().labels) return {4, {shape_.d[0], classes, shape_.d[2], shape_.d[3]}};
    const bool bytes = shape_.d[3] == 3;
    return {3, {shape_.d[0], shape_.d[bytes ? 1 : 2], shape_.d[bytes ? 2 : 3]}};
  }
  bool setTensorAddress(const char* name, void* memory) override {
    const std::string tensor = name;
    (tensor == "pixel_values" ? input_ : tensor == "logits" ? scores_ : output_) = memory;
    return true;
  }
  bool enqueueV3(cudaStream_t stream) override {
    if (!nvidia().computes || scratch_ == nullptr) return false;
    if (!stream->recorded) ++nvidia().plain_runs;
    return queued(stream, [this] { run(); }) == cudaSuccess;
  }

 private:
  void run() const {
    const bool bytes = shape_.d[3] == 3;
    const std::int64_t plane = bytes ? shape_.d[1] * shape_.d[2] : shape_.d[2] * shape_.d[3];
    for (std::int64_t n = 0; n < shape_.d[0]; ++n) {
      for (std::int64_t i = 0; i < plane; ++i) {
        float sum = 0;
        for (int c = 0; c < 3; ++c) {
          sum += bytes ? static_cast<const unsigned char*>(input_)[3 * (n * plane + i) + c]
                       : static_cast<const float*>(input_)[(3 * n + c) * plane + i];
        }
        write(n, plane, i, sum / 3);
      }
    }
  }
  void write(std::int64_t n, std::int64_t plane, std::int64_t i, float mean) const {
    const int classes = nvidia().classes;
    if (nvidia().labels) {
      static_cast<std::int64_t*>(output_)[n * plane + i] = mean > 0 ? 2 : 1;
    } else if (classes > 0) {
      void* const scores = nvidia().joint ? scores_ : output_;
      for (int c = 0; c < classes; ++c) {
        static_cast<float*>(scores)[(n * classes + c) * plane + i] = -std::abs(mean - static_cast<float>(c) / 4);
      }
    }
    if (!nvidia().labels && (classes == 0 || nvidia().joint)) {
      static_cast<float*>(output_)[n * plane + i] = nvidia().spoils && i == plane - 1 ? NAN : mean;
    }
  }

  nvinfer1::Dims shape_{};
  void *input_ = nullptr, *output_ = nullptr, *scores_ = nullptr, *scratch_ = nullptr;
};

class Engine final : public nvinfer1::ICudaEngine, Held {
 public:
  std::int32_t getNbIOTensors() override { return nvidia().joint ? 3 : 2; }
  nvinfer1::TensorIOMode getTensorIOMode(const char* name) override {
    if (std::string(name) == "pixel_values") return nvinfer1::TensorIOMode::kINPUT;
    const bool output = std::string(name) == "predicted_depth" || (nvidia().joint && std::string(name) == "logits");
    return output ? nvinfer1::TensorIOMode::kOUTPUT : nvinfer1::TensorIOMode::kNONE;
  }
  nvinfer1::DataType getTensorDataType(const char* name) override {
    const bool input = std::string(name) == "pixel_values";
    if (input) return nvidia().type == "uint8" ? nvinfer1::DataType::kUINT8 : nvinfer1::DataType::kFLOAT;
    if (nvidia().labels) return nvinfer1::DataType::kINT64;
    return nvidia().type == "int32" ? nvinfer1::DataType::kINT32 : nvinfer1::DataType::kFLOAT;
  }
  std::int32_t getNbOptimizationProfiles() override { return nvidia().profiles; }
  std::int64_t getDeviceMemorySizeV2() override { return 1024; }
  nvinfer1::IExecutionContext* createExecutionContext(nvinfer1::ExecutionContextAllocationStrategy) override {
    return fine() ? new Context : nullptr;
  }
};

class Runtime final : public nvinfer1::IRuntime, Held {
 public:
  explicit Runtime(nvinfer1::ILogger* logger) : logger_(logger) {}
  nvinfer1::ICudaEngine* deserializeCudaEngine(const void*, std::size_t) override {
    if (nvidia().loads && (allowed_ || !nvidia().host_code)) return new Engine;
    logger_->log(nvinfer1::ILogger::Severity::kERROR, "the plan is from elsewhere");
    return nullptr;
  }
  void setEngineHostCodeAllowed(bool allowed) override { allowed_ = allowed; }

 private:
  nvinfer1::ILogger* logger_;
  bool allowed_ = false;
};

}  // namespace
}  // namespace fake

using fake::nvidia;

extern "C" {
void* createInferRuntime_INTERNAL(void* logger, std::int32_t) {
  nvinfer1::IRuntime* made = new fake::Runtime(static_cast<nvinfer1::ILogger*>(logger));
  return made;
}
std::int32_t getInferLibMajorVersion() { return 11; }
std::int32_t getInferLibMinorVersion() { return 1; }
std::int32_t getInferLibPatchVersion() { return 0; }
std::int32_t getInferLibBuildVersion() { return 106; }
}

cudaError_t cudaGetLastError() { return cudaSuccess; }
const char* cudaGetErrorString(cudaError_t error) {
  return error == cudaErrorMemoryAllocation ? "out of memory" : "an illegal memory access";
}
cudaError_t cudaGetDevice(int* device) {
  *device = nvidia().device;
  return nvidia().gpu ? cudaSuccess : cudaErrorNoDevice;
}
cudaError_t cudaSetDevice(int device) { return nvidia().device = device, cudaSuccess; }
cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int) {
  *properties = {"NVIDIA H200", 9, 0};
  return cudaSuccess;
}
cudaError_t cudaMemGetInfo(std::size_t* free_bytes, std::size_t* all_bytes) {
  *free_bytes = *all_bytes = nvidia().free_bytes;
  return cudaSuccess;
}
cudaError_t cudaMalloc(void** memory, std::size_t bytes) { return fake::allocate(memory, bytes); }
cudaError_t cudaFree(void* memory) { return fake::release(memory); }
cudaError_t cudaHostAlloc(void** memory, std::size_t bytes, unsigned) { return fake::allocate(memory, bytes); }
cudaError_t cudaFreeHost(void* memory) { return fake::release(memory); }
cudaError_t cudaMemcpyAsync(void* to, const void* from, std::size_t bytes, cudaMemcpyKind, cudaStream_t stream) {
  return fake::queued(stream, [=] { std::memcpy(to, from, bytes); });
}
cudaError_t cudaMemsetAsync(void* memory, int value, std::size_t bytes, cudaStream_t stream) {
  return fake::queued(stream, [=] { std::memset(memory, value, bytes); });
}
cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned) {
  if (!fake::fine()) return cudaErrorLaunchFailure;
  ++nvidia().held;
  return *stream = new CUstream_st, cudaSuccess;
}
cudaError_t cudaStreamDestroy(cudaStream_t stream) {
  --nvidia().held;
  return delete stream, cudaSuccess;
}
cudaError_t cudaStreamSynchronize(cudaStream_t) { return fake::fine() ? cudaSuccess : cudaErrorLaunchFailure; }
cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode) {
  if (!nvidia().captures || !fake::fine()) return cudaErrorLaunchFailure;
  return stream->recorded = std::make_unique<Work>(), cudaSuccess;
}
cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t* graph) {
  ++nvidia().held;
  *graph = new CUgraph_st{std::move(*stream->recorded)};
  return stream->recorded.reset(), fake::fine() ? cudaSuccess : cudaErrorLaunchFailure;
}
cudaError_t cudaGraphInstantiate(cudaGraphExec_t* ready, cudaGraph_t graph, unsigned long long) {
  if (!fake::fine()) return cudaErrorLaunchFailure;
  ++nvidia().held;
  return *ready = new CUgraphExec_st{graph->work}, cudaSuccess;
}
cudaError_t cudaGraphLaunch(cudaGraphExec_t graph, cudaStream_t stream) {
  ++nvidia().graph_launches;
  return fake::queued(stream, [graph] {
    for (const auto& each : graph->work) each();
  });
}
cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
  --nvidia().held;
  return delete graph, cudaSuccess;
}
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t graph) {
  --nvidia().held;
  return delete graph, cudaSuccess;
}

// The kernels: the functions that a GPU's threads run, one after another.
namespace dpt::core {

template <typename Job>
cudaError_t launch(const Job& job, cudaStream_t stream) {
  return fake::queued(stream, [job] {
    for (std::int64_t y = 0; y < job.height; ++y) {
      for (std::int64_t x = 0; x < job.width; ++x) pixel(job, y, x);
    }
  });
}

DPT_LAUNCH_EVERY_JOB;

}  // namespace dpt::core
