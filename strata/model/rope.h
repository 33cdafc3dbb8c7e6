#pragma once

#include <ATen/ATen.h>

#include <cstdint>
#include <vector>

#include "strata/model/config.h"

namespace strata {

// What rotary embedding divides each of the rotary_dim / 2 base frequencies theta^(-2 i / rotary_dim) by: 1
// without scaling, `factor` for linear, for llama3 a value between 1 and `factor` that depends on how often
// the frequency turns within the original context, and for longrope the short or the long factors, by whether
// a sequence of `length` fits that context. GGUF stores these as rope_freqs.weight or rope_factors_*.weight.
std::vector<double> rope_divisors(const ModelConfig& config, int64_t length = 1);

// The scaled frequencies: radians a position.
std::vector<double> rope_frequencies(const ModelConfig& config, int64_t length = 1);

// Cosines and sines of the rotary angles, float [T, rotary_dim / 2].
struct RopeTable {
  at::Tensor cosines, sines;
};
RopeTable make_rope_table(const ModelConfig& config, int64_t length, at::Device device);

// Whether sequences of both lengths take the same frequencies.
bool rope_is_shared(const ModelConfig& config, int64_t length, int64_t other);

// Rotates features i and i + R / 2 of the first R of every head by the angle of the position (Hugging Face's
// halves), in float32, where R is twice the width of the table. x [B, H, T, D].
at::Tensor apply_rope(const at::Tensor& x, const RopeTable& rope);

}  // namespace strata
