#include "strata/allocation/scores.h"

#include <algorithm>
#include <cctype>
#include <cmath>
#include <limits>
#include <map>
#include <set>
#include <tuple>
#include <unordered_map>
#include <unordered_set>

#include "strata/allocation/fields.h"
#include "strata/core/error.h"
#include "strata/core/text.h"
#include "strata/quantization/scheme.h"

namespace strata {
namespace {

constexpr char kScoresFormat[] = "strata.scores";
constexpr int64_t kMostLayers = 1'000'000;

Score score_from_json(const Fields& line, bool per_module) {
  Score score;
  score.layer = static_cast<int>(line.whole("layer", 0, kMostLayers));
  score.module = line.text_or_empty("module");
  if (score.module.empty() == per_module)
    fail("{}: \"module\" is {}, which does not fit the file's unit \"{}\"", line.where(),
         score.module.empty() ? "missing" : "\"" + score.module + "\"", per_module ? "module" : "layer");
  score.score = line.finite("score");
  score.params = line.whole("params", 1, kMostWeights);
  return score;
}

// Canonical names of schemes, each parsed once.
class SchemeNames {
 public:
  const std::string& canonical(const std::string& name, const std::string& where) {
    auto found = names_.find(name);
    if (found == names_.end()) {
      try {
        found = names_.emplace(name, parse_scheme(name).name()).first;
      } catch (const UsageError& error) {
        fail("{}: {}", where, error.what());
      }
    }
    return found->second;
  }

 private:
  std::unordered_map<std::string, std::string> names_;
};

Cost cost_from_json(const Fields& line, SchemeNames& names) {
  Cost cost;
  cost.tensor = line.text("tensor");
  line.shape("shape", cost.rows, cost.cols);
  cost.scheme = names.canonical(line.text("scheme"), line.where());
  cost.cost = line.finite("cost");
  return cost;
}

PairCost pair_cost_from_json(const Fields& line, SchemeNames& names) {
  PairCost cost;
  std::tie(cost.first_tensor, cost.second_tensor) = line.pair("tensors");
  std::tie(cost.first_scheme, cost.second_scheme) = line.pair("schemes");
  cost.first_scheme = names.canonical(cost.first_scheme, line.where());
  cost.second_scheme = names.canonical(cost.second_scheme, line.where());
  cost.cost = line.finite("cost");
  return cost;
}

AllocationModule module_from_json(const Fields& line, bool is_boundary) {
  AllocationModule module;
  module.layer = is_boundary ? -1 : static_cast<int>(line.whole("layer", 0, kMostLayers));
  module.module = line.text("module");
  module.tensor = line.text("tensor");
  line.shape("shape", module.rows, module.cols);
  if (is_boundary && module.module != "embedding" && module.module != "head" &&
      module.module != "embedding+head")
    fail("{}: \"module\" is {}, expected \"embedding\", \"head\" or \"embedding+head\"", line.where(),
         printable(module.module));
  return module;
}

Json to_json(const AllocationModule& module) {
  Json line;
  if (!module.is_boundary()) line["layer"] = module.layer;
  line["module"] = module.module;
  line["tensor"] = module.tensor;
  line["shape"] = {module.rows, module.cols};
  return line;
}

void check_scores(const Scores& scores, const std::string& where) {
  std::set<std::pair<int, std::string>> seen;
  for (const Score& score : scores.scores) {
    const std::string name = score.module.empty()
                                 ? fmt::format("layer {}", score.layer)
                                 : fmt::format("layer {} module {}", score.layer, score.module);
    if (!std::isfinite(score.score))
      fail("{}: the score of {} is {}, expected a finite number", where, name, score.score);
    if (!seen.emplace(score.layer, score.module).second) fail("{}: {} has two scores", where, name);
  }
}

void check_costs(const Scores& scores, const std::string& where) {
  std::unordered_set<std::string> seen;
  std::unordered_map<std::string, const Cost*> first;
  for (const Cost& cost : scores.costs) {
    if (!std::isfinite(cost.cost))
      fail("{}: the cost of {} in {} is {}, expected a finite number", where, cost.tensor, cost.scheme,
           cost.cost);
    if (!seen.insert(cost.tensor + '\n' + cost.scheme).second)
      fail("{}: {} has two costs in {}", where, cost.tensor, cost.scheme);
    const Cost& other = *first.emplace(cost.tensor, &cost).first->second;
    if (other.rows != cost.rows || other.cols != cost.cols)
      fail("{}: {} has two shapes, [{}, {}] and [{}, {}]", where, cost.tensor, other.rows, other.cols,
           cost.rows, cost.cols);
  }
}

void check_pair_costs(const Scores& scores, const std::string& where) {
  std::unordered_set<std::string> known, seen;
  for (const Cost& cost : scores.costs) known.insert(cost.tensor);
  for (const PairCost& pair : scores.pair_costs) {
    std::string first = pair.first_tensor + '\n' + pair.first_scheme;
    std::string second = pair.second_tensor + '\n' + pair.second_scheme;
    if (second < first) first.swap(second);
    for (const std::string& tensor : {pair.first_tensor, pair.second_tensor})
      if (known.count(tensor) == 0)
        fail("{}: {} has costs together with other tensors, but none of its own under \"costs\"", where,
             tensor);
    if (pair.first_tensor == pair.second_tensor)
      fail("{}: a pair cost names {} twice; two tensors were expected", where, pair.first_tensor);
    if (!std::isfinite(pair.cost))
      fail("{}: the cost of {} in {} together with {} in {} is {}, expected a finite number", where,
           pair.first_tensor, pair.first_scheme, pair.second_tensor, pair.second_scheme, pair.cost);
    if (!seen.insert(first + '\n' + second).second)
      fail("{}: {} in {} has two costs together with {} in {}", where, pair.first_tensor, pair.first_scheme,
           pair.second_tensor, pair.second_scheme);
  }
}

void check_modules(const Scores& scores, const std::string& where) {
  std::unordered_set<std::string> tensors;
  std::set<std::pair<int, std::string>> places;
  for (const AllocationModule& module : scores.boundaries)
    if (!tensors.insert(module.tensor).second || !places.emplace(module.layer, module.module).second)
      fail("{}: {} is listed twice under \"boundaries\"", where, module.module);
  for (const AllocationModule& module : scores.modules) {
    if (!tensors.insert(module.tensor).second)
      fail("{}: the tensor {} is listed twice under \"modules\"", where, module.tensor);
    if (!places.emplace(module.layer, module.module).second)
      fail("{}: layer {} module {} is listed twice under \"modules\"", where, module.layer, module.module);
  }
}

void check(const Scores& scores, const std::string& where) {
  check_scores(scores, where);
  check_costs(scores, where);
  check_pair_costs(scores, where);
  check_modules(scores, where);
  if (scores.scores.empty() && scores.costs.empty())
    fail("{}: there are neither scores nor costs in it", where);
}

// "model.layers.3.self_attn.q_proj.weight" (or "blk.3.attn_q.weight") to layer and module; a tensor outside
// the layers is layer 0 and a module of its own name.
AllocationModule module_of_tensor(const std::string& tensor, int64_t rows, int64_t cols) {
  AllocationModule module{0, tensor, tensor, rows, cols};
  for (const std::string prefix : {"layers.", "blk."}) {
    const size_t at = tensor.find(prefix);
    if (at == std::string::npos || (at > 0 && tensor[at - 1] != '.')) continue;
    size_t end = at + prefix.size();
    int64_t layer = 0;
    const size_t digits = end;
    while (end < tensor.size() && std::isdigit(static_cast<unsigned char>(tensor[end])) &&
           layer <= kMostLayers)
      layer = layer * 10 + (tensor[end++] - '0');
    if (end == digits || layer > kMostLayers || end + 1 >= tensor.size() || tensor[end] != '.') continue;
    module.layer = static_cast<int>(layer);
    module.module = tensor.substr(end + 1);
    const std::string suffix = ".weight";
    if (module.module.size() > suffix.size() &&
        module.module.compare(module.module.size() - suffix.size(), suffix.size(), suffix) == 0)
      module.module.resize(module.module.size() - suffix.size());
    return module;
  }
  return module;
}

std::vector<AllocationModule> modules_of_costs(const Scores& scores) {
  std::vector<AllocationModule> modules;
  std::unordered_set<std::string> seen;
  for (const AllocationModule& boundary : scores.boundaries) seen.insert(boundary.tensor);
  for (const Cost& cost : scores.costs)
    if (seen.insert(cost.tensor).second)
      modules.push_back(module_of_tensor(cost.tensor, cost.rows, cost.cols));
  return modules;
}

std::vector<AllocationModule> modules_of_scores(const Scores& scores) {
  constexpr int64_t kLongestRow = 4096;
  std::vector<AllocationModule> modules;
  for (const Score& score : scores.scores) {
    AllocationModule module;
    module.layer = score.layer;
    module.module = score.module;
    module.tensor = score.module.empty()
                        ? fmt::format("model.layers.{}", score.layer)
                        : fmt::format("model.layers.{}.{}.weight", score.layer, score.module);
    module.cols = 1;
    while (module.cols < kLongestRow && score.params % (module.cols * 2) == 0) module.cols *= 2;
    module.rows = score.params / module.cols;
    modules.push_back(module);
  }
  return modules;
}

}  // namespace

Json to_json(const Scores& scores) {
  check(scores, "scores of " + scores.method);
  Json document;
  document["format"] = kScoresFormat;
  document["version"] = 1;
  document["model"] = scores.model;
  document["method"] = scores.method;
  document["unit"] = scores.per_module ? "module" : "layer";
  document["scores"] = Json::array();
  for (const Score& score : scores.scores) {
    Json line;
    line["layer"] = score.layer;
    line["module"] = score.module.empty() ? Json() : Json(score.module);
    line["score"] = score.score;
    line["params"] = score.params;
    document["scores"].push_back(std::move(line));
  }
  if (!scores.modules.empty()) document["modules"] = Json::array();
  for (const AllocationModule& module : scores.modules) document["modules"].push_back(to_json(module));
  if (!scores.boundaries.empty()) document["boundaries"] = Json::array();
  for (const AllocationModule& module : scores.boundaries) document["boundaries"].push_back(to_json(module));
  if (!scores.costs.empty()) document["costs"] = Json::array();
  for (const Cost& cost : scores.costs) {
    Json line;
    line["tensor"] = cost.tensor;
    line["shape"] = {cost.rows, cost.cols};
    line["scheme"] = cost.scheme;
    line["cost"] = cost.cost;
    document["costs"].push_back(std::move(line));
  }
  if (!scores.pair_costs.empty()) document["pair_costs"] = Json::array();
  for (const PairCost& pair : scores.pair_costs) {
    Json line;
    line["tensors"] = {pair.first_tensor, pair.second_tensor};
    line["schemes"] = {pair.first_scheme, pair.second_scheme};
    line["cost"] = pair.cost;
    document["pair_costs"].push_back(std::move(line));
  }
  document["details"] = scores.details;
  return document;
}

Scores scores_from_json(const Json& document, const std::string& where) {
  const Fields file = open_document(document, where, kScoresFormat);
  Scores scores;
  scores.model = file.text_or_empty("model");
  scores.method = file.text("method");
  const std::string unit = file.text("unit");
  if (unit != "layer" && unit != "module")
    fail("{}: \"unit\" is \"{}\", expected \"layer\" or \"module\"", where, unit);
  scores.per_module = unit == "module";

  const auto place = [&](const char* list, size_t i) { return fmt::format("{}: {}[{}]", where, list, i); };
  const Json& lines = file.list("scores");
  for (size_t i = 0; i < lines.size(); ++i)
    scores.scores.push_back(score_from_json(Fields(lines[i], place("scores", i)), scores.per_module));
  const auto read_modules = [&](const char* list, bool boundaries, std::vector<AllocationModule>& modules) {
    if (!file.has(list)) return;
    const Json& listed = file.list(list);
    for (size_t i = 0; i < listed.size(); ++i)
      modules.push_back(module_from_json(Fields(listed[i], place(list, i)), boundaries));
  };
  read_modules("modules", false, scores.modules);
  read_modules("boundaries", true, scores.boundaries);
  SchemeNames names;
  if (file.has("costs")) {
    const Json& costs = file.list("costs");
    for (size_t i = 0; i < costs.size(); ++i)
      scores.costs.push_back(cost_from_json(Fields(costs[i], place("costs", i)), names));
  }
  if (file.has("pair_costs")) {
    const Json& pairs = file.list("pair_costs");
    for (size_t i = 0; i < pairs.size(); ++i)
      scores.pair_costs.push_back(pair_cost_from_json(Fields(pairs[i], place("pair_costs", i)), names));
  }
  if (document.contains("details")) scores.details = document["details"];
  check(scores, where);
  return scores;
}

Scores read_scores(const std::filesystem::path& path) {
  return scores_from_json(read_json(path), path.string());
}

void write_scores(const std::filesystem::path& path, const Scores& scores) {
  write_json(path, to_json(scores));
}

std::vector<AllocationModule> modules_of(const Scores& scores) {
  std::vector<AllocationModule> modules = !scores.modules.empty() ? scores.modules
                                          : !scores.costs.empty() ? modules_of_costs(scores)
                                                                  : modules_of_scores(scores);
  std::stable_sort(modules.begin(), modules.end(),
                   [](const AllocationModule& a, const AllocationModule& b) { return a.layer < b.layer; });
  return modules;
}

}  // namespace strata
