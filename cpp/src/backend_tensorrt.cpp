// TensorRT or TensorRT-RTX on an NVIDIA GPU. Each input shape has its own execution context, its own buffers (pinned on
// the host) and, where capture succeeds, its own CUDA graph of copy, network and copy; a few of them are kept.
//
// The library is opened when the first model is, as ONNX Runtime's is: one build serves whichever of the two is there.
#include <NvInfer.h>
#include <cuda_runtime_api.h>
#include <dlfcn.h>

#include <algorithm>
#include <cstdlib>
#include <list>
#include <utility>

#include "backend.hpp"
#include "error.hpp"
#include "files.hpp"

namespace dpt::core {
namespace {

constexpr std::size_t kShapes = 4;
constexpr std::uint64_t kMaxPlanBytes = std::uint64_t{1} << 36;

class Logger final : public nvinfer1::ILogger {
 public:
  void log(Severity severity, const char* message) noexcept override {
    if (severity > Severity::kERROR) return;
    try {
      last_ = message;
    } catch (...) {  // out of memory: the status tells enough
      last_.clear();
    }
  }
  std::string last() const { return last_.substr(0, 300); }

 private:
  std::string last_;
};

void check_cuda(cudaError_t status, const char* what) {
  if (status == cudaSuccess) return;
  const bool memory = status == cudaErrorMemoryAllocation;
  throw Failure(memory ? DPT_RESOURCE : DPT_INCOMPATIBLE, std::string(what) + ": " + cudaGetErrorString(status),
                memory ? "use a smaller size" : "check the driver with nvidia-smi");
}

using CreateRuntime = void* (*)(void*, std::int32_t);

// Opened once, never closed.
CreateRuntime open_library() {
  const std::string major = std::to_string(NV_TENSORRT_MAJOR);
  const char* named = std::getenv("DPT_TENSORRT");
  const std::string names[] = {named != nullptr ? named : "", "libnvinfer.so." + major, "libnvinfer.so",
                               "libtensorrt_rtx.so." + major, "libtensorrt_rtx.so"};
  for (const std::string& name : names) {
    void* handle = name.empty() ? nullptr : dlopen(name.c_str(), RTLD_NOW | RTLD_LOCAL);
    if (handle == nullptr) continue;
    if (void* create = dlsym(handle, "createInferRuntime_INTERNAL")) return reinterpret_cast<CreateRuntime>(create);
  }
  return nullptr;
}

struct DeviceFree {
  void operator()(void* memory) const { cudaFree(memory); }
};
struct HostFree {
  void operator()(void* memory) const { cudaFreeHost(memory); }
};
struct GraphDestroy {
  void operator()(cudaGraphExec_t graph) const { cudaGraphExecDestroy(graph); }
};
struct StreamDestroy {
  void operator()(cudaStream_t stream) const { cudaStreamDestroy(stream); }
};
using DeviceMemory = std::unique_ptr<void, DeviceFree>;
using HostMemory = std::unique_ptr<void, HostFree>;
using Graph = std::unique_ptr<std::remove_pointer_t<cudaGraphExec_t>, GraphDestroy>;
using Stream = std::unique_ptr<std::remove_pointer_t<cudaStream_t>, StreamDestroy>;

struct Buffer {
  std::size_t bytes = 0;
  HostMemory host;
  DeviceMemory device;

  explicit Buffer(std::size_t size) : bytes(size) {
    void* memory = nullptr;
    check_cuda(cudaHostAlloc(&memory, bytes, cudaHostAllocDefault), "pinned memory");
    host.reset(memory);
    check_cuda(cudaMalloc(&memory, bytes), "device memory");
    device.reset(memory);
  }
};

Stream make_stream() {
  int devices = 0;
  check_cuda(cudaGetDeviceCount(&devices), "no NVIDIA GPU can be used");
  cudaStream_t stream = nullptr;
  check_cuda(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), "a CUDA stream");
  return Stream(stream);
}

nvinfer1::Dims dims_of(const Shape& shape) {
  nvinfer1::Dims dims{};
  dims.nbDims = shape.rank;
  std::copy_n(shape.dim.begin(), shape.rank, dims.d);
  return dims;
}

Shape shape_of(const nvinfer1::Dims& dims) {
  Shape shape;
  if (dims.nbDims < 1 || dims.nbDims > 4) throw Failure(DPT_BAD_FILE, "the engine's output has no usable rank", "build it again");
  shape.rank = dims.nbDims;
  std::copy_n(dims.d, dims.nbDims, shape.dim.begin());
  return shape;
}

// What one input shape needs, and the graph of it.
struct Prepared {
  Shape shape;
  std::unique_ptr<nvinfer1::IExecutionContext> context;
  std::unique_ptr<Buffer> input, output;
  Result result;
  Graph graph;
  bool warm = false;   // a first run, before capture, lets the engine set itself up
  bool tried = false;  // to capture
};

class TensorRt final : public Backend {
 public:
  TensorRt(const std::string& path, const Sidecar& sidecar)
      : stream_(make_stream()),
        input_name_(sidecar.input_name),
        output_name_(sidecar.output_name),
        input_type_(sidecar.uint8_input ? DType::uint8 : DType::float32),
        output_type_(dtype_from(sidecar.output_dtype)) {
    static const CreateRuntime create = open_library();
    if (create == nullptr) {
      throw Failure(DPT_MISSING_BACKEND, "neither TensorRT's nor TensorRT-RTX's library can be opened",
                    "add its folder to LD_LIBRARY_PATH, or let DPT_TENSORRT name libnvinfer.so");
    }
    runtime_.reset(static_cast<nvinfer1::IRuntime*>(create(&logger_, NV_TENSORRT_VERSION)));
    if (!runtime_) throw incompatible("TensorRT's library is older than its headers of " + std::to_string(NV_TENSORRT_VERSION));
    const std::string plan = read_file(path, kMaxPlanBytes);
    engine_.reset(runtime_->deserializeCudaEngine(plan.data(), plan.size()));
    if (!engine_) throw incompatible(path + " is not for this GPU or this TensorRT");
    if (engine_->getNbIOTensors() != 2) throw Failure(DPT_BAD_FILE, path + " has not one input and one output", "build it again");
  }

  void* input(const Shape& shape) override {
    auto found = std::find_if(prepared_.begin(), prepared_.end(), [&](const Prepared& each) { return each.shape == shape; });
    if (found == prepared_.end()) {
      if (prepared_.size() == kShapes) prepared_.pop_back();
      prepared_.push_front(prepare(shape));
    } else {
      prepared_.splice(prepared_.begin(), prepared_, found);
    }
    return prepared_.front().input->host.get();
  }

  Result run() override {
    Prepared& each = prepared_.front();
    if (each.warm && !each.tried) capture(each);
    if (each.graph) {
      check_cuda(cudaGraphLaunch(each.graph.get(), stream_.get()), "the network as a CUDA graph");
    } else {
      enqueue(each);
    }
    check_cuda(cudaStreamSynchronize(stream_.get()), "the network");
    each.warm = true;
    return each.result;
  }

 private:
  Failure incompatible(const std::string& what) const {
    return {DPT_INCOMPATIBLE, what + (logger_.last().empty() ? "" : ": " + logger_.last()), "build the engine here"};
  }

  // The first profile whose range holds the shape.
  int profile_for(const Shape& shape) const {
    using nvinfer1::OptProfileSelector;
    for (int profile = 0; profile < engine_->getNbOptimizationProfiles(); ++profile) {
      const auto low = engine_->getProfileShape(input_name_.c_str(), profile, OptProfileSelector::kMIN);
      const auto high = engine_->getProfileShape(input_name_.c_str(), profile, OptProfileSelector::kMAX);
      bool inside = low.nbDims == shape.rank && high.nbDims == shape.rank;
      for (int i = 0; inside && i < shape.rank; ++i) {
        const std::int64_t side = shape.dim[static_cast<std::size_t>(i)];
        inside = low.d[i] <= side && side <= high.d[i];
      }
      if (inside) return profile;
    }
    throw Failure(DPT_USAGE, "no profile of the engine takes an input " + text_of(shape), "build it for that size (--res)");
  }

  Prepared prepare(const Shape& shape) {
    Prepared made;
    made.shape = shape;
    const int profile = profile_for(shape);
    made.context.reset(engine_->createExecutionContext());
    if (!made.context) throw Failure(DPT_RESOURCE, "no execution context: " + logger_.last(), "free device memory");
    const bool set = made.context->setOptimizationProfileAsync(profile, stream_.get()) &&
                     made.context->setInputShape(input_name_.c_str(), dims_of(shape));
    if (!set) throw incompatible("the engine does not accept an input " + text_of(shape));
    made.result = {nullptr, output_type_, shape_of(made.context->getTensorShape(output_name_.c_str()))};
    made.input = std::make_unique<Buffer>(shape.count() * size_of(input_type_));
    made.output = std::make_unique<Buffer>(made.result.shape.count() * size_of(output_type_));
    made.result.data = made.output->host.get();
    if (!made.context->setTensorAddress(input_name_.c_str(), made.input->device.get()) ||
        !made.context->setTensorAddress(output_name_.c_str(), made.output->device.get())) {
      throw incompatible("the engine's tensors are not those of its sidecar");
    }
    return made;
  }

  void enqueue(Prepared& each) {
    const Buffer &in = *each.input, &out = *each.output;
    check_cuda(cudaMemcpyAsync(in.device.get(), in.host.get(), in.bytes, cudaMemcpyHostToDevice, stream_.get()), "the input");
    if (!each.context->enqueueV3(stream_.get())) throw incompatible("the network did not run");
    check_cuda(cudaMemcpyAsync(out.host.get(), out.device.get(), out.bytes, cudaMemcpyDeviceToHost, stream_.get()), "the output");
  }

  // Without a graph the network runs all the same: some layers cannot be captured.
  void capture(Prepared& each) {
    each.tried = true;
    if (cudaStreamBeginCapture(stream_.get(), cudaStreamCaptureModeThreadLocal) != cudaSuccess) return;
    bool fine = true;
    try {
      enqueue(each);
    } catch (const Failure&) {
      fine = false;
    }
    cudaGraph_t graph = nullptr;
    fine = cudaStreamEndCapture(stream_.get(), &graph) == cudaSuccess && fine;
    cudaGraphExec_t ready = nullptr;
    if (fine && cudaGraphInstantiate(&ready, graph, 0) == cudaSuccess) each.graph.reset(ready);
    if (graph != nullptr) cudaGraphDestroy(graph);
    cudaGetLastError();  // of a capture that was given up
  }

  Logger logger_;
  Stream stream_;
  std::unique_ptr<nvinfer1::IRuntime> runtime_;
  std::unique_ptr<nvinfer1::ICudaEngine> engine_;
  std::string input_name_, output_name_;
  DType input_type_, output_type_;
  std::list<Prepared> prepared_;  // the last one used is the first
};

}  // namespace

std::unique_ptr<Backend> open_tensorrt(const std::string& path, const Sidecar& sidecar, const BackendOptions&) {
  return std::make_unique<TensorRt>(path, sidecar);
}

}  // namespace dpt::core
