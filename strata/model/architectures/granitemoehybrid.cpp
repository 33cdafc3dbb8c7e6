#include <algorithm>
#include <cmath>

#include "strata/core/error.h"
#include "strata/model/architectures/granite.h"

namespace strata {
namespace {

int64_t head_size(const ConfigFields& fields, const ModelConfig& config) {
  const Json* given = fields.find("mamba_d_head");
  if (given != nullptr && *given != "auto") return fields.integer("mamba_d_head");
  const int64_t values = fields.integer("mamba_expand", 2) * config.hidden_size;
  const int64_t heads = config.recurrence.value_heads;
  if (heads < 1 || values % heads != 0)
    fail("{}: mamba_n_heads is {}, which does not divide {} features", fields.where(), heads, values);
  return values / heads;
}

// The step of a state is held between these two; softplus is above 0 by itself.
void check_step_limits(const ConfigFields& fields) {
  const Json* limits = fields.find("time_step_limit");
  if (limits == nullptr || !limits->is_array() || limits->size() != 2) return;
  const Json &low = (*limits)[0], &high = (*limits)[1];
  if ((low.is_number() && low.get<double>() > 0) || (high.is_number() && std::isfinite(high.get<double>())))
    throw NotRunnable(fields.where() + ": steps that time_step_limit bounds are not supported");
}

void read_granite_hybrid_json(const ConfigFields& fields, ModelConfig& config) {
  if (fields.flag("mamba_proj_bias", false))
    throw NotRunnable(fields.where() + ": biases of Mamba's projections are not supported");
  check_step_limits(fields);
  read_attention_bias(fields, config);
  read_multipliers(fields, config);
  const int64_t shared_width = fields.integer("shared_intermediate_size", 1024);
  if (fields.integer("num_local_experts", 8) > 0) {
    read_experts(fields, "intermediate_size", config);
    config.experts.shared_width = shared_width;
  } else {
    config.intermediate_size = shared_width;
  }
  // Checkpoints that transformers 4 has written call them so.
  const Json* types = fields.find("layer_types");
  const bool old = types != nullptr && types->is_array() &&
                   std::any_of(types->begin(), types->end(),
                               [](const Json& type) { return type == "mamba" || type == "attention"; });
  read_attention_layers(fields, config, old ? "attention" : "full_attention",
                        old ? "mamba" : "linear_attention");
  if (config.attention_layers.empty())
    config.attention_layers.assign(static_cast<size_t>(config.num_layers), false);
  if (fields.text("position_embedding_type", "nope") != "rope")
    config.rotating_layers.assign(static_cast<size_t>(config.num_layers), false);
  config.convolution = {fields.integer("mamba_d_conv", 4), fields.flag("mamba_conv_bias", true)};
  RecurrenceSizes& sizes = config.recurrence;
  sizes.key_heads = fields.integer("mamba_n_groups", 1);
  sizes.key_dim = fields.integer("mamba_d_state", 256);
  sizes.value_heads = fields.integer("mamba_n_heads", 128);
  sizes.value_dim = head_size(fields, config);
}

void write_granite_hybrid_json(const ModelConfig& config, const std::string& where, Json& json) {
  write_attention_bias(config, where, json);
  write_multipliers(config, json);
  const ExpertSizes& experts = config.experts;
  json["shared_intermediate_size"] = experts.count > 0 ? experts.shared_width : config.intermediate_size;
  json["num_local_experts"] = experts.count;
  if (experts.count > 0) json["num_experts_per_tok"] = experts.used;
  json["layer_types"] = attention_layers_json(config, "full_attention", "linear_attention");
  json["position_embedding_type"] = config.rotating_layers.empty() ? Json("rope") : Json(nullptr);
  json["mamba_d_conv"] = config.convolution.width;
  json["mamba_conv_bias"] = config.convolution.bias;
  json["mamba_proj_bias"] = false;
  json["mamba_n_groups"] = config.recurrence.key_heads;
  json["mamba_d_state"] = config.recurrence.key_dim;
  json["mamba_n_heads"] = config.recurrence.value_heads;
  json["mamba_d_head"] = config.recurrence.value_dim;
  json["mamba_expand"] = config.recurrence.values() / config.hidden_size;
}

void read_granite_hybrid_gguf(const GgufKeys& keys, ModelConfig& config) {
  read_gguf_multipliers(keys, config);
  read_gguf_attention_layers(keys, config);
  if (config.experts.count > 0)
    config.experts.shared_width = keys.integer("expert_shared_feed_forward_length", 0);
  // llama.cpp's switch of rope in this graph.
  if (!keys.flag("rope.scaling.finetuned", true))
    config.rotating_layers.assign(static_cast<size_t>(config.num_layers), false);
  RecurrenceSizes& sizes = config.recurrence;
  sizes.key_heads = keys.integer("ssm.group_count");
  sizes.key_dim = keys.integer("ssm.state_size");
  sizes.value_heads = keys.integer("ssm.time_step_rank");
  sizes.value_dim = keys.integer("ssm.inner_size") / std::max<int64_t>(1, sizes.value_heads);
  config.convolution.width = keys.integer("ssm.conv_kernel");
  for (int layer = 0; layer < config.num_layers; ++layer)
    if (!config.attends(layer))
      config.convolution.bias =
          keys.file().find_tensor(fmt::format("blk.{}.ssm_conv1d.bias", layer)) != nullptr;
}

std::vector<GgufKey> granite_hybrid_gguf_keys(const ModelConfig& config) {
  const auto integer = [](int64_t value) { return gguf_u32(static_cast<uint32_t>(value)); };
  std::vector<GgufKey> keys = multiplier_keys(config);
  keys.push_back(kv_heads_by_layer(config));
  if (config.experts.count > 0)
    keys.push_back({"expert_shared_feed_forward_length", integer(config.experts.shared_width)});
  keys.push_back({"rope.scaling.finetuned", gguf_bool(config.rotating_layers.empty())});
  keys.push_back({"ssm.conv_kernel", integer(config.convolution.width)});
  keys.push_back({"ssm.group_count", integer(config.recurrence.key_heads)});
  keys.push_back({"ssm.state_size", integer(config.recurrence.key_dim)});
  keys.push_back({"ssm.time_step_rank", integer(config.recurrence.value_heads)});
  keys.push_back({"ssm.inner_size", integer(config.recurrence.values())});
  return keys;
}

std::string granite_hybrid_gguf_refusal(const ModelConfig& config) {
  if (config.recurrence.values() != 2 * config.hidden_size)
    return "states that are not of twice the hidden size";
  return plain_gguf_refusal(config);
}

std::vector<LayerTensor> mamba_tensors(const ModelConfig& c) {
  const RecurrenceSizes& sizes = c.recurrence;
  const int64_t channels = sizes.values() + 2 * sizes.keys(), heads = sizes.value_heads;
  const auto of_heads = [&](const char* name, const char* gguf_name, const char* ending) {
    LayerTensor tensor = norm(name, gguf_name, heads);
    tensor.bare = true;
    tensor.gguf_ending = ending;
    return tensor;
  };
  std::vector<LayerTensor> tensors = {
      matrix("mamba.in_proj", "ssm_in", Role::Other, sizes.values() + channels + heads, c.hidden_size, false),
      convolution("mamba.conv1d", "ssm_conv1d", channels, c.convolution.width, c.convolution.bias),
      of_heads("mamba.dt_bias", "ssm_dt", ".bias"),
      of_heads("mamba.A_log", "ssm_a", ""),
      of_heads("mamba.D", "ssm_d", ""),
      norm("mamba.norm", "ssm_norm", sizes.values()),
      matrix("mamba.out_proj", "ssm_out", Role::Other, c.hidden_size, sizes.values(), false)};
  tensors[3].form = StoredForm::LogOfNegative;
  tensors[3].gguf_shape = tensors[4].gguf_shape = {heads, 1};
  const int64_t groups = std::max<int64_t>(1, sizes.key_heads);  // names are asked for without sizes, too
  tensors[5].gguf_shape = {groups, sizes.values() / groups};
  return tensors;
}

// The feed-forward block that all tokens read: alone, or beside the experts.
std::vector<LayerTensor> shared_tensors(const ModelConfig& config) {
  const bool alone = config.experts.count == 0;
  const int64_t width = alone ? config.intermediate_size : config.experts.shared_width;
  const std::string ending = alone ? "" : "_shexp";
  LayerTensor input{"shared_mlp.input_linear",
                    "ffn_gate" + ending,
                    config.hidden_size,
                    {{Role::Gate, width, 0}, {Role::Up, width, 0}}};
  input.gguf_parts = {"ffn_gate" + ending, "ffn_up" + ending};
  return {input, matrix("shared_mlp.output_linear", "ffn_down" + ending, Role::Down, config.hidden_size,
                        width, false)};
}

FeedForwardPlan shared_plan() {
  return {{"shared_mlp.input_linear"}, "shared_mlp.output_linear"};
}

// The config as it is of the experts alone: what all tokens read has names of its own.
ModelConfig without_shared(ModelConfig config) {
  config.experts.shared_width = 0;
  return config;
}

std::vector<LayerTensor> granite_hybrid_tensors(const ModelConfig& config, int layer) {
  std::vector<LayerTensor> tensors = {norm("input_layernorm", "attn_norm", config.hidden_size)};
  const auto add = [&](const std::vector<LayerTensor>& more) {
    tensors.insert(tensors.end(), more.begin(), more.end());
  };
  add(config.attends(layer) ? separate_attention(config, true) : mamba_tensors(config));
  tensors.push_back(norm("post_attention_layernorm", "ffn_norm", config.hidden_size));
  if (config.experts.count > 0) add(expert_tensors(without_shared(config), granite_expert_names()));
  if (config.experts.count == 0 || config.experts.shared_width > 0) add(shared_tensors(config));
  return tensors;
}

LayerPlan granite_hybrid_plan(const ModelConfig& config, int layer) {
  BlockPlan mixer{"input_layernorm", "",
                  MambaPlan{"mamba.in_proj", "mamba.conv1d", "mamba.A_log", "mamba.dt_bias", "mamba.D",
                            "mamba.norm", "mamba.out_proj"}};
  if (config.attends(layer)) mixer.block = separate_attention_plan(config, layer);
  BlockPlan reader{"post_attention_layernorm", "", shared_plan()};
  if (config.experts.count > 0) {
    ExpertsPlan experts = experts_plan(without_shared(config), granite_expert_names());
    if (config.experts.shared_width > 0) experts.shared = shared_plan();
    reader.block = experts;
  }
  return {{mixer, reader}};
}

}  // namespace

// Granite 4: Mamba 2 in most layers and attention without rope in the others, with the multipliers of
// Granite; in the larger members experts beside a feed-forward block that all tokens read.
Architecture granitemoehybrid() {
  Architecture hybrid;
  hybrid.model_type = "granitemoehybrid";
  hybrid.class_name = "GraniteMoeHybridForCausalLM";
  hybrid.gguf_name = "granitehybrid";
  hybrid.sizes_by_layer = true;
  hybrid.experts = std::nullopt;
  hybrid.fused_experts = true;
  hybrid.defaults = {{"intermediate_size", 11008}, {"num_local_experts", 8}, {"num_experts_per_tok", 2}};
  hybrid.read_json = read_granite_hybrid_json;
  hybrid.write_json = write_granite_hybrid_json;
  hybrid.read_gguf = read_granite_hybrid_gguf;
  hybrid.gguf_keys = granite_hybrid_gguf_keys;
  hybrid.gguf_refusal = granite_hybrid_gguf_refusal;
  hybrid.tensors = granite_hybrid_tensors;
  hybrid.plan = granite_hybrid_plan;
  return hybrid;
}

}  // namespace strata
