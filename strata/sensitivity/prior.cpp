#include "strata/sensitivity/prior.h"

#include <algorithm>
#include <array>
#include <map>
#include <string>
#include <string_view>
#include <utility>

#include "strata/model/boundary_modules.h"
#include "strata/sensitivity/methods.h"
#include "strata/sensitivity/module_scores.h"

namespace strata {
namespace {

// The weights of a role in the first layer, in those between and in the last, where all weights of an average
// layer are 1 together. bench/fit_prior.py prints them: geometric means over tiny-llama and SmolLM2-135M of
// measured KL divergence over relative error.
struct RoleWeights {
  double first, between, last;
};

RoleWeights weights_of(Role role) {
  switch (role) {
    case Role::Q:
      return {0.01, 0.05, 0.02};
    case Role::K:
      return {0.01, 0.06, 0.02};
    case Role::V:
      return {0.15, 0.17, 0.07};
    case Role::O:
      return {0.22, 0.06, 0.04};
    case Role::Gate:
      return {0.33, 0.14, 0.38};
    case Role::Up:
      return {0.50, 0.13, 0.60};
    case Role::Down:
      return {0.85, 0.19, 1.30};
    case Role::Other:
      break;
  }
  return {0.30, 0.12, 0.30};  // of no known role: about the mean
}

// Weights beside those of all layers together.
double beside_layers(const std::string& boundary) {
  if (boundary == "embedding") return 0.13;
  return boundary == "head" ? 0.24 : 0.37;
}

// Models that can be sized only have names and no roles.
Role role_by_name(std::string_view name) {
  constexpr std::array<std::pair<std::string_view, Role>, 8> kNames = {{{"attn_qkv", Role::V},
                                                                        {"attn_q", Role::Q},
                                                                        {"attn_k", Role::K},
                                                                        {"attn_v", Role::V},
                                                                        {"attn_output", Role::O},
                                                                        {"ffn_gate", Role::Gate},
                                                                        {"ffn_up", Role::Up},
                                                                        {"ffn_down", Role::Down}}};
  for (const auto& [start, role] : kNames)
    if (name.substr(0, start.size()) == start) return role;
  return Role::Other;
}

}  // namespace

double prior_weight(const Module& module, int layers) {
  const auto weight = [&](Role role) {
    const RoleWeights weights = weights_of(role);
    if (module.layer == 0) return weights.first;
    return module.layer == layers - 1 ? weights.last : weights.between;
  };
  if (module.parts.empty())
    return weight(module.role == Role::Other ? role_by_name(module.name) : module.role);
  double sum = 0;  // of rows that do several things, each with the matrix's relative error
  for (const RowPart& part : module.parts) sum += weight(part.role);
  return sum;
}

double prior_beside_layers(const Module& boundary) {
  return beside_layers(boundary.name);
}

// The prior's weight of every matrix over its share of the layer's weights, so that the rule that makes costs
// of scores (weighed_costs) gives weight times relative error.
Scores score_prior(const Model& model, const SensitivityOptions&, const Evidence&) {
  std::map<int, double> layer_params;
  for (const Module& module : model.modules)
    layer_params[module.layer] += static_cast<double>(module.params());
  const auto layers = static_cast<int>(model.config.num_layers);
  std::vector<double> values;
  for (const Module& module : model.modules)
    values.push_back(prior_weight(module, layers) * layer_params[module.layer] /
                     static_cast<double>(module.params()));
  return per_module_scores(model, "prior", values);
}

}  // namespace strata
