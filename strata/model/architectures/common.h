#pragma once

#include <string>
#include <vector>

#include "strata/model/architecture.h"
#include "strata/model/config_gguf.h"
#include "strata/model/config_json.h"

// What several architectures say in the same words.
namespace strata {

// A matrix of one role.
LayerTensor matrix(std::string name, std::string gguf_name, Role role, int64_t rows, int64_t cols, bool bias,
                   int64_t permuted_heads = 0);

// A norm over `size` features.
LayerTensor norm(std::string name, std::string gguf_name, int64_t size, bool bias = false);

// self_attn.q_proj, k_proj, v_proj and o_proj with the biases that the config names. `permuted`: llama.cpp
// stores the rows of q and k in its own order.
std::vector<LayerTensor> separate_attention(const ModelConfig& config, bool permuted);

// mlp.gate_proj, up_proj and down_proj.
std::vector<LayerTensor> separate_feed_forward(const ModelConfig& config);

// mlp.gate_up_proj, gate above up, and mlp.down_proj.
std::vector<LayerTensor> fused_feed_forward(const ModelConfig& config);
FeedForwardPlan fused_feed_forward_plan();

// Attention and feed-forward of these matrices, without norms.
AttentionPlan separate_attention_plan(const ModelConfig& config, int layer);
FeedForwardPlan separate_feed_forward_plan();

// attention.sliding_window_pattern: the period of which all layers but the last slide. Nothing where none
// slides.
void write_sliding_period(const ModelConfig& config, std::vector<GgufKey>& keys);

// attention.sliding_window and the period, which are `window` and `period` where the file has none; or a list
// of the layers.
void read_gguf_sliding_period(const GgufKeys& keys, ModelConfig& config, int64_t period, int64_t window = 0);

// layer_types as transformers lists them.
Json layer_types_json(const ModelConfig& config);

// A filter of every channel, over `width` tokens.
LayerTensor convolution(std::string name, std::string gguf_name, int64_t channels, int64_t width, bool bias);

// Which layers attend, by a list of the types of all; `other` is that of those that do not.
void read_attention_layers(const ConfigFields& fields, ModelConfig& config, const char* attention,
                           const char* other, const char* key = "layer_types");
Json attention_layers_json(const ModelConfig& config, const char* attention, const char* other);

// The same as GGUF files have it: layers that do not attend have no key heads, attention.head_count_kv 0.
void read_gguf_attention_layers(const GgufKeys& keys, ModelConfig& config);
GgufKey kv_heads_by_layer(const ModelConfig& config);

// The layer of Llama: norms before both blocks, separate matrices.
std::vector<LayerTensor> pre_norm_tensors(const ModelConfig& config, bool permuted);
LayerPlan pre_norm_plan(const ModelConfig& config, int layer);

// config.json's attention_bias for q, k, v and o alike.
void read_attention_bias(const ConfigFields& fields, ModelConfig& config);

// Writes attention_bias; throws where q, k and v have biases and o has none or the other way round, since no
// config.json can say that.
void write_attention_bias(const ModelConfig& config, const std::string& where, Json& json);

// The refusal of graphs of llama.cpp without room for rotary divisors, a bias on o, or biases in the MLP.
std::string plain_gguf_refusal(const ModelConfig& config);

}  // namespace strata
