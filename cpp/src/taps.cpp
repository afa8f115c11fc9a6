#include "taps.hpp"

#include <algorithm>
#include <cmath>

namespace dpt::core {
namespace {

constexpr float kA = -0.75f;

template <typename Real>
bool prepare(int length, int target, Taps<Real>& taps, void (*maker)(int, int, Taps<Real>&)) {
  if (taps.length == length && taps.target == target && taps.maker == maker) return false;
  for (auto& index : taps.index) index.resize(static_cast<std::size_t>(target));
  for (auto& weight : taps.weight) weight.resize(static_cast<std::size_t>(target));
  taps.length = length, taps.target = target, taps.maker = maker;
  return true;
}

template <typename Real>
void set(Taps<Real>& taps, int i, float first, const std::array<float, 4>& weights) {
  for (std::size_t k = 0; k < 4; ++k) {
    taps.index[k][static_cast<std::size_t>(i)] =
        std::clamp(static_cast<int>(first) + static_cast<int>(k) - 1, 0, taps.length - 1);
    taps.weight[k][static_cast<std::size_t>(i)] = weights[k];
  }
}

// a * b + c rounded once, to float32: the product of two floats is exact in a double.
float fma32(float a, float b, float c) { return static_cast<float>(static_cast<double>(a) * b + c); }

void set_linear(Taps<float>& taps, int i, float position) {
  const float first = std::floor(position), x = position - first;
  set(taps, i, first, {0, 1 - x, x, 0});
}

float near_weight(float d) { return fma32(fma32(kA + 2, d, -(kA + 3)) * d, d, 1); }
float far_weight(float d) { return fma32(fma32(fma32(kA, d, -5 * kA), d, 8 * kA), d, -4 * kA); }

}  // namespace

void opencv_taps(int length, int target, Taps<double>& taps) {
  if (!prepare(length, target, taps, opencv_taps)) return;
  const double step = 1.0 / (static_cast<double>(target) / length);
  for (int i = 0; i < target; ++i) {
    const float position = static_cast<float>((i + 0.5) * step - 0.5);
    const float first = std::floor(position), x = position - first;
    const float w0 = ((kA * (x + 1) - 5 * kA) * (x + 1) + 8 * kA) * (x + 1) - 4 * kA;
    const float w1 = ((kA + 2) * x - (kA + 3)) * x * x + 1;
    const float w2 = ((kA + 2) * (1 - x) - (kA + 3)) * (1 - x) * (1 - x) + 1;
    set(taps, i, first, {w0, w1, w2, 1 - w0 - w1 - w2});
  }
}

void torch_taps(int length, int target, Taps<float>& taps) {
  if (!prepare(length, target, taps, torch_taps)) return;
  const float scale = static_cast<float>(length) / static_cast<float>(target);
  for (int i = 0; i < target; ++i) {
    const float position = fma32(scale, static_cast<float>(i) + 0.5f, -0.5f);
    const float first = std::floor(position), x = position - first;
    set(taps, i, first, {far_weight(x + 1), near_weight(x), near_weight(1 - x), far_weight(2 - x)});
  }
}

void bilinear_taps(int length, int target, Taps<float>& taps) {
  if (!prepare(length, target, taps, bilinear_taps)) return;
  const float scale = static_cast<float>(length) / static_cast<float>(target);
  for (int i = 0; i < target; ++i) set_linear(taps, i, std::max(fma32(scale, static_cast<float>(i) + 0.5f, -0.5f), 0.0f));
}

void corner_taps(int length, int target, Taps<float>& taps) {
  if (!prepare(length, target, taps, corner_taps)) return;
  const float ratio = target > 1 ? static_cast<float>(length - 1) / static_cast<float>(target - 1) : 0.0f;
  for (int i = 0; i < target; ++i) set_linear(taps, i, ratio * static_cast<float>(i));
}

MakeTaps taps_of(Restore rule) {
  switch (rule) {
    case Restore::bilinear: return bilinear_taps;
    case Restore::bilinear_corners: return corner_taps;
    case Restore::bicubic: break;
  }
  return torch_taps;
}

}  // namespace dpt::core
