#include "strata/model/architectures/experts.h"

#include <algorithm>
#include <utility>

#include "strata/core/error.h"

namespace strata {
namespace {

LayerTensor expert_stack(const std::string& name, const char* gguf_name, Role role, int64_t experts,
                         int64_t rows, int64_t cols) {
  LayerTensor tensor = matrix(name, gguf_name, role, rows, cols, false);
  tensor.experts = experts;
  return tensor;
}

LayerTensor kept_matrix(const std::string& name, const char* gguf_name, int64_t rows, int64_t cols) {
  LayerTensor tensor = matrix(name, gguf_name, Role::Other, rows, cols, false);
  tensor.kept = true;
  return tensor;
}

}  // namespace

std::vector<LayerTensor> expert_tensors(const ModelConfig& c, const ExpertNames& names) {
  const ExpertSizes& e = c.experts;
  const std::string block = names.block + ".", experts = block + "experts.";
  std::vector<LayerTensor> tensors = {
      kept_matrix(block + names.router, "ffn_gate_inp", e.count, c.hidden_size),
      expert_stack(experts + names.gate, "ffn_gate_exps", Role::Gate, e.count, e.width, c.hidden_size),
      expert_stack(experts + names.up, "ffn_up_exps", Role::Up, e.count, e.width, c.hidden_size),
      expert_stack(experts + names.down, "ffn_down_exps", Role::Down, e.count, c.hidden_size, e.width)};
  for (LayerTensor& tensor : tensors) tensor.bias = names.biases;
  if (!names.all_gate_up.empty()) {
    const bool turns = names.alternating;
    const int64_t step = turns ? 2 : 1, first_up = turns ? 1 : e.width;
    tensors[1].fused_in = {block + names.all_gate_up, 0, step, e.width, 2 * e.width, turns, turns};
    tensors[2].fused_in = {block + names.all_gate_up, first_up, step, e.width, 2 * e.width, turns, turns};
    tensors[3].fused_in = {block + names.all_down, 0, 1, c.hidden_size, c.hidden_size, turns, turns};
  }
  if (!names.bias.empty()) {
    LayerTensor bias = norm(block + names.bias, "exp_probs_b", e.count);
    bias.bare = true;
    bias.gguf_ending = ".bias";
    tensors.push_back(std::move(bias));
  }
  if (e.shared_width == 0) return tensors;
  const std::string shared = block + names.shared;
  if (names.shared_gate)
    tensors.push_back(kept_matrix(shared + "_gate", "ffn_gate_inp_shexp", 1, c.hidden_size));
  const auto add = [&](const std::string& name, const char* gguf_name, Role role, int64_t rows,
                       int64_t cols) {
    tensors.push_back(matrix(shared + "." + name, gguf_name, role, rows, cols, false));
  };
  add(names.gate, "ffn_gate_shexp", Role::Gate, e.shared_width, c.hidden_size);
  add(names.up, "ffn_up_shexp", Role::Up, e.shared_width, c.hidden_size);
  add(names.down, "ffn_down_shexp", Role::Down, c.hidden_size, e.shared_width);
  return tensors;
}

ExpertsPlan experts_plan(const ModelConfig& config, const ExpertNames& names) {
  const auto of = [&](const std::string& prefix) {
    return FeedForwardPlan{{prefix + names.gate, prefix + names.up}, prefix + names.down};
  };
  const std::string block = names.block + ".";
  ExpertsPlan plan;
  plan.router.router = block + names.router;
  plan.router.used = config.experts.used;
  plan.router.renormalized = config.experts.renormalized;
  plan.router.scale = config.experts.scale;
  if (!names.bias.empty()) plan.router.bias = block + names.bias;
  plan.router.groups = config.experts.groups;
  plan.router.groups_used = config.experts.groups_used;
  plan.experts = of(block + "experts.");
  if (config.experts.shared_width == 0) return plan;
  plan.shared = of(block + names.shared + ".");
  if (names.shared_gate) plan.shared_gate = block + names.shared + "_gate";
  return plan;
}

std::vector<LayerTensor> pre_norm_expert_tensors(const ModelConfig& config, int layer, bool permuted,
                                                 const ExpertNames& names) {
  std::vector<LayerTensor> tensors = pre_norm_tensors(config, permuted);
  if (!config.has_experts(layer)) return tensors;
  while (tensors.back().is_matrix()) tensors.pop_back();  // the plain feed-forward block behind its norm
  for (LayerTensor& tensor : expert_tensors(config, names)) tensors.push_back(std::move(tensor));
  return tensors;
}

LayerPlan pre_norm_expert_plan(const ModelConfig& config, int layer, const ExpertNames& names) {
  LayerPlan plan = pre_norm_plan(config, layer);
  if (config.has_experts(layer)) plan.blocks.back().block = experts_plan(config, names);
  return plan;
}

void read_experts(const ConfigFields& fields, const char* width_key, ModelConfig& config) {
  config.experts.count =
      fields.integer(fields.has("num_local_experts") ? "num_local_experts" : "num_experts");
  config.experts.used = fields.integer("num_experts_per_tok");
  config.experts.width = fields.integer(width_key);
}

void read_qwen_experts(const ConfigFields& fields, ModelConfig& config) {
  read_experts(fields, "moe_intermediate_size", config);
  config.experts.renormalized = fields.flag("norm_topk_prob", false);
  const int64_t step = fields.integer("decoder_sparse_step", 1);
  if (step < 1) fail("{}: decoder_sparse_step is {}, but must be positive", fields.where(), step);
  const std::vector<int64_t> plain = fields.integers("mlp_only_layers");
  if (step == 1 && plain.empty()) return;
  for (int64_t layer = 0; layer < config.num_layers; ++layer)
    config.expert_layers.push_back((layer + 1) % step == 0 &&
                                   std::find(plain.begin(), plain.end(), layer) == plain.end());
}

void write_qwen_experts(const ModelConfig& config, Json& json) {
  json["num_experts"] = config.experts.count;
  json["num_experts_per_tok"] = config.experts.used;
  json["moe_intermediate_size"] = config.experts.width;
  json["norm_topk_prob"] = config.experts.renormalized;
  json["decoder_sparse_step"] = 1;
  json["mlp_only_layers"] = Json::array();
  for (int layer = 0; layer < config.num_layers; ++layer)
    if (!config.has_experts(layer)) json["mlp_only_layers"].push_back(layer);
}

void begin_experts(ModelConfig& config, int64_t plain, const std::string& where) {
  if (plain < 0 || plain > config.num_layers)
    fail("{}: the first {} layers have no experts, but there are {} layers", where, plain, config.num_layers);
  for (int64_t layer = 0; plain > 0 && layer < config.num_layers; ++layer)
    config.expert_layers.push_back(layer >= plain);
}

int64_t plain_layers(const ModelConfig& config) {
  int layer = 0;
  while (layer < config.num_layers && !config.has_experts(layer)) ++layer;
  return layer;
}

std::string expert_gguf_refusal(const ModelConfig& config, bool renormalizes) {
  if (!config.expert_layers.empty()) return "layers without experts";
  if (config.experts.renormalized != renormalizes)
    return renormalizes ? "gates of experts that are not renormalized" : "renormalized gates of experts";
  return plain_gguf_refusal(config);
}

}  // namespace strata
