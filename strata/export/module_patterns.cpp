#include "strata/export/module_patterns.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <map>
#include <optional>
#include <set>

#include "strata/core/error.h"
#include "strata/core/text.h"
#include "strata/model/gguf_names.h"

namespace strata {
namespace {

const std::string kProjection = "_proj";

struct Name {
  std::string parent;  // "self_attn"
  std::string leaf;    // "q", without _proj
  std::string ending;  // "_proj" where the name has it
};

Name split_name(const std::string& module) {
  const size_t dot = module.rfind('.');
  Name name{dot == std::string::npos ? "" : module.substr(0, dot), module.substr(dot + 1), ""};
  if (name.leaf.size() > kProjection.size() &&
      name.leaf.compare(name.leaf.size() - kProjection.size(), kProjection.size(), kProjection) == 0) {
    name.leaf.resize(name.leaf.size() - kProjection.size());
    name.ending = kProjection;
  }
  return name;
}

std::string alternatives(const std::vector<std::string>& names) {
  return names.size() == 1 ? names.front() : fmt::format("({})", fmt::join(names, "|"));
}

bool has_all(const std::vector<std::string>& leaves, std::initializer_list<const char*> wanted) {
  return std::all_of(wanted.begin(), wanted.end(), [&](const char* leaf) {
    return std::find(leaves.begin(), leaves.end(), leaf) != leaves.end();
  });
}

// The place of "<start>3.NAME.weight"; none for another kind of name.
std::optional<LayerModule> place_of(const std::string& tensor, const std::string& start) {
  const std::string ending = ".weight";
  const size_t digits = start.size(), dot = tensor.find('.', digits);
  const bool sound =
      tensor.compare(0, start.size(), start) == 0 && dot != std::string::npos && dot > digits &&
      dot - digits <= 6 && tensor.size() > dot + 1 + ending.size() &&
      tensor.compare(tensor.size() - ending.size(), ending.size(), ending) == 0 &&
      std::all_of(tensor.begin() + static_cast<int64_t>(digits), tensor.begin() + static_cast<int64_t>(dot),
                  [](char c) { return c >= '0' && c <= '9'; });
  if (!sound) return std::nullopt;
  return LayerModule{std::stoi(tensor.substr(digits, dot - digits)),
                     tensor.substr(dot + 1, tensor.size() - ending.size() - dot - 1)};
}

constexpr char kAnyExpert = '#';

// "mlp.experts.3.gate_proj" to "mlp.experts.#.gate_proj"; none for another kind of name.
std::optional<std::string> of_any_expert(const std::string& name) {
  constexpr std::string_view kExperts = ".experts.";
  const size_t at = name.find(kExperts);
  if (at == std::string::npos) return std::nullopt;
  const size_t digits = at + kExperts.size(), dot = name.find('.', digits);
  if (dot == std::string::npos) return std::nullopt;
  return name.substr(0, digits) + kAnyExpert + name.substr(dot);
}

// The modules, one in the place of those of all experts where they are all there.
std::vector<LayerModule> with_all_experts(const std::vector<LayerModule>& modules, int64_t experts) {
  std::map<std::pair<int, std::string>, int64_t> counts;
  for (const LayerModule& module : modules)
    if (const auto any = of_any_expert(module.name)) ++counts[{module.layer, *any}];
  std::vector<LayerModule> merged;
  for (const LayerModule& module : modules) {
    const auto any = of_any_expert(module.name);
    int64_t* count = any ? &counts[{module.layer, *any}] : nullptr;
    if (count == nullptr || (*count > 0 && *count != experts)) {
      merged.push_back(module);
    } else if (*count > 0) {
      merged.push_back({module.layer, *any});
      *count = 0;  // the others stand for themselves no more
    }
  }
  return merged;
}

std::string with_any_expert(std::string pattern) {
  const size_t at = pattern.find(kAnyExpert);
  return at == std::string::npos ? pattern : pattern.replace(at, 1, "[0-9]+");
}

}  // namespace

LayerModule layer_module(const std::string& tensor) {
  constexpr std::string_view kLayers = "layers.";  // behind a prefix of any kind
  const size_t start = tensor.find(kLayers);
  if (start != std::string::npos && (start == 0 || tensor[start - 1] == '.'))
    if (const auto place = place_of(tensor, tensor.substr(0, start + kLayers.size()))) return *place;
  fail("{} is not the weight of a layer's module, such as model.layers.0.self_attn.q_proj.weight",
       printable(tensor));
}

LayerModule gguf_layer_module(const std::string& tensor) {
  if (const auto place = place_of(matrix_name_in_gguf(tensor), "blk.")) return *place;
  fail(
      "{} is not the weight of a layer's module with a name in GGUF files, such as "
      "model.layers.0.self_attn.q_proj.weight or blk.0.attn_q.weight",
      printable(tensor));
}

std::string escaped(const std::string& name) {
  std::string text;
  for (const char c : name) {
    if (std::string_view("\\.^$|()[]{}*+?").find(c) != std::string_view::npos) text += '\\';
    text += c;
  }
  return text;
}

std::string layers_pattern(const std::vector<int>& layers, int64_t all) {
  if (static_cast<int64_t>(layers.size()) == all) return "[0-9]+";
  std::vector<std::string> numbers;
  for (const int layer : layers) numbers.push_back(std::to_string(layer));
  return alternatives(numbers);
}

std::vector<std::string> module_patterns(const std::vector<LayerModule>& modules, int64_t layers, bool fused,
                                         int64_t experts) {
  std::vector<std::string> names;  // in the order of the modules
  std::map<std::string, std::vector<int>> layers_of;
  for (const LayerModule& module : with_all_experts(modules, experts)) {
    if (layers_of.count(module.name) == 0) names.push_back(module.name);
    layers_of[module.name].push_back(module.layer);
  }
  std::vector<std::string> patterns;
  std::set<std::string> written;
  for (const std::string& name : names) {
    if (written.count(name) > 0) continue;
    const Name split = split_name(name);
    std::vector<std::string> leaves;
    for (const std::string& other : names)
      if (split_name(other).parent == split.parent && split_name(other).ending == split.ending &&
          layers_of[other] == layers_of[name] && written.insert(other).second)
        leaves.push_back(split_name(other).leaf);
    if (fused && has_all(leaves, {"q", "k", "v"})) leaves.push_back("qkv");
    if (fused && has_all(leaves, {"gate", "up"})) leaves.push_back("gate_up");
    patterns.push_back(fmt::format(".*layers\\.{}\\.{}\\.{}{}$", layers_pattern(layers_of[name], layers),
                                   with_any_expert(escaped(split.parent)), alternatives(leaves),
                                   split.ending));
  }
  return patterns;
}

}  // namespace strata
