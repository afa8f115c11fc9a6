// Resizing around a network that lies on a GPU, by the jobs of pixel.hpp.
#pragma once

#include <cuda_runtime_api.h>

#include <memory>

#include "backend.hpp"

namespace dpt::core {

// The network, as what resizes around it sees it.
class DeviceNetwork {
 public:
  virtual int device() const = 0;
  virtual cudaStream_t stream() const = 0;
  virtual void* device_input(const Shape& shape) = 0;  // where the next input is to be written
  virtual Result compute() = 0;                        // queues the network on it; the output lies on the device

 protected:
  ~DeviceNetwork() = default;
};

// Not run on a GPU yet: it is held to the CPU's in every bit over a stand-in for CUDA (tests/test_tensorrt.cpp).
std::unique_ptr<DeviceImaging> make_cuda_imaging(DeviceNetwork& network, const Sidecar& sidecar);

}  // namespace dpt::core
