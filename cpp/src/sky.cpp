#include "sky.hpp"

#include <algorithm>
#include <cmath>

namespace dpt::core {
namespace {

// Linear between neighbours, in double precision. Reorders the values, of which there is one at least.
float quantile(std::vector<float>& values, double share) {
  const double position = share * static_cast<double>(values.size() - 1);
  const auto low = values.begin() + static_cast<std::ptrdiff_t>(std::floor(position));
  std::nth_element(values.begin(), low, values.end());
  const double below = *low;
  const double above = low + 1 == values.end() ? below : *std::min_element(low + 1, values.end());
  return static_cast<float>(below + (above - below) * (position - std::floor(position)));
}

}  // namespace

void fill_sky(const float* depth, const float* sky, std::size_t count, const SkyRule& rule, std::vector<float>& ground,
              std::vector<float>& filled) {
  const auto threshold = static_cast<float>(rule.threshold);
  filled.assign(depth, depth + count);
  ground.clear();
  for (std::size_t i = 0; i < count; ++i) {
    if (sky[i] < threshold) ground.push_back(depth[i]);
  }
  const auto pixels = static_cast<std::size_t>(rule.pixels);
  if (std::min(ground.size(), count - ground.size()) <= pixels) return;
  const float far = quantile(ground, rule.quantile);
  for (std::size_t i = 0; i < count; ++i) {
    if (sky[i] >= threshold) filled[i] = far;
  }
}

}  // namespace dpt::core
