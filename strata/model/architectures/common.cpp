#include "strata/model/architectures/common.h"

#include <utility>

#include "strata/core/error.h"

namespace strata {
namespace {

void append(std::vector<LayerTensor>& tensors, std::vector<LayerTensor> others) {
  for (LayerTensor& tensor : others) tensors.push_back(std::move(tensor));
}

}  // namespace

LayerTensor matrix(std::string name, std::string gguf_name, Role role, int64_t rows, int64_t cols, bool bias,
                   int64_t permuted_heads) {
  return {std::move(name), std::move(gguf_name), cols, {{role, rows, permuted_heads}}, bias};
}

LayerTensor norm(std::string name, std::string gguf_name, int64_t size, bool bias) {
  return {std::move(name), std::move(gguf_name), size, {}, bias};
}

std::vector<LayerTensor> separate_attention(const ModelConfig& c, bool permuted) {
  const int64_t queries = c.num_heads * c.head_dim, keys = c.num_kv_heads * c.head_dim;
  return {matrix("self_attn.q_proj", "attn_q", Role::Q, queries, c.hidden_size, c.attention_bias,
                 permuted ? c.num_heads : 0),
          matrix("self_attn.k_proj", "attn_k", Role::K, keys, c.hidden_size, c.attention_bias,
                 permuted ? c.num_kv_heads : 0),
          matrix("self_attn.v_proj", "attn_v", Role::V, keys, c.hidden_size, c.attention_bias),
          matrix("self_attn.o_proj", "attn_output", Role::O, c.hidden_size, queries, c.output_bias)};
}

std::vector<LayerTensor> separate_feed_forward(const ModelConfig& c) {
  return {matrix("mlp.gate_proj", "ffn_gate", Role::Gate, c.intermediate_size, c.hidden_size, c.mlp_bias),
          matrix("mlp.up_proj", "ffn_up", Role::Up, c.intermediate_size, c.hidden_size, c.mlp_bias),
          matrix("mlp.down_proj", "ffn_down", Role::Down, c.hidden_size, c.intermediate_size, c.mlp_bias)};
}

std::vector<LayerTensor> fused_feed_forward(const ModelConfig& c) {
  return {{"mlp.gate_up_proj",
           "ffn_up",
           c.hidden_size,
           {{Role::Gate, c.intermediate_size, 0}, {Role::Up, c.intermediate_size, 0}}},
          matrix("mlp.down_proj", "ffn_down", Role::Down, c.hidden_size, c.intermediate_size, false)};
}

FeedForwardPlan fused_feed_forward_plan() {
  return {{"mlp.gate_up_proj"}, "mlp.down_proj"};
}

AttentionPlan separate_attention_plan(const ModelConfig& config, int layer) {
  AttentionPlan attention;
  attention.inputs = {"self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"};
  attention.output = "self_attn.o_proj";
  attention.heads = config.num_heads;
  attention.kv_heads = config.kv_heads_of(layer);
  attention.head_dim = config.head_dim_of(layer);
  attention.scores = config.scores_of(layer);
  return attention;
}

FeedForwardPlan separate_feed_forward_plan() {
  return {{"mlp.gate_proj", "mlp.up_proj"}, "mlp.down_proj"};
}

std::vector<LayerTensor> pre_norm_tensors(const ModelConfig& config, bool permuted) {
  std::vector<LayerTensor> tensors = {norm("input_layernorm", "attn_norm", config.hidden_size)};
  append(tensors, separate_attention(config, permuted));
  tensors.push_back(norm("post_attention_layernorm", "ffn_norm", config.hidden_size));
  append(tensors, separate_feed_forward(config));
  return tensors;
}

LayerPlan pre_norm_plan(const ModelConfig& config, int layer) {
  return {{{"input_layernorm", "", separate_attention_plan(config, layer)},
           {"post_attention_layernorm", "", separate_feed_forward_plan()}}};
}

void write_sliding_period(const ModelConfig& config, std::vector<GgufKey>& keys) {
  if (config.sliding_window > 0)
    keys.push_back({"attention.sliding_window_pattern",
                    gguf_u32(static_cast<uint32_t>(sliding_period(config).value()))});
}

void read_gguf_sliding_period(const GgufKeys& keys, ModelConfig& config, int64_t period, int64_t window) {
  config.sliding_window = keys.integer("attention.sliding_window", window);
  if (config.sliding_window == 0) return;
  // Some files list which layers slide.
  const std::string key = architecture_of(config).gguf_name + ".attention.sliding_window_pattern";
  const GgufValue* value = keys.file().find(key);
  const auto* slides = value == nullptr ? nullptr : std::get_if<std::vector<bool>>(&value->value);
  if (slides == nullptr)
    return slide_by_period(config, keys.integer("attention.sliding_window_pattern", period));
  if (static_cast<int64_t>(slides->size()) < config.num_layers)
    fail("{}: the key {} has {} entries, expected {}, one a layer", keys.file().path().string(), key,
         slides->size(), config.num_layers);
  config.sliding_layers.assign(slides->begin(), slides->begin() + config.num_layers);
}

Json layer_types_json(const ModelConfig& config) {
  Json types = Json::array();
  for (int layer = 0; layer < config.num_layers; ++layer)
    types.push_back(config.slides(layer) ? "sliding_attention" : "full_attention");
  return types;
}

LayerTensor convolution(std::string name, std::string gguf_name, int64_t channels, int64_t width, bool bias) {
  LayerTensor tensor = matrix(std::move(name), std::move(gguf_name), Role::Other, channels, width, bias);
  tensor.kept = tensor.convolution = true;
  return tensor;
}

void read_attention_layers(const ConfigFields& fields, ModelConfig& config, const char* attention,
                           const char* other, const char* key) {
  config.attention_layers = layers_of_type(fields, config, attention, other, key);
}

Json attention_layers_json(const ModelConfig& config, const char* attention, const char* other) {
  Json types = Json::array();
  for (int layer = 0; layer < config.num_layers; ++layer)
    types.push_back(config.attends(layer) ? attention : other);
  return types;
}

void read_gguf_attention_layers(const GgufKeys& keys, ModelConfig& config) {
  config.attention_layers.clear();
  for (const int64_t heads : keys.by_layer("attention.head_count_kv", config.num_layers)) {
    if (heads != 0 && heads != config.num_kv_heads)
      throw NotRunnable(fmt::format("{}: layers with {} and with {} key heads are not supported",
                                    keys.file().path().string(), heads, config.num_kv_heads));
    config.attention_layers.push_back(heads > 0);
  }
}

GgufKey kv_heads_by_layer(const ModelConfig& config) {
  std::vector<int64_t> heads;
  for (int layer = 0; layer < config.num_layers; ++layer)
    heads.push_back(config.attends(layer) ? config.num_kv_heads : 0);
  return {"attention.head_count_kv", gguf_i32s(std::move(heads))};
}

void read_attention_bias(const ConfigFields& fields, ModelConfig& config) {
  config.attention_bias = config.output_bias = fields.flag("attention_bias", false);
}

void write_attention_bias(const ModelConfig& config, const std::string& where, Json& json) {
  if (config.attention_bias != config.output_bias)
    fail(
        "{} has biases on q, k and v but not on attn_output, which no config.json of a {} model can say; "
        "export it as GGUF instead",
        where, config.architecture);
  json["attention_bias"] = config.attention_bias;
}

std::string plain_gguf_refusal(const ModelConfig& config) {
  const RopeScaling::Type scaling = config.rope.scaling.type;
  if (scaling == RopeScaling::Type::Llama3 || scaling == RopeScaling::Type::Divisors)
    return "llama3 rope scaling";
  if (scaling == RopeScaling::Type::Proportional) return "proportional rope";
  if (config.output_bias) return "a bias on o_proj";
  if (config.mlp_bias) return "biases in the MLP";
  return "";
}

}  // namespace strata
