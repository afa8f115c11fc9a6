// A fake of TensorRT, as far as the library calls it. Its engine averages the channels of its input.
#pragma once

#include <cstddef>
#include <cstdint>

#include "cuda_runtime_api.h"

#define NV_TENSORRT_MAJOR 11
#define NV_TENSORRT_VERSION 110100

namespace nvinfer1 {

class ILogger {
 public:
  enum class Severity : std::int32_t { kINTERNAL_ERROR = 0, kERROR = 1, kWARNING = 2 };
  virtual void log(Severity severity, const char* message) noexcept = 0;

 protected:
  virtual ~ILogger() = default;
};

enum class DataType : std::int32_t { kFLOAT = 0, kINT32 = 3, kUINT8 = 5, kINT64 = 8 };
enum class TensorIOMode : std::int32_t { kNONE = 0, kINPUT = 1, kOUTPUT = 2 };
enum class ExecutionContextAllocationStrategy : std::int32_t { kSTATIC = 0, kUSER_MANAGED = 2 };

struct Dims {
  std::int32_t nbDims;
  std::int64_t d[8];
};

class IExecutionContext {
 public:
  virtual ~IExecutionContext() = default;
  virtual void setDeviceMemoryV2(void* memory, std::int64_t bytes) = 0;
  virtual bool setOptimizationProfileAsync(std::int32_t profile, cudaStream_t stream) = 0;
  virtual bool setInputShape(const char* name, const Dims& dims) = 0;
  virtual Dims getTensorShape(const char* name) = 0;
  virtual bool setTensorAddress(const char* name, void* memory) = 0;
  virtual bool enqueueV3(cudaStream_t stream) = 0;
};

class ICudaEngine {
 public:
  virtual ~ICudaEngine() = default;
  virtual std::int32_t getNbIOTensors() = 0;
  virtual TensorIOMode getTensorIOMode(const char* name) = 0;
  virtual DataType getTensorDataType(const char* name) = 0;
  virtual std::int32_t getNbOptimizationProfiles() = 0;
  virtual std::int64_t getDeviceMemorySizeV2() = 0;
  virtual IExecutionContext* createExecutionContext(ExecutionContextAllocationStrategy strategy) = 0;
};

class IRuntime {
 public:
  virtual ~IRuntime() = default;
  virtual ICudaEngine* deserializeCudaEngine(const void* plan, std::size_t bytes) = 0;
  virtual void setEngineHostCodeAllowed(bool allowed) = 0;
};

}  // namespace nvinfer1
