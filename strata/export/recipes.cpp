#include "strata/export/recipes.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <cctype>
#include <map>
#include <optional>
#include <set>

#include "strata/core/error.h"
#include "strata/core/json.h"
#include "strata/core/regex.h"
#include "strata/core/text.h"
#include "strata/export/module_patterns.h"
#include "strata/model/gguf_names.h"

namespace strata {
namespace {

// Modules of each scheme, the most frequent scheme first.
struct SchemeModules {
  Scheme scheme;
  std::vector<LayerModule> modules;
};

using Place = LayerModule (*)(const std::string& tensor);

// The number of the model's layers where the plan has all of them; 0 where it has not, or may not.
int64_t layers_of(const Plan& plan, Place place = layer_module) {
  std::set<int> layers;
  for (const Assignment& assignment : plan.assignments) layers.insert(place(assignment.tensor).layer);
  const bool all =
      plan.layers > 0 && static_cast<int64_t>(layers.size()) == plan.layers && *layers.rbegin() < plan.layers;
  return all ? plan.layers : 0;
}

std::vector<SchemeModules> by_scheme(const Plan& plan, Place place = layer_module) {
  std::vector<SchemeModules> groups;
  for (const Assignment& assignment : plan.assignments) {
    auto found = std::find_if(groups.begin(), groups.end(),
                              [&](const SchemeModules& g) { return g.scheme == assignment.scheme; });
    if (found == groups.end()) found = groups.insert(found, {assignment.scheme, {}});
    found->modules.push_back(place(assignment.tensor));
  }
  std::stable_sort(groups.begin(), groups.end(), [](const SchemeModules& a, const SchemeModules& b) {
    return a.modules.size() > b.modules.size();
  });
  return groups;
}

void require_affine(const Plan& plan, const std::string& program) {
  for (const Assignment& a : plan.assignments) {
    const AffineScheme& scheme = a.scheme.affine;
    const bool known = a.scheme.kind == Scheme::Kind::Affine && scheme.axis == 1 &&
                       scheme.scales == ScaleStorage::Half && (scheme.symmetric || scheme.integer_zero);
    if (!known)
      fail_usage(
          "the plan gives {} the scheme {}, which {} cannot make; plan with symmetric groups (w4g128s) or "
          "integer "
          "zero points (w4g128z)",
          a.tensor, a.scheme.name(), program);
  }
}

std::string lower_case(std::string_view text) {
  std::string lower(text);
  for (char& c : lower) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  return lower;
}

// A line for every set of layers of a type: "^blk\.(0|7)\.(attn_q|attn_k)\.weight$=q4_k".
std::string llama_quantize(const Plan& plan) {
  for (const Assignment& a : plan.assignments)
    if (a.scheme.kind != Scheme::Kind::Gguf)
      fail_usage(
          "the plan gives {} the scheme {}, which llama-quantize cannot make; plan with GGUF types (Q4_K)",
          a.tensor, a.scheme.name());
  const int64_t layers = layers_of(plan, gguf_layer_module);
  std::map<std::string, std::map<std::vector<int>, std::vector<std::string>>> lines;  // type, layers, names
  for (const SchemeModules& group : by_scheme(plan, gguf_layer_module)) {
    std::map<std::string, std::vector<int>> layers_by_name;
    for (const LayerModule& module : group.modules)
      layers_by_name[escaped(module.name)].push_back(module.layer);
    for (const auto& [name, numbers] : layers_by_name) lines[group.scheme.name()][numbers].push_back(name);
  }
  std::string text;
  for (const auto& [type, sets] : lines)
    for (const auto& [numbers, names] : sets) {
      const std::string stem = names.size() == 1 ? names.front() : fmt::format("({})", fmt::join(names, "|"));
      text += fmt::format("^blk\\.{}\\.{}\\.weight$={}\n", layers_pattern(numbers, layers), stem,
                          lower_case(type));
    }
  return text;
}

Json gptq_settings(const AffineScheme& scheme) {
  return {{"bits", scheme.bits},
          {"group_size", scheme.group_size == 0 ? -1 : scheme.group_size},
          {"sym", scheme.symmetric}};
}

std::string gptqmodel(const Plan& plan) {
  require_affine(plan, "GPTQModel");
  const std::vector<SchemeModules> groups = by_scheme(plan);
  Json config = gptq_settings(groups.front().scheme.affine);
  for (const SchemeModules& group : groups) {
    if (const int bits = group.scheme.affine.bits; bits != 2 && bits != 3 && bits != 4 && bits != 8)
      fail_usage("the plan has {}, but GPTQ checkpoints hold 2, 3, 4 and 8 bits", group.scheme.name());
    if (&group == &groups.front()) continue;
    for (const std::string& pattern : module_patterns(group.modules, layers_of(plan), true))
      config["dynamic"]["+:" + pattern] = gptq_settings(group.scheme.affine);
  }
  return config.dump(1) + "\n";
}

// JSON's strings are YAML's too, so patterns need no quoting of their own.
std::string llm_compressor(const Plan& plan) {
  require_affine(plan, "llm-compressor");
  std::string text =
      "quant_stage:\n  quant_modifiers:\n    GPTQModifier:\n      ignore: [lm_head]\n      config_groups:\n";
  int number = 0;
  for (const SchemeModules& group : by_scheme(plan)) {
    const AffineScheme& scheme = group.scheme.affine;
    Json targets = Json::array();
    for (const std::string& pattern : module_patterns(group.modules, layers_of(plan), false))
      targets.push_back("re:" + pattern);
    text += fmt::format(
        "        group_{}:\n          targets: {}\n          weights:\n            num_bits: {}\n"
        "            type: int\n            symmetric: {}\n            strategy: {}\n",
        number++, targets.dump(), scheme.bits, scheme.symmetric,
        scheme.group_size == 0 ? "channel" : "group");
    if (scheme.group_size > 0) text += fmt::format("            group_size: {}\n", scheme.group_size);
  }
  return text;
}

std::string autoround(const Plan& plan) {
  require_affine(plan, "AutoRound");
  Json config = Json::object();
  for (const Assignment& a : plan.assignments) {
    layer_module(a.tensor);
    Json settings = gptq_settings(a.scheme.affine);
    settings["data_type"] = "int";
    config[a.tensor.substr(0, a.tensor.rfind('.'))] = settings;
  }
  return config.dump(1) + "\n";
}

struct Rule {
  std::string expression;
  Regex regex;
  Scheme scheme;
  int line;
  bool found = false;
};

std::string trimmed(const std::string& text) {
  const size_t first = text.find_first_not_of(" \t\r");
  if (first == std::string::npos) return {};
  return text.substr(first, text.find_last_not_of(" \t\r") - first + 1);
}

std::vector<Rule> read_rules(const std::string& text, const std::string& where) {
  std::vector<Rule> rules;
  int number = 0;
  for (size_t begin = 0; begin < text.size(); ++number) {
    const size_t end = std::min(text.find('\n', begin), text.size());
    const std::string line = trimmed(text.substr(begin, end - begin));
    begin = end + 1;
    if (line.empty()) continue;
    const size_t equals = line.rfind('=');
    if (equals == std::string::npos || equals == 0)
      fail("{}, line {}: \"{}\" was found; REGEX=TYPE was expected, such as attn_q=q4_k", where, number + 1,
           printable(line));
    try {
      Scheme scheme;
      scheme.kind = Scheme::Kind::Gguf;
      scheme.gguf = parse_gguf_type(line.substr(equals + 1));
      rules.push_back({line.substr(0, equals), Regex(line.substr(0, equals)), scheme, number + 1});
    } catch (const Error& error) {
      fail("{}, line {}: {}", where, number + 1, error.what());
    }
  }
  if (rules.empty()) fail("{} has no line REGEX=TYPE", where);
  return rules;
}

// The scheme of the first rule that is found in the tensor's name, null where there is none; all that are
// found are marked.
const Scheme* find_scheme(std::vector<Rule>& rules, const std::string& tensor) {
  const std::string name = matrix_name_in_gguf(tensor);
  const Scheme* scheme = nullptr;
  for (Rule& rule : rules) {
    if (!Regex::Matcher(rule.regex).find(name, 0)) continue;
    rule.found = true;
    if (scheme == nullptr) scheme = &rule.scheme;
  }
  return scheme;
}

}  // namespace

const std::vector<RecipeKind>& recipe_kinds() {
  static const std::vector<RecipeKind> kinds = {
      {"llama-quantize", "lines REGEX=TYPE for --tensor-type-file", llama_quantize},
      {"gptqmodel", "QuantizeConfig with dynamic, JSON", gptqmodel},
      {"llm-compressor", "a recipe with config_groups, YAML", llm_compressor},
      {"autoround", "layer configuration, JSON", autoround},
  };
  return kinds;
}

std::string recipe_text(const std::string& kind, const Plan& plan) {
  std::vector<std::string> known;
  for (const RecipeKind& candidate : recipe_kinds()) {
    if (candidate.name == kind) return candidate.text(plan);
    known.push_back(candidate.name);
  }
  fail_usage("there is no recipe for '{}'; known are {}", kind, fmt::join(known, ", "));
}

std::vector<Assignment> read_tensor_types(const std::string& text, const std::vector<Assignment>& tensors,
                                          const std::string& where, const std::vector<std::string>& others) {
  std::vector<Rule> rules = read_rules(text, where);
  std::vector<Assignment> assignments;
  std::vector<const Assignment*> left;
  for (const Assignment& tensor : tensors) {
    if (const Scheme* scheme = find_scheme(rules, tensor.tensor))
      assignments.push_back({tensor.tensor, tensor.rows, tensor.cols, *scheme});
    else
      left.push_back(&tensor);
  }
  for (const std::string& tensor : others)
    if (const Scheme* scheme = find_scheme(rules, tensor)) assignments.push_back({tensor, 0, 0, *scheme});
  for (const Rule& rule : rules)
    if (!rule.found)
      fail("{}, line {}: the expression \"{}\" matches no matrix of the model, whose names are like {}",
           where, rule.line, printable(rule.expression), matrix_name_in_gguf(tensors.front().tensor));
  if (!left.empty())
    fail("{} gives no type to {} ({} matrices in all); add a line such as ^blk=q4_k at its end", where,
         matrix_name_in_gguf(left.front()->tensor), left.size());
  return assignments;
}

}  // namespace strata
