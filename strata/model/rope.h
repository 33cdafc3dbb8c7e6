#pragma once

#include <vector>

#include "strata/model/model.h"

namespace strata {

// What rotary embedding divides each of the head_dim / 2 base frequencies theta^(-2 i / head_dim) by: 1
// without scaling, `factor` for linear, and for llama3 a value between 1 and `factor` that depends on how
// often the frequency turns within the original context. GGUF stores these as rope_freqs.weight.
std::vector<double> rope_divisors(const ModelConfig& config);

// The scaled frequencies: radians a position.
std::vector<double> rope_frequencies(const ModelConfig& config);

}  // namespace strata
