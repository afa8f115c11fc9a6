// TensorRT or TensorRT-RTX, depending on the headers, on an NVIDIA GPU. Each input shape has an execution context, its own
// buffers and, if capture succeeds, a CUDA graph of the network. Those of the most recently used shapes are kept. They share
// one scratch memory, because only one of them runs at a time.
//
// Experimental: run on one GPU so far. tests/test_tensorrt.cpp tests it with a fake CUDA and a fake TensorRT, and it compiles
// against the real headers.
#include <NvInfer.h>
#include <cuda_runtime_api.h>

#include <algorithm>
#include <list>
#include <utility>

#include "cuda_imaging.hpp"
#include "cuda_memory.hpp"
#include "error.hpp"
#include "files.hpp"
#include "tensorrt_library.hpp"

namespace dpt::core {
namespace {

constexpr std::size_t kShapes = 8;
constexpr std::uint64_t kMaxPlanBytes = std::uint64_t{1} << 36;

Stream make_stream() {
  cudaStream_t stream = nullptr;
  check_cuda(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), "a CUDA stream");
  return Stream(stream);
}

nvinfer1::DataType type_of(DType dtype) {
  switch (dtype) {
    case DType::float32: return nvinfer1::DataType::kFLOAT;
    case DType::uint8: return nvinfer1::DataType::kUINT8;
    case DType::int32: return nvinfer1::DataType::kINT32;
    case DType::int64: break;
  }
  return nvinfer1::DataType::kINT64;
}

nvinfer1::Dims dims_of(const Shape& shape) {
  nvinfer1::Dims dims{};
  dims.nbDims = shape.rank;
  std::copy_n(shape.dim.begin(), shape.rank, dims.d);
  return dims;
}

Shape shape_of(const nvinfer1::Dims& dims) {
  Shape shape;
  const bool rank_fits = dims.nbDims >= 1 && dims.nbDims <= 4;
  if (!rank_fits || std::any_of(dims.d, dims.d + dims.nbDims, [](auto side) { return side < 1; })) {
    throw Failure(DPT_BAD_FILE, "the engine's output has no usable shape", "build it again");
  }
  shape.rank = dims.nbDims;
  std::copy_n(dims.d, dims.nbDims, shape.dim.begin());
  return shape;
}

// Buffers and graph of one input shape.
struct Prepared {
  Shape shape;
  std::vector<Result> outputs;  // their data are on the device
  std::unique_ptr<nvinfer1::IExecutionContext> context;
  DeviceMemory device_input;
  HostMemory host_input;
  std::vector<DeviceMemory> device_outputs;
  std::vector<HostMemory> host_outputs;
  Graph graph;
  bool warm = false;   // a first run, before capture, lets the engine set itself up
  bool tried = false;  // to capture
};

class TensorRt final : public Backend, private DeviceNetwork {
 public:
  TensorRt(const std::string& path, const Sidecar& sidecar)
      : input_name_(sidecar.input_name),
        input_type_(sidecar.uint8_input ? DType::uint8 : DType::float32),
        outputs_(sidecar.outputs) {
    const TensorRtLibrary& found = tensorrt_library();
    if (!sidecar.engine) throw Failure(DPT_BAD_FILE, path + " has no record of its engine", "build it again");
    profiles_ = sidecar.engine->profiles;
    check_target(*sidecar.engine, {found.edition, found.version, current_gpu(device_)});
    stream_ = make_stream();
    runtime_.reset(static_cast<nvinfer1::IRuntime*>(found.create(&logger_, NV_TENSORRT_VERSION)));
    if (!runtime_) throw incompatible("TensorRT " + found.version + " does not serve this build's headers");
    if (sidecar.engine->version_compatible) runtime_->setEngineHostCodeAllowed(true);  // such a plan brings some
    const std::string plan = read_file(path, kMaxPlanBytes);
    engine_.reset(runtime_->deserializeCudaEngine(plan.data(), plan.size()));
    if (!engine_) throw incompatible("TensorRT " + found.version + " cannot load " + path + " on this GPU");
    check_engine(path);
    scratch_.reserve(static_cast<std::size_t>(std::max<std::int64_t>(1, engine_->getDeviceMemorySizeV2())));
#ifdef DPT_WITH_CUDA_KERNELS
    imaging_ = make_cuda_imaging(*this, sidecar);
#endif
  }

  // Destroyed on its own GPU, whichever the thread uses, and before its members.
  ~TensorRt() override {
    try {
      const OnDevice here(device_);
      cudaStreamSynchronize(stream_.get());
      imaging_.reset();
      prepared_.clear();
      engine_.reset();
      runtime_.reset();
    } catch (const Failure&) {  // the GPU is lost, and all that was on it
    }
  }

  void* input(const Shape& shape) override {
    const OnDevice here(device_);
    Prepared& each = prepared_for(shape);
    each.host_input.reserve(input_bytes(shape));
    return each.host_input.get();
  }

  Result run() override {
    const OnDevice here(device_);
    Prepared& each = prepared_.front();
    for (std::size_t i = 0; i < outputs_.size(); ++i) each.host_outputs[i].reserve(bytes_of(each.outputs[i]));
    return waited_for(stream(), [&] {
      const auto copy = [&](void* to, const void* from, std::size_t count, cudaMemcpyKind kind, const char* what) {
        check_cuda(cudaMemcpyAsync(to, from, count, kind, stream()), what);
      };
      copy(each.device_input.get(), each.host_input.get(), input_bytes(each.shape), cudaMemcpyHostToDevice, "the input");
      compute();
      for (std::size_t i = 0; i < outputs_.size(); ++i) {
        copy(each.host_outputs[i].get(), each.device_outputs[i].get(), bytes_of(each.outputs[i]), cudaMemcpyDeviceToHost,
             "an output");
      }
      return output(0);
    });
  }

  Result output(std::size_t index) override {
    const Prepared& each = prepared_.front();
    return {each.host_outputs.at(index).get(), each.outputs[index].dtype, each.outputs[index].shape};
  }

  DeviceImaging* imaging() override { return imaging_.get(); }

 private:
  int device() const override { return device_; }
  cudaStream_t stream() const override { return stream_.get(); }
  void* device_input(const Shape& shape) override { return prepared_for(shape).device_input.get(); }

  // The first run of a shape uses no graph, the second is captured, later ones are replayed.
  Result compute() override {
    Prepared& each = prepared_.front();
    if (each.warm && !each.tried) capture(each);
    if (each.graph) {
      check_cuda(cudaGraphLaunch(each.graph.get(), stream()), "the network as a CUDA graph");
    } else if (!each.context->enqueueV3(stream())) {
      throw Failure(DPT_RESOURCE, "TensorRT did not start the run" + logger_.last(), "use a smaller size");
    }
    each.warm = true;
    return each.outputs.front();
  }

  Failure incompatible(const std::string& what) const {
    return {DPT_INCOMPATIBLE, what + logger_.last(), "build the engine here"};
  }
  static std::size_t bytes_of(const Result& output) { return output.shape.count() * size_of(output.dtype); }
  std::size_t input_bytes(const Shape& shape) const { return shape.count() * size_of(input_type_); }

  // Buffers are as large as the sidecar says: an engine of other tensors would write past them.
  void check_engine(const std::string& path) const {
    using nvinfer1::TensorIOMode;
    const char* in = input_name_.c_str();
    const bool outputs_fit = std::all_of(outputs_.begin(), outputs_.end(), [&](const Output& output) {
      const char* out = output.name.c_str();
      return engine_->getTensorIOMode(out) == TensorIOMode::kOUTPUT &&
             engine_->getTensorDataType(out) == type_of(dtype_from(output.dtype));
    });
    const bool fits = engine_->getNbIOTensors() == static_cast<int>(1 + outputs_.size()) && outputs_fit &&
                      engine_->getTensorIOMode(in) == TensorIOMode::kINPUT &&
                      engine_->getTensorDataType(in) == type_of(input_type_) &&
                      engine_->getNbOptimizationProfiles() == static_cast<int>(profiles_.size());
    if (!fits) throw Failure(DPT_BAD_FILE, path + " has other tensors or profiles than its sidecar says", "build it again");
  }

  Prepared& prepared_for(const Shape& shape) {
    const auto same = [&](const Prepared& each) { return each.shape == shape; };
    const auto found = std::find_if(prepared_.begin(), prepared_.end(), same);
    if (found != prepared_.end()) {
      prepared_.splice(prepared_.begin(), prepared_, found);
    } else {
      check_cuda(cudaStreamSynchronize(stream()), "what came before");
      if (prepared_.size() == kShapes) prepared_.pop_back();
      prepared_.push_front(prepare(shape));
    }
    return prepared_.front();
  }

  Prepared prepare(const Shape& shape) {
    const bool bytes = input_type_ == DType::uint8;
    const std::size_t profile = choose_profile(profiles_, shape.dim[0], shape.dim[bytes ? 1 : 2], shape.dim[bytes ? 2 : 3]);
    Prepared made;
    made.shape = shape;
    made.context.reset(engine_->createExecutionContext(nvinfer1::ExecutionContextAllocationStrategy::kUSER_MANAGED));
    if (!made.context) {
      throw Failure(DPT_RESOURCE, "TensorRT has no memory for one more context" + logger_.last(), "use fewer sizes");
    }
    made.context->setDeviceMemoryV2(scratch_.get(), engine_->getDeviceMemorySizeV2());
    const bool chosen = made.context->setOptimizationProfileAsync(static_cast<int>(profile), stream());
    check_cuda(cudaStreamSynchronize(stream()), "the choice of a profile");
    if (!chosen || !made.context->setInputShape(input_name_.c_str(), dims_of(shape))) {
      throw incompatible("the engine refuses " + text_of(shape) + " in its profile " + text_of(profiles_[profile]));
    }
    made.device_input.reserve(input_bytes(shape));
    made.host_outputs.resize(outputs_.size());
    bool taken = made.context->setTensorAddress(input_name_.c_str(), made.device_input.get());
    for (const Output& output : outputs_) {
      Result result{nullptr, dtype_from(output.dtype), shape_of(made.context->getTensorShape(output.name.c_str()))};
      DeviceMemory& memory = made.device_outputs.emplace_back();
      memory.reserve(bytes_of(result));
      result.data = memory.get();
      made.outputs.push_back(result);
      taken = taken && made.context->setTensorAddress(output.name.c_str(), memory.get());
    }
    if (!taken) throw incompatible("the engine does not take its tensors");
    return made;
  }

  // Some layers cannot be captured. The network then runs without a graph.
  void capture(Prepared& each) {
    each.tried = true;
    if (cudaStreamBeginCapture(stream(), cudaStreamCaptureModeThreadLocal) == cudaSuccess) {
      const bool queued = each.context->enqueueV3(stream());
      cudaGraph_t graph = nullptr;
      const bool ended = cudaStreamEndCapture(stream(), &graph) == cudaSuccess && graph != nullptr;
      cudaGraphExec_t ready = nullptr;
      if (queued && ended && cudaGraphInstantiate(&ready, graph, 0) == cudaSuccess) each.graph.reset(ready);
      if (graph != nullptr) cudaGraphDestroy(graph);
    }
    if (!each.graph) cudaGetLastError();  // clears the error of the failed capture
  }

  TensorRtLogger logger_;
  std::string input_name_;
  DType input_type_;
  std::vector<Output> outputs_;
  std::vector<Profile> profiles_;
  int device_ = 0;
  Stream stream_;
  DeviceMemory scratch_;
  std::unique_ptr<nvinfer1::IRuntime> runtime_;
  std::unique_ptr<nvinfer1::ICudaEngine> engine_;
  std::list<Prepared> prepared_;  // the last one used is the first
  std::unique_ptr<DeviceImaging> imaging_;
};

}  // namespace

std::unique_ptr<Backend> open_tensorrt(const std::string& path, const Sidecar& sidecar, const BackendOptions&) {
  return std::make_unique<TensorRt>(path, sidecar);
}

}  // namespace dpt::core
