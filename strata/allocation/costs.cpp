#include "strata/allocation/costs.h"

#include <algorithm>
#include <utility>

#include "strata/allocation/plan.h"
#include "strata/core/error.h"
#include "strata/core/random.h"
#include "strata/quantization/quantizer.h"

namespace strata {
namespace {

Matrix<float> normal_sample() {
  constexpr int64_t kRows = 32, kCols = 1024;
  Matrix<float> sample(kRows, kCols);
  Random random(1);
  for (float& value : sample.values) value = static_cast<float>(random.normal());
  return sample;
}

double sum_of_squares(const std::vector<float>& values) {
  double sum = 0;
  for (float value : values) sum += static_cast<double>(value) * value;
  return sum;
}

}  // namespace

std::vector<double> positive_weights(std::vector<double> scores) {
  if (scores.empty()) return scores;
  const auto [smallest, largest] = std::minmax_element(scores.begin(), scores.end());
  if (*smallest > 0) return scores;
  const double shift = *smallest, range = *largest - *smallest;
  for (double& score : scores) score = range > 0 ? score - shift + range / 10 : 1;
  return scores;
}

CostTable::CostTable(const std::vector<AllocationModule>& modules, const Scores& scores)
    : modules_(modules), method_(scores.method), has_costs_(!scores.costs.empty()), costs_(modules.size()) {
  weights_.resize(modules.size());
  if (!has_costs_) {
    sample_ = normal_sample();
    weigh_by_scores(scores);
    return;
  }
  std::unordered_map<std::string, size_t> index;
  for (size_t m = 0; m < modules.size(); ++m) index.emplace(modules[m].tensor, m);
  for (const Cost& cost : scores.costs) {
    const auto found = index.find(cost.tensor);
    if (found == index.end()) continue;
    const AllocationModule& module = modules[found->second];
    if (module.rows != cost.rows || module.cols != cost.cols)
      fail("the scores of {} were made for {} of shape [{}, {}], but it has [{}, {}]", method_, cost.tensor,
           cost.rows, cost.cols, module.rows, module.cols);
    costs_[found->second].emplace(parse_scheme(cost.scheme).name(), cost.cost);
  }
}

void CostTable::weigh_by_scores(const Scores& scores) {
  std::vector<double> values;
  for (const Score& score : scores.scores) values.push_back(score.score);
  values = positive_weights(std::move(values));
  std::map<std::pair<int, std::string>, double> weight_of;
  for (size_t i = 0; i < values.size(); ++i)
    weight_of.emplace(std::make_pair(scores.scores[i].layer, scores.scores[i].module), values[i]);

  std::map<int, double> layer_params;
  for (const AllocationModule& module : modules_)
    layer_params[module.layer] += static_cast<double>(module.params());
  for (size_t m = 0; m < modules_.size(); ++m) {
    const AllocationModule& module = modules_[m];
    const auto found = weight_of.find({module.layer, scores.per_module ? module.module : std::string()});
    if (found == weight_of.end()) continue;
    const double share = static_cast<double>(module.params()) / layer_params[module.layer];
    weights_[m] = found->second * share;
  }
}

double CostTable::relative_error(const Scheme& scheme, int64_t cols) const {
  if (scheme.kind == Scheme::Kind::MixedRows) {  // the sample's rows are alike
    Scheme low, high;
    low.affine = scheme.affine;
    high.affine = scheme.high_affine();
    return (1 - scheme.high_ratio) * relative_error(low, cols) +
           scheme.high_ratio * relative_error(high, cols);
  }
  const Scheme stored = stored_scheme(scheme, cols);
  const std::string name = stored.name();
  auto found = errors_.find(name);
  if (found == errors_.end()) {
    QuantizerOptions round_to_nearest;
    round_to_nearest.name = "rtn";
    const double error = quantization_error(sample_.view(), stored, round_to_nearest);
    found = errors_.emplace(name, error / sum_of_squares(sample_.values)).first;
  }
  return found->second;
}

std::optional<double> CostTable::cost(size_t module, const Scheme& scheme) const {
  if (has_costs_) {
    const auto found = costs_[module].find(scheme.name());
    if (found == costs_[module].end()) return std::nullopt;
    return found->second;
  }
  if (!weights_[module]) return std::nullopt;
  return *weights_[module] * relative_error(scheme, modules_[module].cols);
}

double CostTable::required(size_t module, const Scheme& scheme) const {
  if (const auto found = cost(module, scheme)) return *found;
  const AllocationModule& m = modules_[module];
  if (!has_costs_)
    fail("the scores of {} have no score for layer {} module {} ({})", method_, m.layer, m.module, m.tensor);
  std::string known;
  for (const auto& [name, unused] : costs_[module]) known += (known.empty() ? "" : ", ") + name;
  fail("the scores of {} have no cost for {} in {}; they have {}: choose among these schemes or score again",
       method_, m.tensor, scheme.name(), known.empty() ? "none for this tensor" : known);
}

}  // namespace strata
