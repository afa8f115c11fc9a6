// Depth of the sky, filled from that of the ground: bit for bit as dpt_deploy/imaging/sky.py computes it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace dpt::core {

// Sky is where the map of it reaches `threshold`. Where there are more than `pixels` of sky and of ground, the sky's
// depth becomes the `quantile` of the ground's.
struct SkyRule {
  double threshold = 0, quantile = 0;
  std::int64_t pixels = 0;
};

// `filled` becomes `depth` with the sky's depth replaced; `ground` is scratch memory.
void fill_sky(const float* depth, const float* sky, std::size_t count, const SkyRule& rule, std::vector<float>& ground,
              std::vector<float>& filled);

}  // namespace dpt::core
