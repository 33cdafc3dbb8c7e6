#pragma once

#include <ATen/ATen.h>

#include <cstdint>
#include <map>
#include <vector>

#include "strata/model/config.h"

namespace strata {

// What rotary embedding divides each of the rotary_dim / 2 base frequencies theta^(-2 i / rotary_dim) by: 1
// without scaling, `factor` for linear, for llama3 a value between 1 and `factor` that depends on how often
// the frequency turns within the original context, for longrope the short or the long factors, by whether a
// sequence of `length` fits that context, and for dynamic what a base grown to that length comes to. 1e30
// stands for pairs that do not turn. GGUF stores these as rope_freqs.weight or rope_factors_*.weight.
std::vector<double> rope_divisors(const Rope& rope, int64_t length = 1);

// What YaRN multiplies cosines and sines by where nothing else is said, 1 + ln(factor) / 10; llama.cpp
// multiplies by it whatever else a file says.
double usual_yarn_attention_factor(double factor);

// The scaled frequencies: radians a position.
std::vector<double> rope_frequencies(const Rope& rope, int64_t length = 1);

// Cosines and sines of the rotary angles, float [T, rotary_dim / 2], and how they apply to a head.
struct RopeTable {
  at::Tensor cosines, sines;
  bool neighbours = false;
  at::Tensor query_scale;  // float [T, 1], of rotated queries; undefined: 1

  RopeTable narrow(int64_t first, int64_t count) const;
};
RopeTable make_rope_table(const Rope& rope, int64_t length, at::Device device);

// The tables of a model's layers, each made when it is first asked for. The config must outlive them.
class RopeTables {
 public:
  RopeTables(const ModelConfig& config, at::Device device) : config_(config), device_(device) {}

  RopeTable of_layer(int layer, int64_t length);

 private:
  const ModelConfig& config_;
  at::Device device_;
  std::map<const Rope*, RopeTable> tables_;  // of the longest sequence so far
};

// Rotates pairs of the first R features of every head by the angle of the position, in float32, where R is
// twice the width of the table: features i and i + R / 2 (the two halves), or neighbours. x [B, H, T, D].
at::Tensor apply_rope(const at::Tensor& x, const RopeTable& rope);

}  // namespace strata
