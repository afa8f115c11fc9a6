// The filters: each source row is filtered along its width once, and four such rows are blended into one of
// the result. Sums begin with the first tap, which fixes the rounding; lanes of a vector never meet, so that every
// vector width gives the same bits.
#include <algorithm>
#include <cmath>
#include <cstring>

#include "imaging.hpp"
#include "taps.hpp"

// A second copy of the hot loops for processors with AVX2, chosen when the library is loaded. Sanitizers start too late
// for this choice.
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__) && !defined(DPT_SANITIZED)
#define DPT_WIDE __attribute__((target_clones("avx2", "default")))
#else
#define DPT_WIDE
#endif

namespace dpt::core {
namespace {

// Without such registers, the compiler splits one operation into two.
typedef double Four __attribute__((vector_size(32)));
typedef float Eight __attribute__((vector_size(32)));
typedef std::int32_t EightInts __attribute__((vector_size(32)));

// Unaligned: alignment attributes are lost when one operation becomes two.
template <typename Vector, typename Real>
inline __attribute__((always_inline)) Vector load(const Real* from) {
  Vector vector;
  std::memcpy(&vector, from, sizeof vector);
  return vector;
}

std::size_t count_of(std::int64_t a, std::int64_t b) { return static_cast<std::size_t>(a * b); }

using Table = std::array<double, 256>;

Table table_of(double divisor) {
  Table table;
  for (int i = 0; i < 256; ++i) table[static_cast<std::size_t>(i)] = i / divisor;
  return table;
}

void widen(const std::uint8_t* row, const Pixels& image, const Table& table, double* out) {
  const auto [r, g, b] = image.rgb;
  for (int x = 0; x < image.size.width; ++x, row += image.step, out += 3) {
    out[0] = table[row[r]], out[1] = table[row[g]], out[2] = table[row[b]];
  }
}

// Interleaved pixels of three values each; reads and writes one value past the last.
DPT_WIDE void filter_pixels(const double* source, const Taps<double>& taps, double* out) {
  const int *i0 = taps.index[0].data(), *i1 = taps.index[1].data(), *i2 = taps.index[2].data(), *i3 = taps.index[3].data();
  const double *w0 = taps.weight[0].data(), *w1 = taps.weight[1].data();
  const double *w2 = taps.weight[2].data(), *w3 = taps.weight[3].data();
  for (int x = 0; x < taps.target; ++x) {
    Four total = load<Four>(source + 3 * std::ptrdiff_t{i0[x]}) * w0[x];
    total += load<Four>(source + 3 * std::ptrdiff_t{i1[x]}) * w1[x];
    total += load<Four>(source + 3 * std::ptrdiff_t{i2[x]}) * w2[x];
    total += load<Four>(source + 3 * std::ptrdiff_t{i3[x]}) * w3[x];
    std::memcpy(out + 3 * std::ptrdiff_t{x}, &total, sizeof total);
  }
}

DPT_WIDE void filter_values(const float* source, const Taps<float>& taps, float* out) {
  const int *i0 = taps.index[0].data(), *i1 = taps.index[1].data(), *i2 = taps.index[2].data(), *i3 = taps.index[3].data();
  const float *w0 = taps.weight[0].data(), *w1 = taps.weight[1].data();
  const float *w2 = taps.weight[2].data(), *w3 = taps.weight[3].data();
  for (int x = 0; x < taps.target; ++x) {
    float total = source[i0[x]] * w0[x];
    total += source[i1[x]] * w1[x];
    total += source[i2[x]] * w2[x];
    total += source[i3[x]] * w3[x];
    out[x] = total;
  }
}

template <typename Real>
struct Blend {
  std::array<const Real*, 4> row;
  std::array<Real, 4> weight;
};

template <typename Real>
inline __attribute__((always_inline)) void blend_inline(const Blend<Real>& blend, std::size_t count, Real* out) {
  const Real *r0 = blend.row[0], *r1 = blend.row[1], *r2 = blend.row[2], *r3 = blend.row[3];
  const auto [w0, w1, w2, w3] = blend.weight;
  for (std::size_t i = 0; i < count; ++i) {
    Real total = r0[i] * w0;
    total += r1[i] * w1;
    total += r2[i] * w2;
    total += r3[i] * w3;
    out[i] = total;
  }
}
DPT_WIDE void blend_rows(const Blend<double>& blend, std::size_t count, double* out) { blend_inline(blend, count, out); }
DPT_WIDE void blend_rows(const Blend<float>& blend, std::size_t count, float* out) { blend_inline(blend, count, out); }

// The rows of a result one after another. `filtered` keeps the last four source rows, which are neighbours and so have
// different remainders; `make(row, into)` filters one, `take(y, blended)` gets each finished row of `count` values.
template <typename Real, typename Make, typename Take>
void sweep(const Taps<Real>& rows, std::size_t count, std::size_t pitch, std::vector<Real>& filtered,
           std::vector<Real>& blended, const Make& make, const Take& take) {
  filtered.resize(4 * pitch);
  blended.resize(pitch);
  std::array<int, 4> held{-1, -1, -1, -1};
  for (std::size_t y = 0; y < static_cast<std::size_t>(rows.target); ++y) {
    Blend<Real> blend;
    for (std::size_t k = 0; k < 4; ++k) {
      const int row = rows.index[k][y];
      const auto slot = static_cast<std::size_t>(row % 4);
      Real* into = filtered.data() + slot * pitch;
      if (held[slot] != row) make(row, into);
      held[slot] = row;
      blend.row[k] = into;
      blend.weight[k] = rows.weight[k][y];
    }
    blend_rows(blend, count, blended.data());
    take(y, blended.data());
  }
}

template <typename Take>
void resize_pixels(const Pixels& image, Size size, const Table& table, InputScratch& scratch, const Take& take) {
  opencv_taps(image.size.height, size.height, scratch.rows);
  opencv_taps(image.size.width, size.width, scratch.cols);
  const std::size_t count = count_of(size.width, 3);
  scratch.source.resize(count_of(image.size.width, 3) + 1);
  const auto make = [&](int row, double* into) {
    widen(image.data + row * image.row_bytes, image, table, scratch.source.data());
    filter_pixels(scratch.source.data(), scratch.cols, into);
  };
  sweep(scratch.rows, count, count + 1, scratch.filtered, scratch.blended, make, take);
}

DPT_WIDE void normalise(const double* row, int width, double mean, double std, float* out) {
  for (int x = 0; x < width; ++x) out[x] = static_cast<float>((row[3 * x] - mean) / std);
}

// (classes, width) of one row to (width, classes).
void transpose_row(const float* logits, int classes, Size size, int row, float* out) {
  constexpr int kTile = 16;
  const std::size_t plane = count_of(size.height, size.width);
  const float* first = logits + count_of(row, size.width);
  for (int x0 = 0; x0 < size.width; x0 += kTile) {
    const int x1 = std::min(x0 + kTile, size.width);
    for (int c = 0; c < classes; ++c) {
      const float* values = first + static_cast<std::size_t>(c) * plane;
      for (int x = x0; x < x1; ++x) out[static_cast<std::ptrdiff_t>(x) * classes + c] = values[x];
    }
  }
}

struct Best {
  float score;
  int where;
};

// The first of the largest scores of one pixel, blended from four columns of `classes` values.
inline __attribute__((always_inline)) Best best_of(const Blend<float>& blend, int classes) {
  const auto lanes = [&blend](int c) {
    const auto at = [&](std::size_t k) { return load<Eight>(blend.row[k] + c) * blend.weight[k]; };
    Eight total = at(0);
    total += at(1);
    total += at(2);
    total += at(3);
    return total;
  };
  Best best{-INFINITY, 0};
  int c = 0;
  if (classes >= 8) {
    const EightInts iota{0, 1, 2, 3, 4, 5, 6, 7};
    Eight score = lanes(0);
    EightInts where = iota;
    for (c = 8; c + 8 <= classes; c += 8) {
      const Eight found = lanes(c);
      const auto more = found > score;
      score = more ? found : score;
      where = more ? iota + c : where;
    }
    for (int lane = 0; lane < 8; ++lane) {
      const bool earlier = score[lane] == best.score && where[lane] < best.where;
      if (score[lane] > best.score || earlier) best = {score[lane], where[lane]};
    }
  }
  for (; c < classes; ++c) {
    float total = blend.row[0][c] * blend.weight[0];
    for (std::size_t k = 1; k < 4; ++k) total += blend.row[k][c] * blend.weight[k];
    if (total > best.score) best = {total, c};
  }
  return best;
}

DPT_WIDE void label_row(const float* columns, int classes, const Taps<float>& taps, std::uint16_t* out) {
  for (std::size_t x = 0; x < static_cast<std::size_t>(taps.target); ++x) {
    Blend<float> blend;
    for (std::size_t k = 0; k < 4; ++k) {
      blend.row[k] = columns + std::ptrdiff_t{taps.index[k][x]} * classes;
      blend.weight[k] = taps.weight[k][x];
    }
    out[x] = static_cast<std::uint16_t>(best_of(blend, classes).where + 1);
  }
}

}  // namespace

void preprocess(const Pixels& image, Size size, const ImageRule& rule, InputScratch& scratch, float* out) {
  static const Table table = table_of(255.0);
  resize_pixels(image, size, table, scratch, [&](std::size_t y, const double* row) {
    for (std::size_t c = 0; c < 3; ++c) {
      float* into = out + (c * static_cast<std::size_t>(size.height) + y) * static_cast<std::size_t>(size.width);
      normalise(row + c, size.width, rule.mean[c], rule.std[c], into);
    }
  });
}

void resize_uint8_input(const Pixels& image, Size size, InputScratch& scratch, std::uint8_t* out) {
  static const Table table = table_of(1.0);
  const std::size_t count = count_of(size.width, 3);
  resize_pixels(image, size, table, scratch, [&](std::size_t y, const double* row) {
    for (std::size_t i = 0; i < count; ++i) {
      out[y * count + i] = static_cast<std::uint8_t>(std::clamp(std::nearbyint(row[i]), 0.0, 255.0));
    }
  });
}

void restore(const float* values, Size size, Size target, Restore rule, OutputScratch& scratch, float* out) {
  taps_of(rule)(size.height, target.height, scratch.rows);
  taps_of(rule)(size.width, target.width, scratch.cols);
  const auto width = static_cast<std::size_t>(target.width);
  const auto make = [&](int row, float* into) { filter_values(values + count_of(row, size.width), scratch.cols, into); };
  const auto take = [&](std::size_t y, const float* row) { std::memcpy(out + y * width, row, width * sizeof *out); };
  sweep(scratch.rows, width, width, scratch.filtered, scratch.blended, make, take);
}

void labels_from_logits(const float* logits, int classes, Size size, Size target, Restore rule, OutputScratch& scratch,
                        std::uint16_t* out) {
  taps_of(rule)(size.height, target.height, scratch.rows);
  taps_of(rule)(size.width, target.width, scratch.cols);
  const std::size_t count = count_of(size.width, classes);
  const auto make = [&](int row, float* into) { transpose_row(logits, classes, size, row, into); };
  const auto take = [&](std::size_t y, const float* columns) {
    label_row(columns, classes, scratch.cols, out + count_of(static_cast<std::int64_t>(y), target.width));
  };
  sweep(scratch.rows, count, count, scratch.filtered, scratch.blended, make, take);
}

}  // namespace dpt::core
