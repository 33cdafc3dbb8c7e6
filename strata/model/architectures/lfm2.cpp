#include "strata/model/architectures/lfm2.h"

#include <algorithm>

namespace strata {
namespace {

// Of the feed-forward block: two thirds of what the config says, times a factor, in whole steps.
int64_t feed_forward_size(const ConfigFields& fields, const ModelConfig& config) {
  const int64_t given = fields.integer("block_ff_dim", config.intermediate_size);
  if (!fields.flag("block_auto_adjust_ff_dim", true)) return given;
  const auto whole = [](double size) { return static_cast<int64_t>(size); };
  const int64_t size = whole(fields.real("block_ffn_dim_multiplier", 1) *
                             static_cast<double>(whole(2 * static_cast<double>(given) / 3)));
  const int64_t step = fields.integer("block_multiple_of", 256);
  if (step < 1) fail("{}: block_multiple_of is {}, but must be positive", fields.where(), step);
  return (size + step - 1) / step * step;
}

}  // namespace

void read_lfm2_json(const ConfigFields& fields, ModelConfig& config) {
  config.rms_norm_eps = fields.real("norm_eps", 1e-5);
  config.tied_embeddings = fields.flag("tie_embedding", config.tied_embeddings);
  config.convolution = {fields.integer("conv_L_cache", 3), fields.flag("conv_bias", false)};
  read_attention_layers(fields, config, "full_attention", "conv");
  const Json* attending = fields.find("full_attn_idxs");
  if (attending == nullptr || !config.attention_layers.empty()) return;
  for (int64_t layer = 0; layer < config.num_layers; ++layer)
    config.attention_layers.push_back(std::find(attending->begin(), attending->end(), layer) !=
                                      attending->end());
}

void write_lfm2_json(const ModelConfig& config, const std::string&, Json& json) {
  json["norm_eps"] = config.rms_norm_eps;
  json["tie_embedding"] = config.tied_embeddings;
  json["conv_L_cache"] = config.convolution.width;
  json["conv_bias"] = config.convolution.bias;
  json["layer_types"] = attention_layers_json(config, "full_attention", "conv");
}

void read_lfm2_gguf(const GgufKeys& keys, ModelConfig& config) {
  read_gguf_attention_layers(keys, config);
  config.convolution.width = keys.integer("shortconv.l_cache");
}

std::vector<GgufKey> lfm2_gguf_keys(const ModelConfig& config) {
  return {kv_heads_by_layer(config),
          {"shortconv.l_cache", gguf_u32(static_cast<uint32_t>(config.convolution.width))}};
}

std::string lfm2_gguf_refusal(const ModelConfig& config) {
  return config.convolution.bias ? "biases of convolutions" : plain_gguf_refusal(config);
}

std::vector<LayerTensor> lfm2_mixer_tensors(const ModelConfig& c, int layer) {
  const int64_t width = c.hidden_size, queries = c.num_heads * c.head_dim, keys = c.num_kv_heads * c.head_dim;
  const bool bias = c.convolution.bias;
  std::vector<LayerTensor> tensors = {norm("operator_norm", "attn_norm", width)};
  const auto add = [&](LayerTensor tensor) { tensors.push_back(std::move(tensor)); };
  if (c.attends(layer)) {
    add(matrix("self_attn.q_proj", "attn_q", Role::Q, queries, width, false));
    add(matrix("self_attn.k_proj", "attn_k", Role::K, keys, width, false));
    add(matrix("self_attn.v_proj", "attn_v", Role::V, keys, width, false));
    add(matrix("self_attn.out_proj", "attn_output", Role::O, width, queries, false));
    add(norm("self_attn.q_layernorm", "attn_q_norm", c.head_dim));
    add(norm("self_attn.k_layernorm", "attn_k_norm", c.head_dim));
  } else {
    add(matrix("conv.in_proj", "shortconv.in_proj", Role::Other, 3 * width, width, bias));
    add(convolution("conv.conv", "shortconv.conv", width, c.convolution.width, bias));
    add(matrix("conv.out_proj", "shortconv.out_proj", Role::Other, width, width, bias));
  }
  add(norm("ffn_norm", "ffn_norm", width));
  return tensors;
}

std::vector<LayerTensor> lfm2_feed_forward_tensors(const ModelConfig& c) {
  return {matrix("feed_forward.w1", "ffn_gate", Role::Gate, c.intermediate_size, c.hidden_size, false),
          matrix("feed_forward.w3", "ffn_up", Role::Up, c.intermediate_size, c.hidden_size, false),
          matrix("feed_forward.w2", "ffn_down", Role::Down, c.hidden_size, c.intermediate_size, false)};
}

FeedForwardPlan lfm2_feed_forward_plan() {
  return {{"feed_forward.w1", "feed_forward.w3"}, "feed_forward.w2"};
}

LayerPlan lfm2_mixer_plan(const ModelConfig& config, int layer) {
  BlockPlan mixer{"operator_norm", "", ShortConvolutionPlan{"conv.in_proj", "conv.conv", "conv.out_proj"}};
  if (config.attends(layer)) {
    AttentionPlan attention = separate_attention_plan(config, layer);
    attention.output = "self_attn.out_proj";
    attention.q_norm = "self_attn.q_layernorm";
    attention.k_norm = "self_attn.k_layernorm";
    mixer.block = attention;
  }
  return {{mixer}};
}

Architecture lfm2_record(const char* model_type, const char* class_name, const char* gguf_name) {
  Architecture lfm2;
  lfm2.model_type = model_type;
  lfm2.class_name = class_name;
  lfm2.gguf_name = gguf_name;
  lfm2.final_norm = "embedding_norm";
  lfm2.gguf_final_norm = "token_embd_norm";
  lfm2.defaults = {{"tie_word_embeddings", true},
                   {"max_position_embeddings", 128000},
                   {"rope_theta", 1e6},
                   {"num_key_value_heads", 8}};
  lfm2.sizes_by_layer = true;
  lfm2.read_gguf = read_lfm2_gguf;
  lfm2.gguf_keys = lfm2_gguf_keys;
  lfm2.gguf_refusal = lfm2_gguf_refusal;
  return lfm2;
}

// Gated short convolutions in most layers, and attention with norms on every query and key head in the
// others.
Architecture lfm2() {
  Architecture lfm2 = lfm2_record("lfm2", "Lfm2ForCausalLM", "lfm2");
  lfm2.defaults["intermediate_size"] = 12288;
  lfm2.read_json = [](const ConfigFields& fields, ModelConfig& config) {
    read_lfm2_json(fields, config);
    config.intermediate_size = feed_forward_size(fields, config);
  };
  lfm2.write_json = [](const ModelConfig& config, const std::string& where, Json& json) {
    write_lfm2_json(config, where, json);
    json["block_auto_adjust_ff_dim"] = false;
    // mlx-lm asks for these.
    json["block_dim"] = config.hidden_size;
    json["block_multiple_of"] = 256;
    json["block_ffn_dim_multiplier"] = 1.0;
  };
  lfm2.tensors = [](const ModelConfig& config, int layer) {
    std::vector<LayerTensor> tensors = lfm2_mixer_tensors(config, layer);
    for (LayerTensor& tensor : lfm2_feed_forward_tensors(config)) tensors.push_back(std::move(tensor));
    return tensors;
  };
  lfm2.plan = [](const ModelConfig& config, int layer) {
    LayerPlan plan = lfm2_mixer_plan(config, layer);
    plan.blocks.push_back({"ffn_norm", "", lfm2_feed_forward_plan()});
    return plan;
  };
  return lfm2;
}

}  // namespace strata
