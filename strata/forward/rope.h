#pragma once

#include <ATen/ATen.h>

#include <cstdint>
#include <map>

#include "strata/model/config.h"

namespace strata {

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
