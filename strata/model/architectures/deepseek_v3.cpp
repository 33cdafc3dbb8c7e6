#include "strata/model/architectures/deepseek.h"
#include "strata/model/architectures/deepseek_experts.h"
#include "strata/model/architectures/latent_attention.h"

namespace strata {

// Gates are sigmoids; a bias that they do not see chooses experts, and the two best of a group choose it.
Architecture deepseek_v3() {
  Architecture deepseek_v3 = deepseek();
  deepseek_v3.model_type = "deepseek_v3";
  deepseek_v3.class_name = "DeepseekV3ForCausalLM";
  deepseek_v3.read_json = [](const ConfigFields& fields, ModelConfig& config) {
    read_deepseek_experts(fields, config);
    read_latent_attention(fields, config);
    config.rope.neighbours = fields.flag("rope_interleave", true);
  };
  deepseek_v3.fits_gguf = [](const GgufKeys& keys) {
    return keys.integer("expert_gating_func", 1) == static_cast<int64_t>(GatingKey::Sigmoid);
  };
  deepseek_v3.gguf_keys = [](const ModelConfig& config) {
    std::vector<GgufKey> keys = deepseek_expert_keys(config, GatingKey::Sigmoid);
    for (GgufKey& key : latent_attention_keys(config)) keys.push_back(std::move(key));
    return keys;
  };
  deepseek_v3.tensors = [](const ModelConfig& config, int layer) {
    return deepseek_tensors(config, layer, /*bias=*/true);
  };
  deepseek_v3.plan = [](const ModelConfig& config, int layer) {
    LayerPlan plan = deepseek_plan(config, layer, /*bias=*/true);
    if (config.has_experts(layer))
      std::get<ExpertsPlan>(plan.blocks.back().block).router.score = RouterPlan::Score::Sigmoid;
    return plan;
  };
  return deepseek_v3;
}

// DeepSeek V3 with more experts and fewer heads, under a name of its own in config.json.
Architecture kimi_k2() {
  Architecture kimi_k2 = deepseek_v3();
  kimi_k2.model_type = "kimi_k2";
  return kimi_k2;
}

}  // namespace strata
