// The kernel around any job of pixel.hpp: a thread a pixel. nvcc compiles it into the C++ library, NVRTC for Python.
#pragma once

#include "pixel.hpp"

namespace dpt::core {

template <typename Job>
__global__ void each_pixel(Job job) {
  const std::int64_t x = static_cast<std::int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (x >= job.width) return;
  std::int64_t y = static_cast<std::int64_t>(blockIdx.y) * blockDim.y + threadIdx.y;
  for (; y < job.height; y += static_cast<std::int64_t>(gridDim.y) * blockDim.y) pixel(job, y, x);
}

}  // namespace dpt::core
