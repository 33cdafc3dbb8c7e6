#include "strata/model/architectures/experts.h"
#include "strata/model/architectures/lfm2.h"

namespace strata {
namespace {

constexpr uint32_t kSigmoid = 2;  // llama.cpp's expert_gating_func

ExpertNames lfm2_expert_names() {
  ExpertNames names;
  names.block = "feed_forward";
  names.gate = "w1";
  names.up = "w3";
  names.down = "w2";
  names.bias = "expert_bias";
  return names;
}

void read_lfm2_moe_json(const ConfigFields& fields, ModelConfig& config) {
  read_lfm2_json(fields, config);
  if (!fields.flag("use_expert_bias", true))
    throw NotRunnable(fields.where() + ": use_expert_bias is false, which is not supported");
  read_experts(fields, "moe_intermediate_size", config);
  config.experts.renormalized = fields.flag("norm_topk_prob", true);
  config.experts.scale = fields.real("routed_scaling_factor", 1);
  begin_experts(config, fields.integer("num_dense_layers", 2), fields.where());
}

void write_lfm2_moe_json(const ModelConfig& config, const std::string& where, Json& json) {
  write_lfm2_json(config, where, json);
  json["use_expert_bias"] = true;
  json["num_experts"] = config.experts.count;
  json["num_experts_per_tok"] = config.experts.used;
  json["moe_intermediate_size"] = config.experts.width;
  json["norm_topk_prob"] = config.experts.renormalized;
  json["routed_scaling_factor"] = config.experts.scale;
  json["num_dense_layers"] = plain_layers(config);
}

std::vector<GgufKey> lfm2_moe_gguf_keys(const ModelConfig& config) {
  std::vector<GgufKey> keys = lfm2_gguf_keys(config);
  keys.push_back({"leading_dense_block_count", gguf_u32(static_cast<uint32_t>(plain_layers(config)))});
  keys.push_back({"expert_gating_func", gguf_u32(kSigmoid)});
  return keys;
}

std::string lfm2_moe_gguf_refusal(const ModelConfig& config) {
  if (!config.experts.renormalized) return "gates of experts that are not renormalized";
  if (config.experts.scale != 1) return "scaled gates of experts";
  return lfm2_gguf_refusal(config);
}

}  // namespace

// LFM2 with experts in all layers but the first.
Architecture lfm2_moe() {
  Architecture moe = lfm2_record("lfm2_moe", "Lfm2MoeForCausalLM", "lfm2moe");
  moe.experts = true;
  moe.defaults.update({{"intermediate_size", 7168},
                       {"moe_intermediate_size", 1792},
                       {"num_experts", 32},
                       {"num_experts_per_tok", 4}});
  moe.read_json = read_lfm2_moe_json;
  moe.write_json = write_lfm2_moe_json;
  moe.read_gguf = [](const GgufKeys& keys, ModelConfig& config) {
    read_lfm2_gguf(keys, config);
    begin_experts(config, keys.integer("leading_dense_block_count", 0), keys.file().path().string());
  };
  moe.gguf_keys = lfm2_moe_gguf_keys;
  moe.gguf_refusal = lfm2_moe_gguf_refusal;
  moe.tensors = [](const ModelConfig& config, int layer) {
    std::vector<LayerTensor> tensors = lfm2_mixer_tensors(config, layer);
    for (LayerTensor& tensor : config.has_experts(layer) ? expert_tensors(config, lfm2_expert_names())
                                                         : lfm2_feed_forward_tensors(config))
      tensors.push_back(std::move(tensor));
    return tensors;
  };
  moe.plan = [](const ModelConfig& config, int layer) {
    LayerPlan plan = lfm2_mixer_plan(config, layer);
    BlockPlan block{"ffn_norm", "", lfm2_feed_forward_plan()};
    if (config.has_experts(layer)) {
      ExpertsPlan experts = experts_plan(config, lfm2_expert_names());
      experts.router.score = RouterPlan::Score::Sigmoid;
      block.block = experts;
    }
    plan.blocks.push_back(std::move(block));
    return plan;
  };
  return moe;
}

}  // namespace strata
