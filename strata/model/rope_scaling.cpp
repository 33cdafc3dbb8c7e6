#include "strata/model/rope_scaling.h"

#include <algorithm>
#include <cmath>

namespace strata {
namespace {

constexpr double kStill = 1e30;  // the divisor of a pair that does not turn

int64_t turning_pairs(const Rope& rope) {
  return static_cast<int64_t>(rope.scaling.turning_part * static_cast<double>(rope.rotary_dim)) / 2;
}

double base_frequency(const Rope& rope, int64_t i) {
  return std::pow(rope.theta, -2.0 * static_cast<double>(i) / static_cast<double>(rope.rotary_dim));
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

// Frequencies that turn more than beta_fast times within the original context stay, those that turn less than
// beta_slow times are divided by `factor`, with a ramp over the features between them.
double yarn_divisor(const Rope& rope, int64_t i) {
  const RopeScaling& scaling = rope.scaling;
  // The feature, counted in pairs, that turns so often.
  const auto feature = [&](double turns) {
    const double context = static_cast<double>(scaling.original_max_position_embeddings);
    return static_cast<double>(rope.rotary_dim) * std::log(context / (turns * 2 * M_PI)) /
           (2 * std::log(rope.theta));
  };
  double low = feature(scaling.beta_fast), high = feature(scaling.beta_slow);
  if (scaling.truncate) {
    low = std::floor(low);
    high = std::ceil(high);
  }
  low = std::max(low, 0.0);
  high = std::min(high, static_cast<double>(rope.rotary_dim - 1));
  if (high == low) high += 0.001;
  const double ramp = std::clamp((static_cast<double>(i) - low) / (high - low), 0.0, 1.0);
  return 1 / (ramp / scaling.factor + (1 - ramp));
}

bool is_long(const Rope& rope, int64_t length) {
  return length > rope.scaling.original_max_position_embeddings;
}

// NTK-aware scaling for a sequence of `length` tokens: theta becomes theta g^(d / (d - 2)), where g is 1
// within the original context L, and factor length / L - factor + 1 beyond it.
double dynamic_divisor(const Rope& rope, int64_t i, int64_t length) {
  const double original = static_cast<double>(rope.scaling.original_max_position_embeddings);
  const double stretched = rope.scaling.factor * std::max(1.0, static_cast<double>(length) / original);
  const double growth = stretched - rope.scaling.factor + 1;
  return std::pow(growth, 2.0 * static_cast<double>(i) / static_cast<double>(rope.rotary_dim - 2));
}

}  // namespace

std::vector<double> rope_divisors(const Rope& rope, int64_t length) {
  std::vector<double> divisors(static_cast<size_t>(rope.rotary_dim / 2), 1.0);
  const RopeScaling& scaling = rope.scaling;
  for (size_t i = 0; i < divisors.size(); ++i) {
    switch (scaling.type) {
      case RopeScaling::Type::None:
        break;
      case RopeScaling::Type::Linear:
        divisors[i] = scaling.factor;
        break;
      case RopeScaling::Type::Llama3:
        divisors[i] = llama3_divisor(scaling, base_frequency(rope, static_cast<int64_t>(i)));
        break;
      case RopeScaling::Type::Divisors:
        divisors[i] = scaling.divisors.at(i);
        break;
      case RopeScaling::Type::Yarn:
        divisors[i] = yarn_divisor(rope, static_cast<int64_t>(i));
        break;
      case RopeScaling::Type::Dynamic:
        divisors[i] = dynamic_divisor(rope, static_cast<int64_t>(i), length);
        break;
      case RopeScaling::Type::Proportional:
        divisors[i] = static_cast<int64_t>(i) < turning_pairs(rope) ? 1 : kStill;
        break;
      case RopeScaling::Type::Long:
        divisors[i] = (is_long(rope, length) ? scaling.long_divisors : scaling.divisors).at(i);
        break;
    }
  }
  return divisors;
}

double usual_yarn_attention_factor(double factor) {
  return factor <= 1 ? 1 : 1 + 0.1 * std::log(factor);
}

std::vector<double> rope_frequencies(const Rope& rope, int64_t length) {
  std::vector<double> frequencies = rope_divisors(rope, length);
  for (size_t i = 0; i < frequencies.size(); ++i)
    frequencies[i] = base_frequency(rope, static_cast<int64_t>(i)) / frequencies[i];
  return frequencies;
}

bool same_frequencies(const Rope& rope, int64_t one, int64_t other) {
  if (rope.scaling.type == RopeScaling::Type::Long) return is_long(rope, one) == is_long(rope, other);
  if (rope.scaling.type != RopeScaling::Type::Dynamic) return true;
  const int64_t original = rope.scaling.original_max_position_embeddings;
  return std::max(one, original) == std::max(other, original);
}

}  // namespace strata
