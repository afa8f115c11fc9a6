// Positions and weights of the filters.
#pragma once

#include "imaging.hpp"

namespace dpt::core {

// OpenCV's interpolateCubic: float32 positions and weights, the last weight is the rest to 1. Nothing happens if `taps`
// is that filter already.
void opencv_taps(int length, int target, Taps<double>& taps);

// PyTorch's upsample_bicubic2d as its vector kernels compute it: by fused multiply-add in float32.
void torch_taps(int length, int target, Taps<float>& taps);

// PyTorch's upsample_bilinear2d, without and with align_corners: two taps in the frame of four, whose outer weights are 0.
void bilinear_taps(int length, int target, Taps<float>& taps);
void corner_taps(int length, int target, Taps<float>& taps);

using MakeTaps = void (*)(int length, int target, Taps<float>& taps);
MakeTaps taps_of(Restore rule);

}  // namespace dpt::core
