#include "strata/model/architectures/qwen3_5.h"

#include <algorithm>

#include "strata/core/error.h"

namespace strata {
namespace {

constexpr int64_t kUsualInterval = 4;  // of layers that attend

// The interval at which layers attend, the last of each; 0: they follow none.
int64_t attention_interval(const ModelConfig& config) {
  for (int64_t interval = 1; interval <= config.num_layers + 1; ++interval) {
    bool equal = true;
    for (int layer = 0; equal && layer < config.num_layers; ++layer)
      equal = config.attends(layer) == ((layer + 1) % interval == 0);
    if (equal) return interval;
  }
  return 0;
}

void attend_by_interval(ModelConfig& config, int64_t interval, const std::string& where) {
  if (interval < 1) fail("{}: full_attention_interval is {}, but must be positive", where, interval);
  config.attention_layers.clear();
  for (int64_t layer = 0; layer < config.num_layers; ++layer)
    config.attention_layers.push_back((layer + 1) % interval == 0);
}

std::vector<LayerTensor> gated_attention_tensors(const ModelConfig& c) {
  const int64_t queries = c.num_heads * c.head_dim, keys = c.num_kv_heads * c.head_dim;
  // Every head has its query above its gate.
  return {matrix("self_attn.q_proj", "attn_q", Role::Other, 2 * queries, c.hidden_size, c.attention_bias),
          matrix("self_attn.k_proj", "attn_k", Role::K, keys, c.hidden_size, c.attention_bias),
          matrix("self_attn.v_proj", "attn_v", Role::V, keys, c.hidden_size, c.attention_bias),
          matrix("self_attn.o_proj", "attn_output", Role::O, c.hidden_size, queries, c.output_bias),
          norm("self_attn.q_norm", "attn_q_norm", c.head_dim),
          norm("self_attn.k_norm", "attn_k_norm", c.head_dim)};
}

std::vector<LayerTensor> delta_net_tensors(const ModelConfig& c) {
  const RecurrenceSizes& sizes = c.recurrence;
  const int64_t channels = 2 * sizes.keys() + sizes.values(), heads = sizes.value_heads;
  const auto kept = [&](const char* name, const char* gguf_name) {
    LayerTensor tensor = matrix(name, gguf_name, Role::Other, heads, c.hidden_size, false);
    tensor.kept = true;
    tensor.value_rows = heads;
    return tensor;
  };
  const auto of_heads = [&](const char* name, const char* gguf_name, const char* ending, StoredForm form) {
    LayerTensor tensor = norm(name, gguf_name, heads);
    tensor.bare = true;
    tensor.gguf_ending = ending;
    tensor.form = form;
    tensor.value_cols = heads;
    return tensor;
  };
  std::vector<LayerTensor> tensors = {
      matrix("linear_attn.in_proj_qkv", "attn_qkv", Role::Other, channels, c.hidden_size, false),
      matrix("linear_attn.in_proj_z", "attn_gate", Role::Other, sizes.values(), c.hidden_size, false),
      kept("linear_attn.in_proj_b", "ssm_beta"),
      kept("linear_attn.in_proj_a", "ssm_alpha"),
      convolution("linear_attn.conv1d", "ssm_conv1d", channels, c.convolution.width, false),
      of_heads("linear_attn.A_log", "ssm_a", "", StoredForm::LogOfNegative),
      of_heads("linear_attn.dt_bias", "ssm_dt", ".bias", StoredForm::Plain),
      norm("linear_attn.norm", "ssm_norm", sizes.value_dim),
      matrix("linear_attn.out_proj", "ssm_out", Role::Other, c.hidden_size, sizes.values(), false)};
  for (const size_t with_values : {0, 1, 4}) tensors[with_values].value_rows = sizes.values();
  tensors[7].form = StoredForm::Plain;
  tensors[8].value_cols = sizes.values();
  return tensors;
}

}  // namespace

void read_qwen3_5_json(const ConfigFields& fields, ModelConfig& config) {
  read_attention_bias(fields, config);
  if (!fields.flag("attn_output_gate", true))
    throw NotRunnable(fields.where() + ": attention without a gate of its output is not supported");
  read_attention_layers(fields, config, "full_attention", "linear_attention");
  if (config.attention_layers.empty())
    attend_by_interval(config, fields.integer("full_attention_interval", kUsualInterval), fields.where());
  config.convolution.width = fields.integer("linear_conv_kernel_dim");
  config.recurrence = {fields.integer("linear_num_key_heads"), fields.integer("linear_num_value_heads"),
                       fields.integer("linear_key_head_dim"), fields.integer("linear_value_head_dim"), false};
  if (const Json* rope = fields.find("rope_parameters"))
    config.rope.sections =
        ConfigFields(*rope, fields.where() + ": rope_parameters").integers("mrope_section");
}

void write_qwen3_5_json(const ModelConfig& config, const std::string& where, Json& json) {
  write_attention_bias(config, where, json);
  json["attn_output_gate"] = true;
  json["layer_types"] = attention_layers_json(config, "full_attention", "linear_attention");
  json["linear_conv_kernel_dim"] = config.convolution.width;
  json["linear_num_key_heads"] = config.recurrence.key_heads;
  json["linear_num_value_heads"] = config.recurrence.value_heads;
  json["linear_key_head_dim"] = config.recurrence.key_dim;
  json["linear_value_head_dim"] = config.recurrence.value_dim;
  Json rope = json["rope_scaling"].is_object() ? json["rope_scaling"] : Json{{"rope_type", "default"}};
  rope["rope_theta"] = config.rope.theta;
  rope["partial_rotary_factor"] =
      static_cast<double>(config.rope.rotary_dim) / static_cast<double>(config.head_dim);
  rope["mrope_section"] = config.rope.sections;
  rope["mrope_interleaved"] = true;
  json["rope_parameters"] = rope;
  for (const char* old : {"rope_theta", "rope_scaling", "partial_rotary_factor"}) json.erase(old);
}

void read_qwen3_5_gguf(const GgufKeys& keys, ModelConfig& config) {
  // Behind the layers stand those that predict further tokens.
  config.num_layers -= keys.integer("nextn_predict_layers", 0);
  attend_by_interval(config, keys.integer("full_attention_interval", kUsualInterval),
                     keys.file().path().string());
  config.convolution.width = keys.integer("ssm.conv_kernel");
  RecurrenceSizes& sizes = config.recurrence;
  sizes.key_heads = keys.integer("ssm.group_count");
  sizes.value_heads = keys.integer("ssm.time_step_rank");
  sizes.key_dim = keys.integer("ssm.state_size");
  sizes.value_dim = keys.integer("ssm.inner_size") / std::max<int64_t>(1, sizes.value_heads);
  sizes.tiled = sizes.value_heads != sizes.key_heads;
  config.rope.sections = keys.integers("rope.dimension_sections");
  while (!config.rope.sections.empty() && config.rope.sections.back() == 0) config.rope.sections.pop_back();
}

std::vector<GgufKey> qwen3_5_gguf_keys(const ModelConfig& config) {
  const auto integer = [](int64_t value) { return gguf_u32(static_cast<uint32_t>(value)); };
  std::vector<int64_t> sections = config.rope.sections;
  sections.resize(4);
  return {{"full_attention_interval", integer(attention_interval(config))},
          {"rope.dimension_sections", gguf_i32s(std::move(sections))},
          {"ssm.conv_kernel", integer(config.convolution.width)},
          {"ssm.group_count", integer(config.recurrence.key_heads)},
          {"ssm.time_step_rank", integer(config.recurrence.value_heads)},
          {"ssm.state_size", integer(config.recurrence.key_dim)},
          {"ssm.inner_size", integer(config.recurrence.values())}};
}

std::string qwen3_5_gguf_refusal(const ModelConfig& config) {
  if (attention_interval(config) == 0) return "layers that attend at no regular interval";
  if (config.recurrence.key_dim != config.recurrence.value_dim)
    return "key heads and value heads of different sizes";
  return plain_gguf_refusal(config);
}

std::vector<LayerTensor> qwen3_5_mixer_tensors(const ModelConfig& config, int layer) {
  std::vector<LayerTensor> tensors =
      config.attends(layer) ? gated_attention_tensors(config) : delta_net_tensors(config);
  tensors.insert(tensors.begin(), norm("input_layernorm", "attn_norm", config.hidden_size));
  tensors.push_back(norm("post_attention_layernorm", "post_attention_norm", config.hidden_size));
  return tensors;
}

LayerPlan qwen3_5_mixer_plan(const ModelConfig& config, int layer) {
  BlockPlan mixer{"input_layernorm", "",
                  DeltaNetPlan{"linear_attn.in_proj_qkv", "linear_attn.in_proj_z", "linear_attn.in_proj_b",
                               "linear_attn.in_proj_a", "linear_attn.conv1d", "linear_attn.A_log",
                               "linear_attn.dt_bias", "linear_attn.norm", "linear_attn.out_proj"}};
  if (config.attends(layer)) {
    AttentionPlan attention = separate_attention_plan(config, layer);
    attention.q_norm = "self_attn.q_norm";
    attention.k_norm = "self_attn.k_norm";
    attention.output_gate = true;
    mixer.block = attention;
  }
  return {{mixer}};
}

Architecture qwen3_5_record(const char* model_type, const char* class_name, const char* gguf_name) {
  Architecture record;
  record.model_type = model_type;
  record.class_name = class_name;
  record.gguf_name = gguf_name;
  record.norm_form = StoredForm::LessOne;
  record.partial_rotary = true;
  record.defaults = {{"vocab_size", 248320},
                     {"num_attention_heads", 16},
                     {"max_position_embeddings", 32768},
                     {"head_dim", 256},
                     {"partial_rotary_factor", 0.25},
                     {"linear_conv_kernel_dim", 4},
                     {"linear_key_head_dim", 128},
                     {"linear_value_head_dim", 128},
                     {"linear_num_key_heads", 16},
                     {"linear_num_value_heads", 32}};
  record.read_json = read_qwen3_5_json;
  record.write_json = write_qwen3_5_json;
  record.read_gguf = read_qwen3_5_gguf;
  record.gguf_keys = qwen3_5_gguf_keys;
  record.gguf_refusal = qwen3_5_gguf_refusal;
  record.complete = [](ModelConfig& config) {
    if (config.rope.sections.empty()) config.rope.sections = {11, 11, 10};  // as transformers has it
  };
  return record;
}

Architecture qwen3_5_text() {
  Architecture qwen3_5 = qwen3_5_record("qwen3_5_text", "Qwen3_5ForCausalLM", "qwen35");
  qwen3_5.defaults.update({{"hidden_size", 4096},
                           {"intermediate_size", 12288},
                           {"num_hidden_layers", 32},
                           {"num_key_value_heads", 4}});
  qwen3_5.tensors = [](const ModelConfig& config, int layer) {
    std::vector<LayerTensor> tensors = qwen3_5_mixer_tensors(config, layer);
    for (LayerTensor& tensor : separate_feed_forward(config)) tensors.push_back(std::move(tensor));
    return tensors;
  };
  qwen3_5.plan = [](const ModelConfig& config, int layer) {
    LayerPlan plan = qwen3_5_mixer_plan(config, layer);
    plan.blocks.push_back({"post_attention_layernorm", "", separate_feed_forward_plan()});
    return plan;
  };
  return qwen3_5;
}

}  // namespace strata
