#include "strata/model/rope.h"

#include <cmath>

namespace strata {
namespace {

double base_frequency(const ModelConfig& config, int64_t i) {
  return std::pow(config.rope_theta, -2.0 * static_cast<double>(i) / static_cast<double>(config.rotary_dim));
}

// Frequencies that turn at least high_freq_factor times within the original context stay, those that turn at
// most low_freq_factor times are divided by `factor`, and between them the frequency is interpolated.
double llama3_divisor(const RopeScaling& scaling, double frequency) {
  const double turns = static_cast<double>(scaling.original_max_position_embeddings) * frequency / (2 * M_PI);
  if (turns > scaling.high_freq_factor) return 1;
  if (turns < scaling.low_freq_factor) return scaling.factor;
  const double smooth =
      (turns - scaling.low_freq_factor) / (scaling.high_freq_factor - scaling.low_freq_factor);
  return 1 / ((1 - smooth) / scaling.factor + smooth);
}

bool is_long(const ModelConfig& config, int64_t length) {
  return config.rope_scaling.type == RopeScaling::Type::Long &&
         length > config.rope_scaling.original_max_position_embeddings;
}

}  // namespace

std::vector<double> rope_divisors(const ModelConfig& config, int64_t length) {
  std::vector<double> divisors(static_cast<size_t>(config.rotary_dim / 2), 1.0);
  const RopeScaling& scaling = config.rope_scaling;
  for (size_t i = 0; i < divisors.size(); ++i) {
    switch (scaling.type) {
      case RopeScaling::Type::None:
        break;
      case RopeScaling::Type::Linear:
        divisors[i] = scaling.factor;
        break;
      case RopeScaling::Type::Llama3:
        divisors[i] = llama3_divisor(scaling, base_frequency(config, static_cast<int64_t>(i)));
        break;
      case RopeScaling::Type::Divisors:
        divisors[i] = scaling.divisors.at(i);
        break;
      case RopeScaling::Type::Long:
        divisors[i] = (is_long(config, length) ? scaling.long_divisors : scaling.divisors).at(i);
        break;
    }
  }
  return divisors;
}

std::vector<double> rope_frequencies(const ModelConfig& config, int64_t length) {
  std::vector<double> frequencies = rope_divisors(config, length);
  for (size_t i = 0; i < frequencies.size(); ++i)
    frequencies[i] = base_frequency(config, static_cast<int64_t>(i)) / frequencies[i];
  return frequencies;
}

RopeTable make_rope_table(const ModelConfig& config, int64_t length, at::Device device) {
  const at::Tensor frequency = at::tensor(rope_frequencies(config, length), at::kDouble);
  const at::Tensor angle = at::outer(at::arange(length, at::kDouble), frequency);
  const RopeScaling& scaling = config.rope_scaling;
  const double stretch = scaling.type == RopeScaling::Type::Long ? scaling.attention_factor : 1;
  const auto to_device = [&](const at::Tensor& table) { return table.mul(stretch).to(device, at::kFloat); };
  return {to_device(at::cos(angle)), to_device(at::sin(angle))};
}

bool rope_is_shared(const ModelConfig& config, int64_t length, int64_t other) {
  return is_long(config, length) == is_long(config, other);
}

at::Tensor apply_rope(const at::Tensor& x, const RopeTable& rope) {
  const int64_t half = rope.cosines.size(1), rotated_features = 2 * half;
  const at::Tensor first = x.narrow(3, 0, half).to(at::kFloat);
  const at::Tensor second = x.narrow(3, half, half).to(at::kFloat);
  at::Tensor rotated = at::empty(x.sizes(), x.options().dtype(at::kFloat));
  rotated.narrow(3, 0, half).copy_(first * rope.cosines).sub_(second * rope.sines);
  rotated.narrow(3, half, half).copy_(second * rope.cosines).add_(first * rope.sines);
  if (const int64_t kept = x.size(3) - rotated_features; kept > 0)
    rotated.narrow(3, rotated_features, kept).copy_(x.narrow(3, rotated_features, kept));
  return rotated.to(x.scalar_type());
}

}  // namespace strata
