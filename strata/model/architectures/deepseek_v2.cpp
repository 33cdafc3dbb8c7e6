#include "strata/model/architectures/deepseek.h"
#include "strata/model/architectures/deepseek_experts.h"
#include "strata/model/architectures/latent_attention.h"

namespace strata {

// Gates are a softmax over all experts, and groups are chosen by their best one.
Architecture deepseek_v2() {
  Architecture deepseek_v2 = deepseek();
  deepseek_v2.model_type = "deepseek_v2";
  deepseek_v2.class_name = "DeepseekV2ForCausalLM";
  deepseek_v2.read_json = [](const ConfigFields& fields, ModelConfig& config) {
    read_deepseek_experts(fields, config);
    read_latent_attention(fields, config);
    config.rope.neighbours = true;
    const std::string method = fields.text("topk_method", "greedy");
    if (method == "greedy")
      config.experts.groups = config.experts.groups_used = 1;
    else if (method != "group_limited_greedy")
      throw NotRunnable(fields.where() + ": topk_method is '" + method +
                        "', but only greedy and group_limited_greedy are supported");
    config.experts.renormalized = false;  // whatever norm_topk_prob says, as transformers has it
  };
  deepseek_v2.write_json = [](const ModelConfig& config, const std::string&, Json& json) {
    write_latent_attention(config, json);
    write_deepseek_experts(config, json);
    json["topk_method"] = config.experts.groups > 1 ? "group_limited_greedy" : "greedy";
  };
  deepseek_v2.fits_gguf = [](const GgufKeys& keys) {
    return keys.integer("expert_gating_func", 1) != static_cast<int64_t>(GatingKey::Sigmoid);
  };
  deepseek_v2.gguf_keys = [](const ModelConfig& config) {
    std::vector<GgufKey> keys = deepseek_expert_keys(config, GatingKey::Softmax);
    for (GgufKey& key : latent_attention_keys(config)) keys.push_back(std::move(key));
    return keys;
  };
  deepseek_v2.gguf_refusal = [](const ModelConfig& config) {
    const std::string refusal = deepseek().gguf_refusal(config);
    if (!refusal.empty()) return refusal;
    return std::string(config.experts.groups_used < config.experts.groups
                           ? "groups of experts that are chosen by their best one"
                           : "");
  };
  deepseek_v2.tensors = [](const ModelConfig& config, int layer) {
    return deepseek_tensors(config, layer, /*bias=*/false);
  };
  deepseek_v2.plan = [](const ModelConfig& config, int layer) {
    LayerPlan plan = deepseek_plan(config, layer, /*bias=*/false);
    if (config.has_experts(layer))
      std::get<ExpertsPlan>(plan.blocks.back().block).router.group_score = RouterPlan::GroupScore::Best;
    return plan;
  };
  return deepseek_v2;
}

}  // namespace strata
