// The jobs of pixel.hpp on a CPU, as a fake of the GPU that Python would queue them on.
#include <cstdint>

#include "pixel.hpp"

namespace {

template <typename Job>
void all_pixels(const void* address) {
  const Job job = *static_cast<const Job*>(address);
  for (std::int64_t y = 0; y < job.height; ++y) {
    for (std::int64_t x = 0; x < job.width; ++x) pixel(job, y, x);
  }
}

}  // namespace

#define EACH(name, type) \
  extern "C" void run_##name(const void* job) { all_pixels<dpt::core::type>(job); } \
  extern "C" long bytes_of_##name() { return sizeof(dpt::core::type); }

EACH(InputJob, InputJob)
EACH(MapJob, MapJob)
EACH(ScoreJob, ScoreJob)
EACH(LabelJob32, LabelJob<std::int32_t>)
EACH(LabelJob64, LabelJob<std::int64_t>)
EACH(FiniteJob, FiniteJob)
