#include "strata/model/architectures/common.h"
#include "strata/model/architectures/gemma.h"

namespace strata {
namespace {

constexpr int64_t kLayersOfGemma2With27B = 46;

}  // namespace

// Scores of attention and logits are capped; every other layer slides.
Architecture gemma2() {
  Architecture gemma2 = gemma_record("gemma2", "Gemma2ForCausalLM", "gemma2");
  gemma2.defaults.update({{"query_pre_attn_scalar", 256},
                          {"sliding_window", 4096},
                          {"attn_logit_softcapping", 50.0},
                          {"final_logit_softcapping", 30.0}});
  gemma2.read_json = [](const ConfigFields& fields, ModelConfig& config) {
    read_attention_bias(fields, config);
    read_scores(fields, config);
    read_sliding_pattern(fields, config, 2);
  };
  gemma2.write_json = [](const ModelConfig& config, const std::string& where, Json& json) {
    write_attention_bias(config, where, json);
    write_scores(config, json);
  };
  gemma2.read_gguf = [](const GgufKeys& keys, ModelConfig& config) {
    config.attention_scale = gguf_attention_scale(config, kLayersOfGemma2With27B);
    config.attention_softcap = keys.real("attn_logit_softcapping", 50);
    config.final_softcap = keys.real("final_logit_softcapping", 30);
    read_gguf_sliding_period(keys, config, 2);
  };
  gemma2.gguf_keys = [](const ModelConfig& config) {
    std::vector<GgufKey> keys = {
        {"attn_logit_softcapping", gguf_f32(static_cast<float>(config.attention_softcap))},
        {"final_logit_softcapping", gguf_f32(static_cast<float>(config.final_softcap))}};
    write_sliding_period(config, keys);
    return keys;
  };
  gemma2.gguf_refusal = [](const ModelConfig& config) {
    if (config.sliding_window == 0) return std::string("no sliding window");
    if (!(config.attention_softcap > 0 && config.final_softcap > 0))
      return std::string("scores or logits that are not capped");
    return gemma_gguf_refusal(config, kLayersOfGemma2With27B);
  };
  gemma2.tensors = [](const ModelConfig& config, int) { return sandwich_tensors(config); };
  gemma2.plan = sandwich_plan;
  return gemma2;
}

}  // namespace strata
