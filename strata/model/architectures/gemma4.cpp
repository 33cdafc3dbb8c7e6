#include <algorithm>
#include <set>

#include "strata/core/error.h"
#include "strata/model/architectures/common.h"
#include "strata/model/architectures/gemma.h"

namespace strata {
namespace {

// Of layer `layer` what per_layer_config says of it in the place of the whole config, as transformers writes
// it.
int64_t layer_integer(const ConfigFields& fields, int layer, const char* key, int64_t otherwise) {
  const Json* of_layers = fields.find("per_layer_config");
  const auto number = std::to_string(layer);
  if (of_layers == nullptr || !of_layers->is_object() || !of_layers->contains(number)) return otherwise;
  const ConfigFields of_layer((*of_layers)[number], fields.where() + ": per_layer_config." + number);
  return of_layer.integer(key, otherwise);
}

// Whether a later layer attends to what this one leaves.
bool gives_keys(const ModelConfig& config, int layer) {
  for (int later = layer + 1; later < config.num_layers; ++later)
    if (config.key_layer(later) == layer) return true;
  return false;
}

void read_gemma4_json(const ConfigFields& fields, ModelConfig& config) {
  if (fields.flag("enable_moe_block", false))
    throw NotRunnable(fields.where() + ": Gemma 4's mixture of experts is not supported");
  if (fields.text("use_bidirectional_attention", "vision") != "vision")
    throw NotRunnable(fields.where() + ": attention that looks ahead is not supported");
  read_attention_bias(fields, config);
  read_sliding_pattern(fields, config, 6);
  if (config.sliding_window == 0 || config.slides(static_cast<int>(config.num_layers) - 1))
    fail("{}: the last layer slides or none does, but of a gemma4_text model the last one sees all tokens",
         fields.where());
  if (!config.sliding_rope)
    fail("{}: rope_parameters must have an entry for sliding_attention and one for full_attention",
         fields.where());
  config.attention_scale = 1;
  config.final_softcap = fields.real("final_logit_softcapping", 0);
  config.layer_embedding_size = fields.integer("hidden_size_per_layer_input", 256);
  const int64_t rows = fields.integer("vocab_size_per_layer_input", 262144);
  if (config.layer_embedding_size > 0 && rows != config.vocab_size)
    throw NotRunnable(fmt::format(
        "{}: vocab_size_per_layer_input is {} and vocab_size {}; only equal numbers are supported",
        fields.where(), rows, config.vocab_size));
  config.kv_shared_layers = fields.integer("num_kv_shared_layers", 0);
  config.wide_sharing_layers = fields.flag("use_double_wide_mlp", false);
  config.sliding_head_dim = config.head_dim;
  config.sliding_kv_heads = config.num_kv_heads;
  config.keys_are_values = fields.flag("attention_k_eq_v", false);
  const int64_t of_all = config.keys_are_values
                             ? fields.integer("num_global_key_value_heads", config.num_kv_heads)
                             : config.num_kv_heads;
  const int64_t head_dim = fields.integer("global_head_dim", 512);
  std::set<std::pair<int64_t, int64_t>> found;
  for (int layer = 0; layer < config.num_layers; ++layer)
    if (!config.slides(layer))
      found.insert({layer_integer(fields, layer, "head_dim", head_dim),
                    layer_integer(fields, layer, "num_key_value_heads", of_all)});
  if (found.size() != 1)
    throw NotRunnable(fields.where() + ": layers of one kind whose heads differ are not supported");
  std::tie(config.head_dim, config.num_kv_heads) = *found.begin();
  config.rope.rotary_dim = config.head_dim;
}

void write_gemma4_json(const ModelConfig& config, const std::string& where, Json& json) {
  write_attention_bias(config, where, json);
  json["head_dim"] = config.sliding_head_dim;
  json["num_key_value_heads"] = config.sliding_kv_heads;
  json["global_head_dim"] = config.head_dim;
  json["num_global_key_value_heads"] = config.num_kv_heads;
  json["attention_k_eq_v"] = config.keys_are_values;
  json["final_logit_softcapping"] = config.final_softcap > 0 ? Json(config.final_softcap) : Json(nullptr);
  json["sliding_window"] = config.sliding_window;
  json["layer_types"] = layer_types_json(config);
  json["hidden_activation"] = json["hidden_act"];
  json["hidden_size_per_layer_input"] = config.layer_embedding_size;
  json["vocab_size_per_layer_input"] = config.vocab_size;
  json["num_kv_shared_layers"] = config.kv_shared_layers;
  json["use_double_wide_mlp"] = config.wide_sharing_layers;
  Json of_all = json["rope_scaling"];
  of_all["rope_theta"] = config.rope.theta;
  json["rope_parameters"] = {
      {"full_attention", of_all},
      {"sliding_attention", {{"rope_type", "default"}, {"rope_theta", config.sliding_rope->theta}}}};
  for (const char* old : {"rope_theta", "rope_scaling"}) json.erase(old);
}

// Divisors of pairs of which the first turn and the others stand still.
void read_turning_part(const GgufKeys& keys, Rope& rope) {
  const std::vector<float>& divisors = rope.scaling.divisors;
  const auto still =
      std::find_if(divisors.begin(), divisors.end(), [](float divisor) { return divisor != 1; });
  constexpr float kStandingStill = 1e20f;
  if (divisors.empty() ||
      std::any_of(still, divisors.end(), [](float divisor) { return divisor < kStandingStill; }))
    throw NotRunnable(keys.file().path().string() + ": rope_freqs.weight is not that of proportional rope");
  rope.scaling.turning_part =
      static_cast<double>(still - divisors.begin()) / static_cast<double>(divisors.size());
  rope.scaling.type = RopeScaling::Type::Proportional;
}

void read_gemma4_gguf(const GgufKeys& keys, ModelConfig& config) {
  read_gguf_sliding_period(keys, config, 6);
  config.layer_embedding_size = keys.integer("embedding_length_per_layer_input", 0);
  config.kv_shared_layers = keys.integer("attention.shared_kv_layers", 0);
  config.wide_sharing_layers =
      config.kv_shared_layers > 0 &&
      keys.by_layer("feed_forward_length", config.num_layers).back() == 2 * config.intermediate_size;
  config.attention_scale = 1;
  config.final_softcap = keys.real("final_logit_softcapping", 0);
  config.sliding_head_dim = keys.integer("attention.key_length_swa");
  config.sliding_rope = Rope{keys.real("rope.freq_base_swa", 1e4), config.sliding_head_dim, {}};
  const std::vector<int64_t> kv_heads = keys.by_layer("attention.head_count_kv", config.num_layers);
  for (int layer = 0; layer < config.num_layers; ++layer) {
    int64_t& of_kind = config.slides(layer) ? config.sliding_kv_heads : config.num_kv_heads;
    of_kind = kv_heads[static_cast<size_t>(layer)];
    if (!config.slides(layer) && !config.shares_keys(layer))
      config.keys_are_values = keys.file().find_tensor(fmt::format("blk.{}.attn_v.weight", layer)) == nullptr;
  }
  read_turning_part(keys, config.rope);
}

std::vector<GgufKey> gemma4_gguf_keys(const ModelConfig& config) {
  const auto integer = [](int64_t value) { return gguf_u32(static_cast<uint32_t>(value)); };
  std::vector<bool> slides;
  std::vector<int64_t> kv_heads, widths;
  for (int layer = 0; layer < config.num_layers; ++layer) {
    slides.push_back(config.slides(layer));
    kv_heads.push_back(config.kv_heads_of(layer));
    widths.push_back(config.intermediate_size_of(layer));
  }
  std::vector<GgufKey> keys = {
      {"attention.sliding_window_pattern", gguf_bools(slides)},
      {"attention.key_length_swa", integer(config.sliding_head_dim)},
      {"attention.value_length_swa", integer(config.sliding_head_dim)},
      {"attention.shared_kv_layers", integer(config.kv_shared_layers)},
      {"embedding_length_per_layer_input", integer(config.layer_embedding_size)},
      {"rope.dimension_count_swa", integer(config.sliding_head_dim)},
      {"rope.freq_base_swa", gguf_f32(static_cast<float>(config.sliding_rope->theta))}};
  if (config.sliding_kv_heads != config.num_kv_heads)
    keys.push_back({"attention.head_count_kv", gguf_i32s(kv_heads)});
  if (widths.back() != widths.front()) keys.push_back({"feed_forward_length", gguf_i32s(widths)});
  if (config.final_softcap > 0)
    keys.push_back({"final_logit_softcapping", gguf_f32(static_cast<float>(config.final_softcap))});
  return keys;
}

std::string gemma4_gguf_refusal(const ModelConfig& config) {
  if (config.rope.scaling.type != RopeScaling::Type::Proportional) return "rope that is not proportional";
  if (config.sliding_rope->scaling.type != RopeScaling::Type::None) return "scaled rope in sliding layers";
  if (config.attention_bias) return "biases in attention";
  const auto first = static_cast<int>(config.num_layers - config.kv_shared_layers);
  for (int layer = first; layer < config.num_layers; ++layer)
    if (config.key_layer(layer) != first - (config.slides(layer) ? 2 : 1))
      return "shared keys and values that are not those of the last two other layers, the first of which "
             "slides";
  return "";
}

void leave_out(std::vector<LayerTensor>& tensors, const std::string& name) {
  tensors.erase(std::find_if(tensors.begin(), tensors.end(),
                             [&](const LayerTensor& tensor) { return tensor.name == name; }));
}

std::vector<LayerTensor> gemma4_tensors(const ModelConfig& config, int layer) {
  ModelConfig of_layer = config;
  of_layer.head_dim = config.head_dim_of(layer);
  of_layer.num_kv_heads = config.kv_heads_of(layer);
  of_layer.intermediate_size = config.intermediate_size_of(layer);
  std::vector<LayerTensor> tensors = sandwich_tensors(of_layer);
  const bool has_keys = !config.shares_keys(layer);
  if (!has_keys) leave_out(tensors, "self_attn.k_proj");
  if (!has_keys || (config.keys_are_values && !config.slides(layer))) leave_out(tensors, "self_attn.v_proj");
  tensors.push_back(norm("self_attn.q_norm", "attn_q_norm", of_layer.head_dim));
  if (has_keys) tensors.push_back(norm("self_attn.k_norm", "attn_k_norm", of_layer.head_dim));
  if (const int64_t size = config.layer_embedding_size; size > 0) {
    tensors.push_back(
        matrix("per_layer_input_gate", "inp_gate", Role::Other, size, config.hidden_size, false));
    tensors.push_back(matrix("per_layer_projection", "proj", Role::Other, config.hidden_size, size, false));
    tensors.push_back(norm("post_per_layer_input_norm", "post_norm", config.hidden_size));
  }
  tensors.push_back(norm("layer_scalar", "layer_output_scale", 1));
  tensors.back().bare = true;
  return tensors;
}

LayerPlan gemma4_plan(const ModelConfig& config, int layer) {
  LayerPlan plan = sandwich_plan(config, layer);
  plan.scale = "layer_scalar";
  auto& attention = std::get<AttentionPlan>(plan.blocks.front().block);
  attention.q_norm = "self_attn.q_norm";
  attention.k_norm = "self_attn.k_norm";
  attention.norms_values = true;
  attention.keys_are_values = config.keys_are_values && !config.slides(layer);
  if (attention.keys_are_values) attention.inputs.pop_back();
  if (config.shares_keys(layer)) {
    attention.inputs.resize(1);
    attention.takes_keys = carried_keys(config, layer);
  } else if (gives_keys(config, layer)) {
    attention.gives_keys = carried_keys(config, layer);
  }
  if (config.layer_embedding_size > 0)
    plan.blocks.push_back({"", "post_per_layer_input_norm",
                           LayerEmbeddingPlan{"per_layer_input_gate", "per_layer_projection",
                                              carried_features(config, layer)}});
  return plan;
}

}  // namespace

// Gemma 3 with whole gains. Layers that do not slide have heads of another size and number, of which a part
// rotates, and may take their keys for values; values are normed, scores are not scaled, and a scalar
// multiplies what leaves a layer. In the smaller members every layer ends with an embedding of its own, and
// the last ones take the keys and values of earlier layers.
Architecture gemma4_text() {
  Architecture gemma4 = gemma_record("gemma4_text", "Gemma4ForCausalLM", "gemma4");
  gemma4.norm_form = StoredForm::Plain;
  gemma4.sizes_by_layer = true;
  gemma4.defaults.update(
      {{"vocab_size", 262144},
       {"hidden_size", 2304},
       {"intermediate_size", 9216},
       {"num_hidden_layers", 30},
       {"num_attention_heads", 8},
       {"num_key_value_heads", 4},
       {"max_position_embeddings", 131072},
       {"sliding_window", 512},
       {"rope_parameters",
        {{"full_attention",
          {{"rope_type", "proportional"}, {"partial_rotary_factor", 0.25}, {"rope_theta", 1e6}}},
         {"sliding_attention", {{"rope_type", "default"}, {"rope_theta", 1e4}}}}}});
  gemma4.read_json = read_gemma4_json;
  gemma4.write_json = write_gemma4_json;
  gemma4.read_gguf = read_gemma4_gguf;
  gemma4.gguf_keys = gemma4_gguf_keys;
  gemma4.gguf_refusal = gemma4_gguf_refusal;
  gemma4.tensors = gemma4_tensors;
  gemma4.plan = gemma4_plan;
  return gemma4;
}

}  // namespace strata
