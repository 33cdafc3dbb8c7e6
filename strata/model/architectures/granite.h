#pragma once

#include <vector>

#include "strata/model/architectures/experts.h"

// What the Granites say in the same words: multipliers of the embedding, of attention scores, of what blocks
// add and of logits; names of experts.
namespace strata {

void read_multipliers(const ConfigFields& fields, ModelConfig& config);
void write_multipliers(const ModelConfig& config, Json& json);
void read_gguf_multipliers(const GgufKeys& keys, ModelConfig& config);
std::vector<GgufKey> multiplier_keys(const ModelConfig& config);

// Of experts, whose matrices directories have in two tensors.
ExpertNames granite_expert_names();

}  // namespace strata
