#pragma once

#include <ATen/ATen.h>

namespace strata {

// x W' + b: input [B, T, in], weight [out, in], bias [out] or undefined; gives [B, T, out].
//
// On a CPU the sequences and pieces of the outputs are products of their own, each computed by one thread:
// BLAS libraries give other last bits to a product of another size, or one that threads share, and what a
// model computes must depend on neither the number of threads nor on how many sequences run together.
at::Tensor linear(const at::Tensor& input, const at::Tensor& weight, const at::Tensor& bias);

}  // namespace strata
