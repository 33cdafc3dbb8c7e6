#include "strata/model/decoder_layer.h"

#include "strata/core/error.h"
#include "strata/model/attention.h"
#include "strata/model/rope.h"

namespace strata {
namespace {

void show(const InputObserver& observe, std::string_view module, const at::Tensor& input) {
  if (observe) observe(module, input);
}

struct Matrix {
  at::Tensor LayerWeights::*weight;
  at::Tensor LayerWeights::*bias;
};

Matrix matrix_of(Role role) {
  switch (role) {
    case Role::Q:
      return {&LayerWeights::q, &LayerWeights::q_bias};
    case Role::K:
      return {&LayerWeights::k, &LayerWeights::k_bias};
    case Role::V:
      return {&LayerWeights::v, &LayerWeights::v_bias};
    case Role::O:
      return {&LayerWeights::o, &LayerWeights::o_bias};
    case Role::Gate:
      return {&LayerWeights::gate, &LayerWeights::gate_bias};
    case Role::Up:
      return {&LayerWeights::up, &LayerWeights::up_bias};
    case Role::Down:
      return {&LayerWeights::down, &LayerWeights::down_bias};
    case Role::Other:
      break;
  }
  fail("a matrix without a role in the decoder layer cannot be run");
}

}  // namespace

at::Tensor& weight_of(LayerWeights& weights, Role role) {
  return weights.*matrix_of(role).weight;
}

at::Tensor project(const LayerWeights& weights, Role role, const at::Tensor& input) {
  const Matrix matrix = matrix_of(role);
  return at::linear(weights.round_input ? weights.round_input(role, input) : input, weights.*matrix.weight,
                    weights.*matrix.bias);
}

RopeTable make_rope_table(const ModelConfig& config, int64_t length, at::Device device) {
  const std::vector<double> frequencies = rope_frequencies(config);
  const at::Tensor frequency = at::tensor(frequencies, at::kDouble);
  const at::Tensor angle = at::outer(at::arange(length, at::kDouble), frequency);
  const auto to_device = [&](const at::Tensor& table) { return table.to(device, at::kFloat); };
  return {to_device(at::cos(angle)), to_device(at::sin(angle))};
}

at::Tensor rms_norm(const at::Tensor& x, const at::Tensor& weight, double eps) {
  const at::Tensor wide = x.to(at::kFloat);
  const at::Tensor mean_square = wide.square().mean(-1, true);
  return (wide * mean_square.add_(eps).rsqrt_()).to(x.scalar_type()).mul_(weight);
}

at::Tensor apply_rope(const at::Tensor& x, const RopeTable& rope) {
  const int64_t half = x.size(3) / 2;
  const at::Tensor first = x.narrow(3, 0, half).to(at::kFloat);
  const at::Tensor second = x.narrow(3, half, half).to(at::kFloat);
  at::Tensor rotated = at::empty(x.sizes(), x.options().dtype(at::kFloat));
  rotated.narrow(3, 0, half).copy_(first * rope.cosines).sub_(second * rope.sines);
  rotated.narrow(3, half, half).copy_(second * rope.cosines).add_(first * rope.sines);
  return rotated.to(x.scalar_type());
}

Attention causal_attention_over(int64_t window) {
  return [window](const at::Tensor& q, const at::Tensor& k, const at::Tensor& v) {
    return causal_attention(q, k, v, window);
  };
}

at::Tensor attention_input(const ModelConfig& config, const LayerWeights& weights, const at::Tensor& hidden) {
  return rms_norm(hidden, weights.input_norm, config.rms_norm_eps);
}

at::Tensor mixed_values(const ModelConfig& config, const LayerWeights& w, const RopeTable& rope,
                        const Attention& attention, const at::Tensor& input) {
  const int64_t batch = input.size(0), length = input.size(1);
  const auto by_head = [&](Role role, int64_t heads) {
    return project(w, role, input).view({batch, length, heads, config.head_dim}).transpose(1, 2);
  };
  at::Tensor q = by_head(Role::Q, config.num_heads);
  at::Tensor k = by_head(Role::K, config.num_kv_heads);
  const at::Tensor v = by_head(Role::V, config.num_kv_heads);
  if (config.qk_norm) {
    q = rms_norm(q, w.q_norm, config.rms_norm_eps);
    k = rms_norm(k, w.k_norm, config.rms_norm_eps);
  }
  return attention(apply_rope(q, rope), apply_rope(k, rope), v);
}

at::Tensor mlp_input(const ModelConfig& config, const LayerWeights& weights, const at::Tensor& attended) {
  return rms_norm(attended, weights.post_attention_norm, config.rms_norm_eps);
}

at::Tensor gated_activation(const LayerWeights& weights, const at::Tensor& input) {
  at::Tensor gate = project(weights, Role::Gate, input);
  return at::silu_(gate).mul_(project(weights, Role::Up, input));
}

at::Tensor attention_output(const ModelConfig& config, const LayerWeights& weights, const RopeTable& rope,
                            const Attention& attention, const at::Tensor& hidden,
                            const InputObserver& observe) {
  const at::Tensor input = attention_input(config, weights, hidden);
  for (const char* module : {"self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"})
    show(observe, module, input);
  const at::Tensor mixed = mixed_values(config, weights, rope, attention, input);
  show(observe, "self_attn.o_proj", mixed);
  return project(weights, Role::O, mixed);
}

at::Tensor mlp_output(const ModelConfig& config, const LayerWeights& weights, const at::Tensor& attended,
                      const InputObserver& observe) {
  const at::Tensor input = mlp_input(config, weights, attended);
  show(observe, "mlp.gate_proj", input);
  show(observe, "mlp.up_proj", input);
  const at::Tensor gated = gated_activation(weights, input);
  show(observe, "mlp.down_proj", gated);
  return project(weights, Role::Down, gated);
}

at::Tensor run_decoder_layer(const ModelConfig& config, const LayerWeights& weights, const RopeTable& rope,
                             int64_t window, const at::Tensor& hidden, const InputObserver& observe) {
  return run_decoder_layer(config, weights, rope, causal_attention_over(window), hidden, observe);
}

at::Tensor run_decoder_layer(const ModelConfig& config, const LayerWeights& weights, const RopeTable& rope,
                             const Attention& attention, const at::Tensor& hidden,
                             const InputObserver& observe) {
  const at::Tensor attended = hidden + attention_output(config, weights, rope, attention, hidden, observe);
  return mlp_output(config, weights, attended, observe).add_(attended);
}

}  // namespace strata
