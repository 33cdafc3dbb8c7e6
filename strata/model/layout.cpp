#include "strata/model/layout.h"

#include <fmt/format.h>

#include <array>

namespace strata {
namespace {

struct RoleShape {
  Role role;
  const char* name;
  int64_t rows, cols;
  bool bias;
};

std::array<RoleShape, 7> roles_of(const ModelConfig& c) {
  const int64_t queries = c.num_heads * c.head_dim;
  const int64_t keys = c.num_kv_heads * c.head_dim;
  return {{
      {Role::Q, "self_attn.q_proj", queries, c.hidden_size, c.attention_bias},
      {Role::K, "self_attn.k_proj", keys, c.hidden_size, c.attention_bias},
      {Role::V, "self_attn.v_proj", keys, c.hidden_size, c.attention_bias},
      {Role::O, "self_attn.o_proj", c.hidden_size, queries, c.output_bias},
      {Role::Gate, "mlp.gate_proj", c.intermediate_size, c.hidden_size, c.mlp_bias},
      {Role::Up, "mlp.up_proj", c.intermediate_size, c.hidden_size, c.mlp_bias},
      {Role::Down, "mlp.down_proj", c.hidden_size, c.intermediate_size, c.mlp_bias},
  }};
}

std::string in_layer(int64_t layer, const std::string& name) {
  return fmt::format("model.layers.{}.{}", layer, name);
}

}  // namespace

std::vector<ExpectedTensor> expected_tensors(const ModelConfig& config) {
  std::vector<ExpectedTensor> tensors;
  tensors.push_back({"model.embed_tokens.weight", {config.vocab_size, config.hidden_size}});
  for (int64_t layer = 0; layer < config.num_layers; ++layer) {
    const auto add = [&](const std::string& name, std::vector<int64_t> shape) {
      tensors.push_back({in_layer(layer, name), std::move(shape)});
    };
    add("input_layernorm.weight", {config.hidden_size});
    for (const RoleShape& role : roles_of(config)) {
      if (role.role == Role::Gate) add("post_attention_layernorm.weight", {config.hidden_size});
      add(fmt::format("{}.weight", role.name), {role.rows, role.cols});
      if (role.bias) add(fmt::format("{}.bias", role.name), {role.rows});
    }
    if (config.qk_norm) {
      add("self_attn.q_norm.weight", {config.head_dim});
      add("self_attn.k_norm.weight", {config.head_dim});
    }
  }
  tensors.push_back({"model.norm.weight", {config.hidden_size}});
  if (!config.tied_embeddings) tensors.push_back({"lm_head.weight", {config.vocab_size, config.hidden_size}});
  return tensors;
}

std::vector<Module> linear_modules(const ModelConfig& config) {
  std::vector<Module> modules;
  for (int64_t layer = 0; layer < config.num_layers; ++layer)
    for (const RoleShape& role : roles_of(config))
      modules.push_back({static_cast<int>(layer), role.role, role.name,
                         in_layer(layer, fmt::format("{}.weight", role.name)), role.rows, role.cols});
  return modules;
}

}  // namespace strata
