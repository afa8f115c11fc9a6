// A thin shell: what is computed stands in pixel.hpp, where a CPU's tests reach it.
#include "kernels.hpp"

namespace dpt::core {
namespace {

template <typename Job>
__global__ void each_pixel(Job job) {
  const std::int64_t x = static_cast<std::int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (x >= job.width) return;
  std::int64_t y = static_cast<std::int64_t>(blockIdx.y) * blockDim.y + threadIdx.y;
  for (; y < job.height; y += static_cast<std::int64_t>(gridDim.y) * blockDim.y) pixel(job, y, x);
}

constexpr unsigned kBlockX = 32, kBlockY = 8;
constexpr std::int64_t kMaxGridY = 65535;

}  // namespace

template <typename Job>
cudaError_t launch(const Job& job, cudaStream_t stream) {
  const std::int64_t across = (job.width + kBlockX - 1) / kBlockX, down = (job.height + kBlockY - 1) / kBlockY;
  const dim3 grid(static_cast<unsigned>(across), static_cast<unsigned>(down < kMaxGridY ? down : kMaxGridY));
  each_pixel<<<grid, dim3(kBlockX, kBlockY), 0, stream>>>(job);
  return cudaGetLastError();
}

DPT_LAUNCH_EVERY_JOB;

}  // namespace dpt::core
