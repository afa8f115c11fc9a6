// Launches only: the computation is in pixel.hpp, where tests on a CPU reach it.
#include "kernels.hpp"

#include "each_pixel.hpp"

namespace dpt::core {
namespace {

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
