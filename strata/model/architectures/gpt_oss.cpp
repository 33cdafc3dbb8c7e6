#include "strata/model/architectures/experts.h"

namespace strata {
namespace {

ExpertNames gpt_oss_names() {
  ExpertNames names;
  names.router = "router";
  names.alternating = true;
  names.biases = true;
  return names;
}

constexpr double kSlope = 1.702, kLimit = 7;  // of Activation::ClampedSwiglu

}  // namespace

// Biases everywhere, a sink in every head, every second layer sliding, YaRN, and experts of clamped SwiGLU
// whose gates are a softmax over the chosen.
Architecture gpt_oss() {
  Architecture gpt_oss;
  gpt_oss.model_type = "gpt_oss";
  gpt_oss.class_name = "GptOssForCausalLM";
  gpt_oss.gguf_name = "gpt-oss";
  gpt_oss.experts = true;
  gpt_oss.fused_experts = true;
  gpt_oss.mlx_experts = "experts";
  gpt_oss.rounds_yarn = true;
  gpt_oss.defaults = {{"head_dim", 64},         {"rms_norm_eps", 1e-5},  {"attention_bias", true},
                      {"rope_theta", 150000.0}, {"sliding_window", 128}, {"num_experts_per_tok", 4},
                      {"swiglu_alpha", kSlope}, {"swiglu_limit", kLimit}};
  gpt_oss.read_json = [](const ConfigFields& fields, ModelConfig& config) {
    read_attention_bias(fields, config);
    read_experts(fields, "intermediate_size", config);
    read_sliding_pattern(fields, config, 2);
    if (fields.real("swiglu_alpha", kSlope) != kSlope || fields.real("swiglu_limit", kLimit) != kLimit)
      throw NotRunnable(fmt::format(
          "{}: swiglu_alpha and swiglu_limit are {} and {}, but only {} and {} are supported", fields.where(),
          fields.real("swiglu_alpha", kSlope), fields.real("swiglu_limit", kLimit), kSlope, kLimit));
  };
  gpt_oss.write_json = [](const ModelConfig& config, const std::string& where, Json& json) {
    write_attention_bias(config, where, json);
    json["num_local_experts"] = config.experts.count;
    json["num_experts_per_tok"] = config.experts.used;
    json["sliding_window"] = config.sliding_window > 0 ? Json(config.sliding_window) : Json(nullptr);
    json["layer_types"] = layer_types_json(config);
  };
  gpt_oss.read_gguf = [](const GgufKeys& keys, ModelConfig& config) {
    read_gguf_sliding_period(keys, config, 2);
  };
  gpt_oss.gguf_keys = [](const ModelConfig& config) {
    std::vector<GgufKey> keys;
    write_sliding_period(config, keys);
    return keys;
  };
  gpt_oss.gguf_refusal = [](const ModelConfig& config) {
    if (config.tied_embeddings) return std::string("a head that is the embedding");
    if (!config.attention_bias) return std::string("no biases in attention");
    if (config.sliding_window == 0 || sliding_period(config) != 2)
      return std::string("layers that do not slide in turns");
    return std::string();
  };
  gpt_oss.tensors = [](const ModelConfig& config, int layer) {
    std::vector<LayerTensor> tensors = pre_norm_expert_tensors(config, layer, false, gpt_oss_names());
    for (LayerTensor& tensor : tensors)
      if (tensor.name == "post_attention_layernorm") tensor.gguf_name = "post_attention_norm";
    tensors.push_back(norm("self_attn.sinks", "attn_sinks", config.num_heads));
    tensors.back().bare = true;
    return tensors;
  };
  gpt_oss.plan = [](const ModelConfig& config, int layer) {
    LayerPlan plan = pre_norm_expert_plan(config, layer, gpt_oss_names());
    std::get<AttentionPlan>(plan.blocks.front().block).sinks = "self_attn.sinks";
    if (config.has_experts(layer))
      std::get<ExpertsPlan>(plan.blocks.back().block).experts.activation = Activation::ClampedSwiglu;
    return plan;
  };
  return gpt_oss;
}

}  // namespace strata
