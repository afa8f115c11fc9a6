// Resizing around a network on a GPU, with the jobs of pixel.hpp.
#pragma once

#include <cuda_runtime_api.h>

#include <memory>

#include "backend.hpp"

namespace dpt::core {

// The part of a network that resizing needs.
class DeviceNetwork {
 public:
  virtual int device() const = 0;
  virtual cudaStream_t stream() const = 0;
  virtual void* device_input(const Shape& shape) = 0;  // memory for the next input
  virtual Result compute() = 0;                        // queues the network on it; the output lies on the device

 protected:
  ~DeviceNetwork() = default;
};

// Experimental: run on one GPU so far. With a fake CUDA its results equal the CPU's bit for bit (tests/test_tensorrt.cpp).
std::unique_ptr<DeviceImaging> make_cuda_imaging(DeviceNetwork& network, const Sidecar& sidecar);

}  // namespace dpt::core
