#include "strata/model/architectures/deepseek.h"

#include <utility>

#include "strata/model/architectures/deepseek_experts.h"
#include "strata/model/architectures/latent_attention.h"

namespace strata {

Architecture deepseek() {
  Architecture deepseek;
  deepseek.gguf_name = "deepseek2";
  deepseek.experts = true;
  deepseek.latent_attention = true;
  deepseek.partial_rotary = true;
  deepseek.write_json = [](const ModelConfig& config, const std::string&, Json& json) {
    write_latent_attention(config, json);
    write_deepseek_experts(config, json);
  };
  deepseek.read_gguf = [](const GgufKeys& keys, ModelConfig& config) {
    config.rope.neighbours = true;
    read_gguf_deepseek_experts(keys, config);
    read_gguf_latent_attention(keys, config);
  };
  deepseek.gguf_refusal = [](const ModelConfig& config) {
    const std::string refusal = latent_gguf_refusal(config);
    return refusal.empty() ? deepseek_gguf_refusal(config) : refusal;
  };
  return deepseek;
}

std::vector<LayerTensor> deepseek_tensors(const ModelConfig& config, int layer, bool bias) {
  std::vector<LayerTensor> tensors;
  for (LayerTensor& tensor : pre_norm_expert_tensors(config, layer, false, deepseek_names(bias))) {
    // The latent attention takes the place of the usual one, behind its norm.
    if (tensor.name.rfind("self_attn.", 0) != 0) tensors.push_back(std::move(tensor));
    if (tensors.back().name != "input_layernorm" || tensors.size() > 1) continue;
    for (LayerTensor& own : latent_attention_tensors(config)) tensors.push_back(std::move(own));
  }
  return tensors;
}

LayerPlan deepseek_plan(const ModelConfig& config, int layer, bool bias) {
  LayerPlan plan = pre_norm_expert_plan(config, layer, deepseek_names(bias));
  plan.blocks.front().block = latent_attention_plan(config, layer);
  return plan;
}

}  // namespace strata
