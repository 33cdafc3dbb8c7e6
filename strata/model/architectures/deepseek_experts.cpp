#include "strata/model/architectures/deepseek_experts.h"

#include <algorithm>

#include "strata/core/error.h"
#include "strata/model/config_checks.h"

namespace strata {
namespace {

// As many shared experts as make up the one of their widths together.
int64_t shared_experts(const ExpertSizes& experts) {
  return experts.shared_width / experts.width;
}

int64_t shared_width(const ExpertSizes& experts, int64_t count, const std::string& where) {
  constexpr int64_t kMost = 1 << 10;
  if (count < 0 || count > kMost)
    fail("{}: n_shared_experts is {}, but must lie between 0 and {}", where, count, kMost);
  return count * experts.width;
}

}  // namespace

ExpertNames deepseek_names(bool bias) {
  ExpertNames names;
  if (bias) names.bias = "gate.e_score_correction_bias";
  names.shared = "shared_experts";
  names.shared_gate = false;
  return names;
}

void read_deepseek_experts(const ConfigFields& fields, ModelConfig& config) {
  ExpertSizes& experts = config.experts;
  experts.count = fields.integer(fields.has("n_routed_experts") ? "n_routed_experts" : "num_local_experts");
  experts.used = fields.integer("num_experts_per_tok");
  experts.width = fields.integer("moe_intermediate_size");
  experts.shared_width = shared_width(experts, fields.integer("n_shared_experts", 0), fields.where());
  experts.renormalized = fields.flag("norm_topk_prob", false);
  experts.scale = fields.real("routed_scaling_factor", 1);
  experts.groups = fields.integer("n_group", 1);
  experts.groups_used = fields.integer("topk_group", 1);
  begin_experts(config, fields.integer("first_k_dense_replace", 0), fields.where());
}

void write_deepseek_experts(const ModelConfig& config, Json& json) {
  const ExpertSizes& experts = config.experts;
  json["n_routed_experts"] = experts.count;
  json["num_experts_per_tok"] = experts.used;
  json["moe_intermediate_size"] = experts.width;
  json["n_shared_experts"] = shared_experts(experts);
  json["norm_topk_prob"] = experts.renormalized;
  json["routed_scaling_factor"] = experts.scale;
  json["n_group"] = experts.groups;
  json["topk_group"] = experts.groups_used;
  json["first_k_dense_replace"] = plain_layers(config);
  json["num_nextn_predict_layers"] = 0;
}

void read_gguf_deepseek_experts(const GgufKeys& keys, ModelConfig& config) {
  const std::string where = keys.file().path().string();
  const int64_t further = keys.integer("nextn_predict_layers", 0);
  if (further < 0 || further >= config.num_layers)
    fail("{}: {} of {} layers predict further tokens; at least one was expected that does not", where,
         further, config.num_layers);
  config.num_layers -= further;
  ExpertSizes& experts = config.experts;
  experts.shared_width = shared_width(experts, keys.integer("expert_shared_count", 0), where);
  experts.renormalized = keys.flag("expert_weights_norm", false);
  experts.groups = std::max<int64_t>(1, keys.integer("expert_group_count", 1));
  experts.groups_used = std::max<int64_t>(1, keys.integer("expert_group_used_count", 1));
  begin_experts(config, keys.integer("leading_dense_block_count", 0), where);
}

std::vector<GgufKey> deepseek_expert_keys(const ModelConfig& config, GatingKey gating) {
  const ExpertSizes& experts = config.experts;
  const auto number = [](int64_t value) { return gguf_u32(static_cast<uint32_t>(value)); };
  std::vector<GgufKey> keys = {{"expert_shared_count", number(shared_experts(experts))},
                               {"expert_weights_norm", gguf_bool(experts.renormalized)},
                               {"expert_weights_scale", gguf_f32(static_cast<float>(experts.scale))},
                               {"expert_gating_func", number(static_cast<int64_t>(gating))},
                               {"leading_dense_block_count", number(plain_layers(config))}};
  // llama.cpp wants fewer groups used than there are.
  if (experts.groups_used < experts.groups) {
    keys.push_back({"expert_group_count", number(experts.groups)});
    keys.push_back({"expert_group_used_count", number(experts.groups_used)});
  }
  return keys;
}

std::string deepseek_gguf_refusal(const ModelConfig& config) {
  if (config.experts.shared_width == 0) return "no shared expert";
  return plain_gguf_refusal(config);
}

}  // namespace strata
