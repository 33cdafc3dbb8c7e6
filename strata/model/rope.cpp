#include "strata/model/rope.h"

#include <cmath>

namespace strata {
namespace {

double base_frequency(const ModelConfig& config, int64_t i) {
  return std::pow(config.rope_theta, -2.0 * static_cast<double>(i) / static_cast<double>(config.head_dim));
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

}  // namespace

std::vector<double> rope_divisors(const ModelConfig& config) {
  std::vector<double> divisors(static_cast<size_t>(config.head_dim / 2), 1.0);
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
    }
  }
  return divisors;
}

std::vector<double> rope_frequencies(const ModelConfig& config) {
  std::vector<double> frequencies = rope_divisors(config);
  for (size_t i = 0; i < frequencies.size(); ++i)
    frequencies[i] = base_frequency(config, static_cast<int64_t>(i)) / frequencies[i];
  return frequencies;
}

}  // namespace strata
