// One pixel of each resize as a function of where it is: what the kernels of a GPU compute, and what the tests hold to the
// golden vectors on a CPU. The taps are those of taps.hpp, each product and each sum is rounded once and in the order of
// resample.cpp, and nothing is fused: equal bits follow from IEEE 754, which both kinds of processor keep.
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>

#ifdef __CUDACC__
#define DPT_BOTH __host__ __device__ inline
#else
#define DPT_BOTH inline
#endif

namespace dpt::core {

// Operations that no compiler may contract.
#ifdef __CUDA_ARCH__
__device__ inline double times(double a, double b) { return __dmul_rn(a, b); }
__device__ inline float times(float a, float b) { return __fmul_rn(a, b); }
__device__ inline double plus(double a, double b) { return __dadd_rn(a, b); }
__device__ inline float plus(float a, float b) { return __fadd_rn(a, b); }
__device__ inline double over(double a, double b) { return __ddiv_rn(a, b); }
#else  // -ffp-contract=off
DPT_BOTH double times(double a, double b) { return a * b; }
DPT_BOTH float times(float a, float b) { return a * b; }
DPT_BOTH double plus(double a, double b) { return a + b; }
DPT_BOTH float plus(float a, float b) { return a + b; }
DPT_BOTH double over(double a, double b) { return a / b; }
#endif

// One axis of a filter (Taps of imaging.hpp), wherever its arrays lie.
template <typename Real>
struct TapView {
  const int* index[4];
  const Real* weight[4];
};

// Pixels of imaging.hpp, likewise.
struct PixelView {
  const std::uint8_t* data;
  std::ptrdiff_t row_bytes;
  int step;
  int rgb[3];
};

template <typename Real, typename Value>
DPT_BOTH Real weighted(const TapView<Real>& taps, std::int64_t at, const Value& value) {
  Real total = times(static_cast<Real>(value(taps.index[0][at])), taps.weight[0][at]);
  for (int k = 1; k < 4; ++k) total = plus(total, times(static_cast<Real>(value(taps.index[k][at])), taps.weight[k][at]));
  return total;
}

// Each job fills (height, width); pixel(job, y, x) does one of it.

// An image to the network's input: float32 planes, normalised, or (where `bytes`) interleaved bytes.
struct InputJob {
  PixelView image;
  TapView<double> rows, cols;
  std::int64_t height, width;
  double mean[3], std[3];
  float* planes;
  std::uint8_t* bytes;
};

DPT_BOTH void pixel(const InputJob& job, std::int64_t y, std::int64_t x) {
  const double divisor = job.bytes != nullptr ? 1.0 : 255.0;
  for (int c = 0; c < 3; ++c) {
    const double value = weighted(job.rows, y, [&](int row) {
      const std::uint8_t* samples = job.image.data + row * job.image.row_bytes + job.image.rgb[c];
      return weighted(job.cols, x, [&](int col) {
        return over(samples[static_cast<std::ptrdiff_t>(col) * job.image.step], divisor);
      });
    });
    if (job.bytes != nullptr) {
      const double whole = rint(value);  // half to even
      job.bytes[3 * (y * job.width + x) + c] = static_cast<std::uint8_t>(whole < 0 ? 0 : whole > 255 ? 255 : whole);
    } else {
      job.planes[(c * job.height + y) * job.width + x] = static_cast<float>(over(plus(value, -job.mean[c]), job.std[c]));
    }
  }
}

// A map to another size.
struct MapJob {
  const float* values;
  std::int64_t source_width;
  TapView<float> rows, cols;
  std::int64_t height, width;
  float* out;
};

DPT_BOTH void pixel(const MapJob& job, std::int64_t y, std::int64_t x) {
  job.out[y * job.width + x] = weighted(job.rows, y, [&](int row) {
    return weighted(job.cols, x, [&](int col) { return job.values[row * job.source_width + col]; });
  });
}

// Logits (classes, h, w) to 1-based labels of another size: the first of the largest.
struct ScoreJob {
  const float* logits;
  int classes;
  std::int64_t source_height, source_width;
  TapView<float> rows, cols;
  std::int64_t height, width;
  std::uint16_t* out;
};

DPT_BOTH void pixel(const ScoreJob& job, std::int64_t y, std::int64_t x) {
  float best = -INFINITY;
  int label = 0;
  for (int c = 0; c < job.classes; ++c) {
    const float* plane = job.logits + c * job.source_height * job.source_width;
    const float score = weighted(job.cols, x, [&](int col) {
      return weighted(job.rows, y, [&](int row) { return plane[row * job.source_width + col]; });
    });
    if (score > best) best = score, label = c;
  }
  job.out[y * job.width + x] = static_cast<std::uint16_t>(label + 1);
}

// 0-based labels of the graph to 1-based ones of another size: each pixel takes the label under its centre.
template <typename Integer>
struct LabelJob {
  const Integer* labels;
  std::int64_t source_height, source_width;
  std::int64_t height, width;
  std::uint16_t* out;
};

template <typename Integer>
DPT_BOTH void pixel(const LabelJob<Integer>& job, std::int64_t y, std::int64_t x) {
  const Integer* row = job.labels + (2 * y + 1) * job.source_height / (2 * job.height) * job.source_width;
  job.out[y * job.width + x] = static_cast<std::uint16_t>(row[(2 * x + 1) * job.source_width / (2 * job.width)] + 1);
}

// Sets `*found` where a value is NaN or infinite; all that write write the same.
struct FiniteJob {
  const float* values;
  std::int64_t height, width;
  int* found;
};

DPT_BOTH void pixel(const FiniteJob& job, std::int64_t y, std::int64_t x) {
  const float value = job.values[y * job.width + x];
  if (!(value - value == 0)) *job.found = 1;
}

}  // namespace dpt::core
