#pragma once

#include <vector>

#include "strata/model/architectures/common.h"

// Latent attention as DeepSeek's models have it, and how configs say its sizes.
namespace strata {

// q_lora_rank, kv_lora_rank, qk_nope_head_dim, qk_rope_head_dim and v_head_dim; attention_bias; and what YaRN
// multiplies scores by (mscale_all_dim).
void read_latent_attention(const ConfigFields& fields, ModelConfig& config);
void write_latent_attention(const ModelConfig& config, Json& json);

// The same in GGUF keys, in which keys and values are the latent vector ("MLA"); files whose keys have heads
// of their own are read too.
void read_gguf_latent_attention(const GgufKeys& keys, ModelConfig& config);
std::vector<GgufKey> latent_attention_keys(const ModelConfig& config);

// Why llama.cpp cannot run it, as the end of a sentence; empty where it can.
std::string latent_gguf_refusal(const ModelConfig& config);

// The layer's matrices and norms. kv_b_proj is kept: GGUF files have half of it transposed, and runtimes
// multiply it into queries and outputs.
std::vector<LayerTensor> latent_attention_tensors(const ModelConfig& config);
LatentAttentionPlan latent_attention_plan(const ModelConfig& config, int layer);

}  // namespace strata
