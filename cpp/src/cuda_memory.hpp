// Owners of CUDA's memory, streams and graphs; its errors become Failure.
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <memory>
#include <string>
#include <type_traits>

#include "error.hpp"

namespace dpt::core {

inline void check_cuda(cudaError_t status, const char* what) {
  if (status == cudaSuccess) return;
  cudaGetLastError();  // reported here, so nobody else should find it
  const bool memory = status == cudaErrorMemoryAllocation;
  throw Failure(DPT_RESOURCE, std::string(what) + ": " + cudaGetErrorString(status),
                memory ? "use a smaller size, or stop other programs there" : "look at the GPU with nvidia-smi");
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
using Graph = std::unique_ptr<std::remove_pointer_t<cudaGraphExec_t>, GraphDestroy>;
using Stream = std::unique_ptr<std::remove_pointer_t<cudaStream_t>, StreamDestroy>;

// Memory that grows and is never freed early, so a frame of a known size allocates nothing.
template <typename Free>
class Grown {
 public:
  void* get() const { return memory_.get(); }
  template <typename T>
  T* as() const {
    return static_cast<T*>(memory_.get());
  }
  // At least this many bytes; its content is lost when it grows. No queued work may use it.
  void reserve(std::size_t bytes) {
    if (bytes <= bytes_) return;
    memory_.reset();
    bytes_ = 0;
    memory_.reset(allocated(bytes, Free{}));
    bytes_ = bytes;
  }

 private:
  static void* allocated(std::size_t bytes, DeviceFree) {
    void* memory = nullptr;
    check_cuda(cudaMalloc(&memory, bytes), "device memory");
    return memory;
  }
  static void* allocated(std::size_t bytes, HostFree) {
    void* memory = nullptr;
    check_cuda(cudaHostAlloc(&memory, bytes, cudaHostAllocDefault), "pinned memory");
    return memory;
  }

  std::size_t bytes_ = 0;
  std::unique_ptr<void, Free> memory_;
};
using DeviceMemory = Grown<DeviceFree>;
using HostMemory = Grown<HostFree>;

// Makes `device` the thread's current one and restores the caller's on exit.
class OnDevice {
 public:
  explicit OnDevice(int device) {
    check_cuda(cudaGetDevice(&before_), "the current GPU");
    if (before_ == device) return;
    check_cuda(cudaSetDevice(device), "the GPU of the model");
    changed_ = true;
  }
  ~OnDevice() {
    if (changed_) cudaSetDevice(before_);
  }
  OnDevice(const OnDevice&) = delete;
  OnDevice& operator=(const OnDevice&) = delete;

 private:
  int before_ = 0;
  bool changed_ = false;
};

// Returns the result of `queue` after the stream has finished. It waits after a failure too, because queued work may still
// read memory that will be used again.
template <typename Queue>
auto waited_for(cudaStream_t stream, const Queue& queue) -> decltype(queue()) {
  try {
    auto result = queue();
    check_cuda(cudaStreamSynchronize(stream), "the GPU");
    return result;
  } catch (...) {
    cudaStreamSynchronize(stream);
    throw;
  }
}

}  // namespace dpt::core
