#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "strata/core/matrix.h"

namespace strata {

// NF4 (Dettmers et al. 2023, arXiv 2305.14314) as bitsandbytes stores it: blocks of 64 weights, row after row
// without regard for where rows end; a weight is a level of a fixed table times its block's largest magnitude
// in fp32. With double quantization that magnitude is an 8-bit code of a "dynamic" table, times an fp32
// magnitude for every 256 blocks, plus one fp32 mean a matrix.
constexpr int64_t kNf4Block = 64;
constexpr int64_t kNf4NestedBlock = 256;

struct Nf4Matrix {
  int64_t rows = 0, cols = 0;
  std::vector<uint8_t> codes;            // two a byte, the first in the high half
  std::vector<float> magnitudes;         // one a block, as they are decoded
  std::vector<uint8_t> nested_codes;     // with double quantization: one a block
  std::vector<float> nested_magnitudes;  // one for 256 of them
  float mean = 0;

  void dequantize(float* weights) const;
};

const std::array<float, 16>& nf4_levels();

// bitsandbytes' signed dynamic map of 8 bits, in rising order.
const std::array<float, 256>& dynamic_levels();

// Throws Error where a weight is not finite.
Nf4Matrix quantize_nf4(MatrixView<const float> weights, bool double_quantized);

// All bits of codes, magnitudes and mean; the tables are constants and not counted, though bitsandbytes'
// files repeat them.
uint64_t nf4_stored_bits(uint64_t weights, bool double_quantized);

}  // namespace strata
