#include "strata/allocation/problem.h"

#include <algorithm>
#include <map>
#include <set>
#include <utility>

#include "strata/core/error.h"

namespace strata {
namespace {

std::vector<std::vector<size_t>> tie_classes(const std::vector<AllocationModule>& modules, Ties ties) {
  std::map<std::pair<int, std::string>, size_t> index;
  std::vector<std::vector<size_t>> classes;
  for (size_t m = 0; m < modules.size(); ++m) {
    const std::string part = modules[m].is_boundary() ? modules[m].tensor
                             : ties == Ties::Layer    ? ""
                             : ties == Ties::Fused    ? fused_part(modules[m].module)
                                                      : modules[m].tensor;
    const auto [found, is_new] = index.emplace(std::make_pair(modules[m].layer, part), classes.size());
    if (is_new) classes.emplace_back();
    classes[found->second].push_back(m);
  }
  std::stable_sort(classes.begin(), classes.end(), [&](const auto& a, const auto& b) {
    return modules[a.front()].layer < modules[b.front()].layer;
  });
  return classes;
}

std::vector<Scheme> menu_of(const Scores& scores, const AllocatorOptions& options) {
  std::vector<Scheme> given = options.schemes;
  const std::string& usual = find_allocator(options.name).schemes;
  if (given.empty() && !usual.empty()) given = parse_schemes(usual);
  std::set<std::string> seen;
  if (given.empty())
    for (const Cost& cost : scores.costs)
      if (seen.insert(cost.scheme).second) given.push_back(parse_scheme(cost.scheme));
  if (given.empty())
    fail_usage("there are no schemes to choose from, since the scores of {} have no costs; give --schemes",
               scores.method);
  seen.clear();
  std::vector<Scheme> menu;
  for (const Scheme& scheme : given)
    if (seen.insert(scheme.name()).second) menu.push_back(scheme);
  return menu;
}

std::vector<AllocationModule> with_boundaries(std::vector<AllocationModule> modules,
                                              const AllocatorOptions& options) {
  modules.insert(modules.end(), options.boundaries.begin(), options.boundaries.end());
  return modules;
}

// Weights of the layers' modules; the sums of their bits must stay exact in double precision.
int64_t checked_weights(const std::vector<AllocationModule>& modules) {
  constexpr int64_t kMost = int64_t{1} << 46;
  if (modules.empty()) fail("there is no module to give a scheme to");
  int64_t weights = 0;
  int64_t of_layers = 0;
  for (const AllocationModule& module : modules) {
    if (module.rows < 1 || module.cols < 1 || module.rows > kMost / module.cols ||
        (weights += module.params()) > kMost)
      fail("{} has the shape [{}, {}], expected a matrix, and at most 2^46 weights in all", module.tensor,
           module.rows, module.cols);
    if (!module.is_boundary()) of_layers += module.params();
  }
  return of_layers;
}

}  // namespace

std::string fused_part(const std::string& module) {
  const auto has = [&](const char* part) { return module.find(part) != std::string::npos; };
  if (has(".experts.") || has("_exps")) return "experts";
  static const std::map<std::string, std::string> parts = {
      {"q_proj", "qkv"},
      {"k_proj", "qkv"},
      {"v_proj", "qkv"},
      {"attn_q", "qkv"},
      {"attn_k", "qkv"},
      {"attn_v", "qkv"},
      {"up_proj", "gate_up"},
      {"gate_proj", "gate_up"},
      {"ffn_up", "gate_up"},
      {"ffn_gate", "gate_up"},
      {"w1", "gate_up"},
      {"w3", "gate_up"},
      {"in_proj_qkv", "in_proj_qkvz"},
      {"in_proj_z", "in_proj_qkvz"},
      {"attn_qkv", "qkvz"},
      {"attn_gate", "qkvz"},
  };
  const size_t dot = module.rfind('.');
  const auto found = parts.find(dot == std::string::npos ? module : module.substr(dot + 1));
  if (found == parts.end()) return module;
  return (dot == std::string::npos ? "" : module.substr(0, dot + 1)) + found->second;
}

AllocationProblem::AllocationProblem(const std::vector<AllocationModule>& all_modules,
                                     const Scores& file_scores, const AllocatorOptions& all_options)
    : modules(with_boundaries(all_modules, all_options)),
      scores(file_scores),
      options(all_options),
      costs(modules, file_scores),
      menu(menu_of(file_scores, all_options)),
      classes(tie_classes(modules, all_options.ties)),
      limits(all_options.budget, checked_weights(modules)) {
  for (const auto& members : classes) {
    auto& row = uses.emplace_back();
    for (const Scheme& scheme : menu) {
      row.push_back({});
      for (size_t m : members) row.back() += use_of(modules[m], scheme);
    }
  }
}

Use AllocationProblem::total(const std::vector<int>& chosen) const {
  Use sum{};
  for (size_t c = 0; c < classes.size(); ++c) sum += uses[c][chosen[c]];
  return sum;
}

Use AllocationProblem::total_of_scheme(size_t scheme) const {
  return total(std::vector<int>(classes.size(), static_cast<int>(scheme)));
}

std::string AllocationProblem::possible_with() const {
  std::string text = menu.size() == 1 ? "the scheme " : "the schemes ";
  for (size_t s = 0; s < menu.size(); ++s) text += (s > 0 ? ", " : "") + menu[s].name();
  if (options.ties == Ties::Fused) text += " and fused modules tied";
  if (options.ties == Ties::Layer) text += " and layers tied";
  return text;
}

std::vector<int> AllocationProblem::largest() const {
  std::vector<int> chosen;
  for (const auto& row : uses)
    chosen.push_back(static_cast<int>(std::max_element(row.begin(), row.end()) - row.begin()));
  return chosen;
}

void AllocationProblem::check_each_limit() const {
  Use smallest{};
  for (const auto& row : uses)
    for (size_t r = 0; r < smallest.size(); ++r)
      smallest[r] += (*std::min_element(row.begin(), row.end(),
                                        [r](const Use& a, const Use& b) { return a[r] < b[r]; }))[r];
  limits.check_smallest(smallest, possible_with());
}

void AllocationProblem::fail_together() const {
  fail_usage("no plan with {} meets the budget of {}; raise one of its limits", possible_with(),
             options.budget.text());
}

std::vector<int> AllocationProblem::fill_in_layer_order(std::vector<int> from,
                                                        const std::vector<int>& to) const {
  Use use = total(from);
  for (size_t c = 0; c < classes.size(); ++c) {
    Use moved = use;
    moved -= uses[c][from[c]];
    moved += uses[c][to[c]];
    if (!limits.allow(moved)) continue;
    use = moved;
    from[c] = to[c];
  }
  return from;
}

}  // namespace strata
