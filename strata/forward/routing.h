#pragma once

#include <ATen/ATen.h>

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "strata/model/architecture.h"

namespace strata {

// Which experts read which tokens. What experts read and give are rows, one for every expert that a token
// has: sorted by expert, and an expert's in the order of their tokens. On a CPU those of a sequence stand
// together, so that what one gives does not depend on the others.
struct Routing {
  struct Run {
    int64_t expert, rows;  // that this expert reads
  };
  int64_t experts = 0;
  std::vector<Run> runs;   // one after the other they are all rows
  at::Tensor tokens;       // [rows] int64: of B * T
  at::Tensor gates;        // [rows] float
  at::Tensor places;       // [B * T, used] int64: the rows of every token
  at::Tensor shared_gate;  // [B, T, 1], of the expert that all tokens read; undefined: it has none
};

// From the product of the router [B, T, experts], and the bias [experts] of a plan that has one.
Routing route(const RouterPlan& plan, const at::Tensor& logits, const at::Tensor& bias = {});

// The rows of what all tokens have: [B, T, n] -> [1, rows, n].
at::Tensor rows_of_experts(const Routing& routing, const at::Tensor& values);

// Every expert's product with its rows: [1, rows, in] -> [1, rows, out]. `weight` is the stack [experts *
// out, in], `bias` [experts * out] or undefined.
at::Tensor expert_products(const Routing& routing, const at::Tensor& input, const at::Tensor& weight,
                           const at::Tensor& bias);

// The sum of what a token's experts give, times their gates: [1, rows, n] -> [B, T, n] like `tokens`.
at::Tensor sum_of_experts(const Routing& routing, const at::Tensor& output, const at::Tensor& like);

// The rows of one expert [n, in] of [1, rows, in], each times its gate.
at::Tensor gated_rows(const Routing& routing, const at::Tensor& input, int64_t expert);

}  // namespace strata
