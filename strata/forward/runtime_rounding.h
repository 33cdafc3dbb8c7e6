#pragma once

#include <ATen/ATen.h>

#include <string>

namespace strata {

// How a runtime computes with a file, where that differs from float32.
enum class RuntimeRounding {
  None,
  // llama.cpp on a CPU multiplies quantized matrices in integers and rounds their inputs to 8 bits, those of
  // F16 and BF16 matrices to these types; queries, keys and values of attention are in F16.
  LlamaCpp
};

// "none", "llama.cpp"; throws UsageError.
RuntimeRounding parse_runtime_rounding(const std::string& name);

// The input [..., in], float, of a matrix that is stored as `type`, as llama.cpp's matrix product takes it:
//   K and IQ types but IQ4_NL: groups of 256 and one float scale, -127 for the largest magnitude;
//   other quantized types: groups of 32 with a scale in F16, 127 for the largest magnitude;
//   F16 and BF16: in that type; F32: as it is.
// Rounds half to even. Throws where the type is none of GGUF's or the groups do not divide the input.
at::Tensor round_as_llama_cpp(const at::Tensor& input, const std::string& type);

}  // namespace strata
