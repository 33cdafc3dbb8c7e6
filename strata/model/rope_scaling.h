#pragma once

#include <cstdint>
#include <vector>

#include "strata/model/config.h"

namespace strata {

// What rotary embedding divides each of the rotary_dim / 2 base frequencies theta^(-2 i / rotary_dim) by: 1
// without scaling, `factor` for linear, for llama3 a value between 1 and `factor` that depends on how often
// the frequency turns within the original context, for longrope the short or the long factors, by whether a
// sequence of `length` fits that context, and for dynamic what a base grown to that length comes to. 1e30
// stands for pairs that do not turn. GGUF stores these as rope_freqs.weight or rope_factors_*.weight.
std::vector<double> rope_divisors(const Rope& rope, int64_t length = 1);

// What YaRN multiplies cosines and sines by where nothing else is said, 1 + ln(factor) / 10; llama.cpp
// multiplies by it whatever else a file says.
double usual_yarn_attention_factor(double factor);

// The scaled frequencies: radians a position.
std::vector<double> rope_frequencies(const Rope& rope, int64_t length = 1);

// Whether sequences of these two lengths have the same frequencies.
bool same_frequencies(const Rope& rope, int64_t one, int64_t other);

}  // namespace strata
