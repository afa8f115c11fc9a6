// The jobs of pixel.hpp on a GPU, a thread a pixel.
#pragma once

#include <cuda_runtime_api.h>

#include "pixel.hpp"

namespace dpt::core {

// Queues a job whose memory is the device's. Defined for every job of pixel.hpp.
template <typename Job>
cudaError_t launch(const Job& job, cudaStream_t stream);

}  // namespace dpt::core
