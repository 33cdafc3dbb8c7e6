#pragma once

#include <vector>

#include "strata/model/architectures/experts.h"

// What DeepSeek's mixtures of experts, and those modelled on them, say in the same words: plain layers first,
// groups of experts, gates that are scaled, and an expert without gate that all tokens read.
namespace strata {

// Their names; with a bias by which experts are chosen, or none.
ExpertNames deepseek_names(bool bias);

// n_routed_experts, num_experts_per_tok, moe_intermediate_size, n_shared_experts, norm_topk_prob,
// routed_scaling_factor, n_group, topk_group and first_k_dense_replace.
void read_deepseek_experts(const ConfigFields& fields, ModelConfig& config);
void write_deepseek_experts(const ModelConfig& config, Json& json);

// The same in GGUF keys, and how they say what scores become gates. The last nextn_predict_layers of the
// file, which predict further tokens, are not the model's.
enum class GatingKey { Softmax = 1, Sigmoid = 2 };
void read_gguf_deepseek_experts(const GgufKeys& keys, ModelConfig& config);
std::vector<GgufKey> deepseek_expert_keys(const ModelConfig& config, GatingKey gating);

// Why llama.cpp cannot run it, as the end of a sentence; empty where it can.
std::string deepseek_gguf_refusal(const ModelConfig& config);

}  // namespace strata
