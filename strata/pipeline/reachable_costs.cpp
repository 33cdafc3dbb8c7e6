#include "strata/pipeline/reachable_costs.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <string>
#include <utility>

#include "strata/allocation/lagrangian.h"
#include "strata/allocation/problem.h"
#include "strata/core/ranks.h"
#include "strata/core/statistics.h"
#include "strata/sensitivity/calibrated.h"
#include "strata/sensitivity/cost_sheet.h"
#include "strata/sensitivity/kl.h"

namespace strata {
namespace {

// How far a corrected prediction may be off, as a factor. On two tables of the bundled model (112 matrices,
// 12 affine schemes or 12 GGUF types, 2.5 to 4.5 bits) plans of 1.15 differ from those of the whole table in
// none to four matrices and by at most 4 parts of the cost in a thousand, with 13 to 21 % of it measured.
constexpr double kPredictionError = 1.15;

constexpr double kUnknown = std::numeric_limits<double>::quiet_NaN();

double ratio_of(double measured, double predicted) {
  constexpr double kLeast = 1e-12;  // nats
  return std::max(measured, kLeast) / std::max(predicted, kLeast);
}

}  // namespace

class ReachableCosts::Search {
 public:
  Search(const Model& model, SensitivityOptions options, const Evidence& evidence)
      : model_(model),
        options_(std::move(options)),
        evidence_(evidence_of_kl(options_, evidence)),
        measurement_(model, options_, evidence_) {
    for (size_t s = 0; s < options_.schemes.size(); ++s) index_.emplace(options_.schemes[s].name(), s);
  }

  Scores run(const AllocatorOptions& plan) {
    start();
    KlMeasurement::Pairs wanted;
    do {
      wanted.clear();
      estimate();
      const std::string asked = from_first_rank([&] {
        add_reachable(plan, wanted);
        return Json(wanted).dump();
      });
      wanted = Json::parse(asked).get<KlMeasurement::Pairs>();
      measure(wanted);
    } while (!wanted.empty());
    measurement_.unload();
    if (options_.trials) options_.trials->unload();
    return result();
  }

 private:
  void start() {
    if (predictions_.costs.empty()) {
      SensitivityOptions nearest = options_;  // gradients see no errors that make up for each other
      nearest.trials = nullptr;
      const std::string made =
          from_first_rank([&] { return to_json(score(model_, "fisher", nearest, evidence_)).dump(); });
      predictions_ = scores_from_json(Json::parse(made), "rank 0");
    }
    scores_ = predictions_;
    predicted_.clear();
    measured_.clear();
    for (const Cost& cost : predictions_.costs) {
      predicted_[cost.tensor].push_back(cost.cost);
      measured_[cost.tensor].push_back(kUnknown);
    }
    count_ = 0;
  }

  // Costs as they are known by now.
  void estimate() {
    std::vector<double> ratios;
    for (const auto& [tensor, predicted] : predicted_)
      for (size_t s = 0; s < predicted.size(); ++s)
        if (is_measured(tensor, s)) ratios.push_back(ratio_of(measured_.at(tensor)[s], predicted[s]));
    const double usual = ratios.empty() ? 1 : median(std::move(ratios));
    for (const auto& [tensor, predicted] : predicted_)
      estimated_[tensor] = corrected_predictions(predicted, measured_.at(tensor), usual);
    for (Cost& cost : scores_.costs) cost.cost = estimated_.at(cost.tensor)[index_.at(cost.scheme)];
  }

  bool is_measured(const std::string& tensor, size_t scheme) const {
    return !std::isnan(measured_.at(tensor)[scheme]);
  }

  // What the plan chooses, and what else it might, as long as it is not measured.
  void add_reachable(const AllocatorOptions& plan, KlMeasurement::Pairs& wanted) const {
    const AllocationProblem problem(scores_.modules, scores_, plan);
    const std::vector<AllocationModule>& modules = problem.modules;  // boundaries included
    std::vector<size_t> schemes;                                     // of the menu, in the options
    for (const Scheme& scheme : problem.menu) schemes.push_back(index_.at(scheme.name()));
    const std::vector<int> chosen = allocate_exact(problem).chosen;
    const std::vector<double> multipliers = best_lagrangian(choice_problem(problem)).multipliers;
    const auto add = [&](size_t c, size_t option) {
      for (const size_t m : problem.classes[c])
        if (!is_measured(modules[m].tensor, schemes[option]))
          wanted[modules[m].tensor].insert(schemes[option]);
    };
    for (size_t c = 0; c < problem.classes.size(); ++c) {
      add(c, static_cast<size_t>(chosen[c]));
      if (!any_measured(modules, problem.classes[c])) continue;  // first what the predictions choose
      std::vector<double> lowest;
      double least = kInfinity;
      for (size_t option = 0; option < schemes.size(); ++option) {
        double price = 0;
        for (size_t r = 0; r < multipliers.size(); ++r)
          price += multipliers[r] *
                   static_cast<double>(problem.uses[c][option][problem.limits.list()[r].resource]);
        double low = price, high = price;
        for (const size_t m : problem.classes[c]) {
          const double cost = estimated_.at(modules[m].tensor)[schemes[option]];
          const double error = is_measured(modules[m].tensor, schemes[option]) ? 1 : kPredictionError;
          low += cost / error;
          high += cost * error;
        }
        lowest.push_back(low);
        least = std::min(least, high);
      }
      for (size_t option = 0; option < schemes.size(); ++option)
        if (lowest[option] <= least) add(c, option);
    }
  }

  bool any_measured(const std::vector<AllocationModule>& modules, const std::vector<size_t>& members) const {
    return std::any_of(members.begin(), members.end(), [&](size_t m) {
      const std::vector<double>& costs = measured_.at(modules[m].tensor);
      return std::any_of(costs.begin(), costs.end(), [](double cost) { return !std::isnan(cost); });
    });
  }

  void measure(const KlMeasurement::Pairs& wanted) {
    if (wanted.empty()) return;
    measurement_.measure(wanted);
    for (const Module& module : measurement_.modules()) {
      const auto found = wanted.find(module.tensor);
      if (found == wanted.end()) continue;
      for (const size_t scheme : found->second) {
        measured_.at(module.tensor)[scheme] = measurement_.cost(module, scheme);
        ++count_;
      }
    }
  }

  Scores result() {
    Scores scores = std::move(scores_);
    scores.method = "kl";
    const size_t lowest = index_.at(scores.details.at("scheme").get<std::string>());
    for (Score& line : scores.scores)
      line.score = estimated_.at(model_.module(line.layer, line.module).tensor)[lowest];
    scores.details["quantizer"] = quantizer_of_costs(options_);
    scores.details["measured_costs"] = count_;
    scores.details["predicted_costs"] = scores.costs.size() - count_;
    describe_calibration(scores, evidence_);
    return scores;
  }

  const Model& model_;
  const SensitivityOptions options_;
  const Evidence evidence_;
  KlMeasurement measurement_;
  Scores predictions_, scores_;  // as predicted; with the costs that are known by now
  std::map<std::string, std::vector<double>> predicted_, measured_, estimated_;  // by tensor, a scheme each
  std::map<std::string, size_t> index_;                                          // of schemes by name
  size_t count_ = 0;                                                             // of measured costs
};

ReachableCosts::ReachableCosts(const Model& model, SensitivityOptions options, const Evidence& evidence)
    : search_(std::make_unique<Search>(model, std::move(options), evidence)) {}

ReachableCosts::~ReachableCosts() = default;

Scores ReachableCosts::for_plan(const AllocatorOptions& plan) {
  return search_->run(plan);
}

std::vector<double> corrected_predictions(const std::vector<double>& predicted,
                                          const std::vector<double>& measured, double usual_ratio) {
  std::vector<std::pair<double, double>> known;  // prediction, ratio
  for (size_t s = 0; s < predicted.size(); ++s)
    if (!std::isnan(measured[s])) known.emplace_back(predicted[s], ratio_of(measured[s], predicted[s]));
  std::sort(known.begin(), known.end());
  const auto ratio_at = [&](double prediction) {
    if (known.empty()) return usual_ratio;
    const auto above = std::lower_bound(known.begin(), known.end(), std::make_pair(prediction, 0.0));
    if (above == known.begin()) return known.front().second;
    if (above == known.end()) return known.back().second;
    const auto& [low, low_ratio] = above[-1];
    const auto& [high, high_ratio] = *above;
    if (!(low > 0)) return high_ratio;
    const double part = std::log(prediction / low) / std::log(high / low);
    return std::exp(std::log(low_ratio) + part * std::log(high_ratio / low_ratio));
  };
  std::vector<double> costs;
  for (size_t s = 0; s < predicted.size(); ++s)
    costs.push_back(std::isnan(measured[s]) ? predicted[s] * ratio_at(predicted[s]) : measured[s]);
  return costs;
}

}  // namespace strata
