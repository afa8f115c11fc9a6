// The jobs of pixel.hpp on a GPU, a thread a pixel.
#pragma once

#include <cuda_runtime_api.h>

#include "pixel.hpp"

namespace dpt::core {

// Queues a job whose memory is the device's. Defined for every job of pixel.hpp.
template <typename Job>
cudaError_t launch(const Job& job, cudaStream_t stream);

// Instantiates launch() for every job; used at the end of the file that defines the template.
#define DPT_LAUNCH_EVERY_JOB                                              \
  template cudaError_t launch(const InputJob&, cudaStream_t);              \
  template cudaError_t launch(const MapJob&, cudaStream_t);                \
  template cudaError_t launch(const ScoreJob&, cudaStream_t);              \
  template cudaError_t launch(const LabelJob<std::int32_t>&, cudaStream_t); \
  template cudaError_t launch(const LabelJob<std::int64_t>&, cudaStream_t); \
  template cudaError_t launch(const FiniteJob&, cudaStream_t)

}  // namespace dpt::core
