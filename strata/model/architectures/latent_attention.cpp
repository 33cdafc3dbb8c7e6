#include "strata/model/architectures/latent_attention.h"

#include <cmath>

#include "strata/core/error.h"

namespace strata {
namespace {

void complete_sizes(ModelConfig& config, const std::string& where) {
  if (config.latent.rank < 1) fail("{}: kv_lora_rank is {}, but must be positive", where, config.latent.rank);
  config.head_dim = config.latent.still_dim + config.latent.turning_dim;
  config.num_kv_heads = config.num_heads;
  config.rope.rotary_dim = config.latent.turning_dim;
}

// What queries and keys are each multiplied by under YaRN: 1 + a ln(factor) / 10, where a is mscale_all_dim.
double score_stretch(double all_dim, double factor) {
  return factor <= 1 ? 1 : 1 + 0.1 * all_dim * std::log(factor);
}

void stretch_scores(ModelConfig& config, double all_dim) {
  if (config.rope.scaling.type == RopeScaling::Type::None || all_dim == 0) return;
  const double stretch = score_stretch(all_dim, config.rope.scaling.factor);
  config.attention_scale = stretch * stretch / std::sqrt(static_cast<double>(config.head_dim));
}

// The way back: mscale_all_dim, 0 where scores are as usual.
double all_dim_of(const ModelConfig& config) {
  if (config.attention_scale == 0 || config.rope.scaling.factor <= 1) return 0;
  const double stretch = std::sqrt(config.attention_scale * std::sqrt(static_cast<double>(config.head_dim)));
  return (stretch - 1) / (0.1 * std::log(config.rope.scaling.factor));
}

}  // namespace

void read_latent_attention(const ConfigFields& fields, ModelConfig& config) {
  LatentSizes& sizes = config.latent;
  sizes.rank = fields.integer("kv_lora_rank");
  sizes.query_rank = fields.integer("q_lora_rank", 0);
  sizes.still_dim = fields.integer("qk_nope_head_dim");
  sizes.turning_dim = fields.integer("qk_rope_head_dim");
  sizes.value_dim = fields.integer("v_head_dim");
  config.attention_bias = config.output_bias = fields.flag("attention_bias", false);
  complete_sizes(config, fields.where());
  const char* key = fields.has("rope_parameters") ? "rope_parameters" : "rope_scaling";
  if (const Json* rope = fields.find(key))
    stretch_scores(config, ConfigFields(*rope, fields.where() + ": " + key).real("mscale_all_dim", 0));
}

void write_latent_attention(const ModelConfig& config, Json& json) {
  const LatentSizes& sizes = config.latent;
  json["kv_lora_rank"] = sizes.rank;
  json["q_lora_rank"] = sizes.query_rank > 0 ? Json(sizes.query_rank) : Json(nullptr);
  json["qk_nope_head_dim"] = sizes.still_dim;
  json["qk_rope_head_dim"] = sizes.turning_dim;
  json["v_head_dim"] = sizes.value_dim;
  json["attention_bias"] = config.attention_bias;
  json["head_dim"] = sizes.turning_dim;  // as transformers has it
  json.erase("partial_rotary_factor");
  if (const double all_dim = all_dim_of(config); all_dim != 0)
    json["rope_scaling"]["mscale"] = json["rope_scaling"]["mscale_all_dim"] = all_dim;
}

void read_gguf_latent_attention(const GgufKeys& keys, ModelConfig& config) {
  LatentSizes& sizes = config.latent;
  sizes.rank = keys.integer("attention.kv_lora_rank");
  sizes.query_rank = keys.integer("attention.q_lora_rank", 0);
  sizes.turning_dim = keys.integer("rope.dimension_count");
  sizes.value_dim = keys.integer("attention.value_length_mla", keys.integer("attention.value_length", 0));
  sizes.still_dim =
      keys.integer("attention.key_length_mla", keys.integer("attention.key_length", 0)) - sizes.turning_dim;
  complete_sizes(config, keys.file().path().string());
  stretch_scores(config, 10 * keys.real("rope.scaling.yarn_log_multiplier", 0));
  if (config.attention_scale > 0) config.rope.scaling.attention_factor = 1;
}

std::vector<GgufKey> latent_attention_keys(const ModelConfig& config) {
  const LatentSizes& sizes = config.latent;
  const auto number = [](int64_t value) { return gguf_u32(static_cast<uint32_t>(value)); };
  std::vector<GgufKey> keys = {{"attention.head_count_kv", number(1)},
                               {"attention.kv_lora_rank", number(sizes.rank)},
                               {"attention.key_length", number(sizes.rank + sizes.turning_dim)},
                               {"attention.value_length", number(sizes.rank)},
                               {"attention.key_length_mla", number(config.head_dim)},
                               {"attention.value_length_mla", number(sizes.value_dim)}};
  if (sizes.query_rank > 0) keys.push_back({"attention.q_lora_rank", number(sizes.query_rank)});
  if (const double all_dim = all_dim_of(config); all_dim != 0) {
    keys.push_back({"rope.scaling.attn_factor", gguf_f32(1)});
    keys.push_back({"rope.scaling.yarn_log_multiplier", gguf_f32(static_cast<float>(0.1 * all_dim))});
  }
  return keys;
}

std::string latent_gguf_refusal(const ModelConfig& config) {
  const RopeScaling& scaling = config.rope.scaling;
  if (config.attention_bias) return "biases in attention";
  // It tells members without q_lora_rank from others by the number of their layers.
  if (config.latent.query_rank == 0 && config.num_layers != 26 && config.num_layers != 27)
    return "no q_lora_rank in layers that are neither 26 nor 27";
  if (!config.rope.neighbours) return "halves of heads that rotate together";
  if (scaling.type == RopeScaling::Type::None) return "";
  if (scaling.type != RopeScaling::Type::Yarn) return "rope scaling other than YaRN";
  const bool agree = all_dim_of(config) != 0 && std::abs(scaling.attention_factor - 1) < 1e-6;
  return agree ? "" : "YaRN whose mscale and mscale_all_dim differ";
}

std::vector<LayerTensor> latent_attention_tensors(const ModelConfig& c) {
  const LatentSizes& sizes = c.latent;
  const int64_t queries = c.num_heads * c.head_dim, of_head = sizes.still_dim + sizes.value_dim;
  std::vector<LayerTensor> tensors;
  if (sizes.query_rank > 0) {
    tensors = {matrix("self_attn.q_a_proj", "attn_q_a", Role::Other, sizes.query_rank, c.hidden_size,
                      c.attention_bias),
               norm("self_attn.q_a_layernorm", "attn_q_a_norm", sizes.query_rank),
               matrix("self_attn.q_b_proj", "attn_q_b", Role::Q, queries, sizes.query_rank, false)};
  } else {
    tensors = {matrix("self_attn.q_proj", "attn_q", Role::Q, queries, c.hidden_size, false)};
  }
  tensors.push_back(matrix("self_attn.kv_a_proj_with_mqa", "attn_kv_a_mqa", Role::Other,
                           sizes.rank + sizes.turning_dim, c.hidden_size, c.attention_bias));
  tensors.push_back(norm("self_attn.kv_a_layernorm", "attn_kv_a_norm", sizes.rank));
  LayerTensor keys_and_values =
      matrix("self_attn.kv_b_proj", "attn_kv_b", Role::Other, c.num_heads * of_head, sizes.rank, false);
  keys_and_values.kept = true;
  keys_and_values.heads = c.num_heads;
  keys_and_values.gguf_slices = {{"attn_k_b", 0, 1, sizes.still_dim, of_head, false, true},
                                 {"attn_v_b", sizes.still_dim, 1, sizes.value_dim, of_head, false, false}};
  tensors.push_back(std::move(keys_and_values));
  tensors.push_back(matrix("self_attn.o_proj", "attn_output", Role::O, c.hidden_size,
                           c.num_heads * sizes.value_dim, c.output_bias));
  return tensors;
}

LatentAttentionPlan latent_attention_plan(const ModelConfig& config, int layer) {
  LatentAttentionPlan plan;
  const bool is_low_rank = config.latent.query_rank > 0;
  plan.inputs = {is_low_rank ? "self_attn.q_a_proj" : "self_attn.q_proj", "self_attn.kv_a_proj_with_mqa"};
  if (is_low_rank) {
    plan.query_norm = "self_attn.q_a_layernorm";
    plan.query_output = "self_attn.q_b_proj";
  }
  plan.latent_norm = "self_attn.kv_a_layernorm";
  plan.latent_output = "self_attn.kv_b_proj";
  plan.output = "self_attn.o_proj";
  plan.heads = config.num_heads;
  plan.sizes = config.latent;
  plan.scores = config.scores_of(layer);
  return plan;
}

}  // namespace strata
