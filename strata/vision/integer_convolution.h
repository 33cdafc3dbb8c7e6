#pragma once

#include <ATen/ATen.h>

#include <cstdint>
#include <memory>
#include <vector>

#include "strata/vision/activation_ranges.h"
#include "strata/vision/windows.h"

namespace strata::vision {

// A convolution of codes by codes, summed in whole numbers as integer hardware does it: beside the simulation
// in float32 it is exact, and several times as fast.

// Weights [outputs, channels, height, width] in the order in which they are read: four channels by up to 32
// outputs for every place of the window.
struct PackedWeights {
  int64_t outputs = 0, channels = 0;
  std::vector<int8_t> codes;
  std::vector<float> scales;  // by output
  std::vector<int32_t> sums;  // of an output's codes
};

// Whether this processor multiplies bytes by itself (AVX-512 VNNI); integer_convolution() needs it.
bool multiplies_bytes();

PackedWeights pack_weights(const WeightCodes& weights);

// Maps [N, C, H, W] in float32 on the CPU, rounded to `code`, with weights that belong to `window` ->
// [N, outputs, H', W']. `bias` [outputs] may be undefined. Places outside of the maps count as 0.
at::Tensor integer_convolution(const at::Tensor& maps, const ActivationCode& code,
                               const PackedWeights& weights, const at::Tensor& bias, const Window& window);

}  // namespace strata::vision
