#include "strata/model/architectures/gemma.h"

#include <cmath>

#include "strata/core/error.h"
#include "strata/model/architectures/common.h"

namespace strata {
namespace {

double inverse_root(double value) {
  return 1 / std::sqrt(value);
}

LayerPlan with_gelu(LayerPlan plan) {
  std::get<FeedForwardPlan>(plan.blocks.back().block).activation = Activation::Gelu;
  return plan;
}

}  // namespace

Architecture gemma_record(const char* model_type, const char* class_name, const char* gguf_name) {
  Architecture gemma;
  gemma.model_type = model_type;
  gemma.class_name = class_name;
  gemma.gguf_name = gguf_name;
  gemma.defaults = {{"head_dim", 256}, {"tie_word_embeddings", true}};
  gemma.activations = {"gelu_pytorch_tanh"};
  gemma.norm_form = StoredForm::LessOne;
  gemma.complete = [](ModelConfig& config) {
    config.embedding_scale = std::sqrt(static_cast<double>(config.hidden_size));
  };
  return gemma;
}

std::vector<LayerTensor> sandwich_tensors(const ModelConfig& config) {
  std::vector<LayerTensor> tensors = {norm("input_layernorm", "attn_norm", config.hidden_size)};
  for (LayerTensor& tensor : separate_attention(config, false)) tensors.push_back(std::move(tensor));
  tensors.push_back(norm("post_attention_layernorm", "post_attention_norm", config.hidden_size));
  tensors.push_back(norm("pre_feedforward_layernorm", "ffn_norm", config.hidden_size));
  for (LayerTensor& tensor : separate_feed_forward(config)) tensors.push_back(std::move(tensor));
  tensors.push_back(norm("post_feedforward_layernorm", "post_ffw_norm", config.hidden_size));
  return tensors;
}

LayerPlan sandwich_plan(const ModelConfig& config, int layer) {
  return with_gelu(
      {{{"input_layernorm", "post_attention_layernorm", separate_attention_plan(config, layer)},
        {"pre_feedforward_layernorm", "post_feedforward_layernorm", separate_feed_forward_plan()}}});
}

void read_scores(const ConfigFields& fields, ModelConfig& config) {
  const double scalar = fields.real("query_pre_attn_scalar", static_cast<double>(config.head_dim));
  if (!(scalar > 0)) fail("{}: query_pre_attn_scalar is {}, but must be positive", fields.where(), scalar);
  config.attention_scale = inverse_root(scalar);
  config.attention_softcap = fields.real("attn_logit_softcapping", 0);
  config.final_softcap = fields.real("final_logit_softcapping", 0);
}

void write_scores(const ModelConfig& config, Json& json) {
  const auto or_none = [](double value) { return value > 0 ? Json(value) : Json(nullptr); };
  json["query_pre_attn_scalar"] = 1 / (config.attention_scale * config.attention_scale);
  json["attn_logit_softcapping"] = or_none(config.attention_softcap);
  json["final_logit_softcapping"] = or_none(config.final_softcap);
  json["sliding_window"] = config.sliding_window > 0 ? Json(config.sliding_window) : Json(nullptr);
  json["layer_types"] = layer_types_json(config);
  json["hidden_activation"] = json["hidden_act"];
}

double gguf_attention_scale(const ModelConfig& config, int64_t layers_of_largest) {
  const bool is_largest = config.num_layers == layers_of_largest;
  return inverse_root(
      static_cast<double>(is_largest ? config.hidden_size / config.num_heads : config.head_dim));
}

std::string gemma_gguf_refusal(const ModelConfig& config, int64_t layers_of_largest) {
  const double scale = gguf_attention_scale(config, layers_of_largest);
  if (std::abs(config.attention_scale - scale) > 1e-6 * scale)
    return fmt::format("a query_pre_attn_scalar of {:.6g}",
                       1 / (config.attention_scale * config.attention_scale));
  if (config.sliding_window > 0 && !sliding_period(config)) return "sliding layers that follow no period";
  if (config.attention_bias) return "biases in attention";
  if (!config.tied_embeddings) return "a head of its own";
  return plain_gguf_refusal(config);
}

// The layer of Llama.
Architecture gemma() {
  Architecture gemma = gemma_record("gemma", "GemmaForCausalLM", "gemma");
  gemma.activations.push_back("gelu");  // of early configs, which meant the same
  gemma.read_json = read_attention_bias;
  gemma.write_json = write_attention_bias;
  gemma.gguf_refusal = [](const ModelConfig& config) {
    if (config.attention_bias) return std::string("biases in attention");
    if (!config.tied_embeddings) return std::string("a head of its own");
    return plain_gguf_refusal(config);
  };
  gemma.tensors = [](const ModelConfig& config, int) { return pre_norm_tensors(config, false); };
  gemma.plan = [](const ModelConfig& config, int layer) { return with_gelu(pre_norm_plan(config, layer)); };
  return gemma;
}

}  // namespace strata
