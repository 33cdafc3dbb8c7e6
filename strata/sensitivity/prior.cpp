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
// layer are 1 together. bench/fit_prior.py prints them: measured KL divergence over relative error, as
// geometric means over tiny-llama and SmolLM2-135M, with those of the first and the last layer taken half-way
// (in logarithms) to those between, since two models are few.
struct RoleWeights {
  double first, between, last;
};

RoleWeights weights_of(Role role) {
  switch (role) {
    case Role::Q:
      return {0.012, 0.032, 0.020};
    case Role::K:
      return {0.013, 0.031, 0.020};
    case Role::V:
      return {0.131, 0.155, 0.097};
    case Role::O:
      return {0.079, 0.047, 0.043};
    case Role::Gate:
      return {0.177, 0.116, 0.188};
    case Role::Up:
      return {0.230, 0.118, 0.304};
    case Role::Down:
      return {0.322, 0.135, 0.383};
    case Role::Other:
      break;
  }
  return {0.14, 0.09, 0.15};  // of no known role: about the mean
}

// Weights beside those of all layers together, from the same command: 0.22 for a matrix that is both, which
// tiny-llama with its embedding stored twice parts as 0.12 to 0.22.
double beside_layers(const std::string& boundary) {
  if (boundary == "embedding") return 0.08;
  return boundary == "head" ? 0.14 : 0.22;
}

// Models that can be sized only have names and no roles: those of GGUF files, or of directories, of which the
// last part counts.
Role role_by_name(std::string_view name) {
  constexpr std::array<std::pair<std::string_view, Role>, 12> kParts = {{{"q_proj", Role::Q},
                                                                         {"k_proj", Role::K},
                                                                         {"v_proj", Role::V},
                                                                         {"qkv_proj", Role::V},
                                                                         {"o_proj", Role::O},
                                                                         {"gate_proj", Role::Gate},
                                                                         {"w1", Role::Gate},
                                                                         {"up_proj", Role::Up},
                                                                         {"w3", Role::Up},
                                                                         {"gate_up_proj", Role::Up},
                                                                         {"down_proj", Role::Down},
                                                                         {"w2", Role::Down}}};
  const std::string_view last = name.substr(name.rfind('.') + 1);
  for (const auto& [part, role] : kParts)
    if (last == part) return role;
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

// A module's name without the parts that are numbers: what the experts of a layer share.
std::string without_numbers(const std::string& name) {
  std::string shared;
  for (size_t start = 0; start <= name.size();) {
    const size_t end = std::min(name.find('.', start), name.size());
    const std::string part = name.substr(start, end - start);
    if (part.find_first_not_of("0123456789") != std::string::npos) shared += "." + part;
    start = end + 1;
  }
  return shared;
}

// The prior's weight of every matrix over its share of the layer's weights, so that the rule that makes costs
// of scores (weighed_costs) gives weight times relative error.
Scores score_prior(const Model& model, const SensitivityOptions&, const Evidence&) {
  std::map<int, double> layer_params;
  for (const Module& module : model.modules)
    layer_params[module.layer] += static_cast<double>(module.params());
  std::map<std::pair<int, std::string>, double> alike;  // matrices that do one thing together
  for (const Module& module : model.modules) ++alike[{module.layer, without_numbers(module.name)}];
  const auto layers = static_cast<int>(model.config.num_layers);
  std::vector<double> values;
  for (const Module& module : model.modules)
    values.push_back(prior_weight(module, layers) / alike[{module.layer, without_numbers(module.name)}] *
                     layer_params[module.layer] / static_cast<double>(module.params()));
  return per_module_scores(model, "prior", values);
}

}  // namespace strata
