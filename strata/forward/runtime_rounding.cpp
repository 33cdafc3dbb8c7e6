// Facts: ggml's quantize_row_q8_0, quantize_row_q8_K and the vec_dot_type of every type (ggml-cpu, 2026).
#include "strata/forward/runtime_rounding.h"

#include "strata/core/error.h"
#include "strata/gguf/type.h"

namespace strata {
namespace {

constexpr int64_t kSmallGroup = 32, kLargeGroup = 256;

at::Tensor in_groups(const at::Tensor& input, int64_t size) {
  if (input.size(-1) % size != 0)
    fail("inputs of {} features cannot be rounded in groups of {}", input.size(-1), size);
  return input.reshape({-1, size});
}

// x -> round(x / scale) * scale with a scale [groups, 1] that may be zero.
at::Tensor rounded(const at::Tensor& groups, const at::Tensor& scale, const at::Tensor& stored_scale) {
  const at::Tensor inverse = at::where(scale == 0, at::zeros_like(scale), scale.reciprocal());
  return (groups * inverse).round_().clamp_max_(127).mul_(stored_scale);
}

at::Tensor round_small_groups(const at::Tensor& groups) {
  const at::Tensor scale = groups.abs().amax(1, true) / 127;
  return rounded(groups, scale, scale.to(at::kHalf).to(at::kFloat));
}

at::Tensor round_large_groups(const at::Tensor& groups) {
  const at::Tensor scale = groups.gather(1, groups.abs().argmax(1, true)) / -127;
  return rounded(groups, scale, scale);
}

}  // namespace

RuntimeRounding parse_runtime_rounding(const std::string& name) {
  if (name == "none") return RuntimeRounding::None;
  if (name == "llama.cpp") return RuntimeRounding::LlamaCpp;
  fail_usage("the rounding of a runtime '{}' is not known; known is llama.cpp", name);
}

at::Tensor round_as_llama_cpp(const at::Tensor& input, const std::string& type) {
  if (type == "F32") return input;
  if (type == "F16") return input.to(at::kHalf).to(at::kFloat);
  if (type == "BF16") return input.to(at::kBFloat16).to(at::kFloat);
  if (traits_of(parse_gguf_type(type)).inputs == GgufType::Q8_K)
    return round_large_groups(in_groups(input, kLargeGroup)).view_as(input);
  return round_small_groups(in_groups(input, kSmallGroup)).view_as(input);
}

}  // namespace strata
