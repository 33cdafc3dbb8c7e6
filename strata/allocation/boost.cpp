#include "strata/allocation/boost.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <numeric>
#include <set>
#include <utility>

#include "strata/allocation/problem.h"
#include "strata/core/error.h"

namespace strata {
namespace {

constexpr double kOutlyingZ = 3;
constexpr double kTrimmed = 0.05;

using Place = std::pair<int, std::string>;  // layer and module

struct Spread {
  double mean = 0, deviation = 0;
};

// Mean and sample deviation without the extremes.
Spread trimmed_spread(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  const auto cut = static_cast<std::ptrdiff_t>(kTrimmed * static_cast<double>(values.size()));
  const std::vector<double> kept(values.begin() + cut, values.end() - cut);
  const auto n = static_cast<double>(kept.size());
  Spread spread;
  spread.mean = std::accumulate(kept.begin(), kept.end(), 0.0) / n;
  double squares = 0;
  for (double value : kept) squares += (value - spread.mean) * (value - spread.mean);
  spread.deviation = n > 1 ? std::sqrt(squares / (n - 1)) : 0;
  return spread;
}

// Outlying modules of all roles.
std::set<Place> outliers(const Scores& scores, Differences differences, int top) {
  if (!scores.per_module || scores.scores.empty())
    fail(
        "the scores of {} are not per module, which the allocator \"boost\" needs; use kurtosis or another "
        "method that scores modules",
        scores.method);
  std::map<std::string, std::map<int, double>> roles;
  for (const Score& score : scores.scores) {
    if (differences == Differences::Divide && !(score.score > 0))
      fail("the score of layer {} module {} is {}, but \"--differences divide\" needs positive scores",
           score.layer, score.module, score.score);
    roles[score.module][score.layer] = score.score;
  }
  std::set<Place> chosen;
  for (const auto& [module, by_layer] : roles) {
    std::vector<int> layers;
    std::vector<double> values;
    for (const auto& [layer, value] : by_layer) {
      layers.push_back(layer);
      values.push_back(value);
    }
    for (int i : outlying_layers(values, differences, top)) chosen.emplace(layers[i], module);
  }
  return chosen;
}

// The menu from small to large.
class Ladder {
 public:
  explicit Ladder(const AllocationProblem& problem) : problem_(problem), rungs_(problem.menu.size()) {
    std::iota(rungs_.begin(), rungs_.end(), 0);
    std::stable_sort(rungs_.begin(), rungs_.end(), [&](int a, int b) {
      return problem.total_of_scheme(a)[kStoredBits] < problem.total_of_scheme(b)[kStoredBits];
    });
  }

  int top() const { return static_cast<int>(rungs_.size()) - 1; }
  int scheme(int rung) const { return rungs_[std::min(rung, top())]; }

  // The rung that has these bits per weight, as the papers round them.
  int rung_of(double bits_per_weight) const {
    constexpr double kRounding = 0.02;
    int64_t weights = 0;
    for (const AllocationModule& module : problem_.modules) weights += module.params();
    int nearest = 0;
    double distance = std::numeric_limits<double>::infinity();
    std::string names;
    for (int r = 0; r <= top(); ++r) {
      const auto bits = static_cast<double>(problem_.total_of_scheme(rungs_[r])[kStoredBits]);
      const double bpw = bits / static_cast<double>(weights);
      names += fmt::format("{}{:.2f}", r > 0 ? ", " : "", bpw);
      if (std::abs(bpw - bits_per_weight) < distance) {
        distance = std::abs(bpw - bits_per_weight);
        nearest = r;
      }
    }
    if (!(distance <= kRounding))
      fail_usage("the base of {} bpw is no rung of the ladder, which has {}", bits_per_weight, names);
    return nearest;
  }

 private:
  const AllocationProblem& problem_;
  std::vector<int> rungs_;
};

// Every class at this base rung, those with an outlier `stop` rungs higher.
std::vector<int> boosted(const AllocationProblem& problem, const Ladder& ladder,
                         const std::set<Place>& chosen, int base) {
  std::vector<int> schemes;
  for (const auto& members : problem.classes) {
    const bool climbs = std::any_of(members.begin(), members.end(), [&](size_t m) {
      return chosen.count({problem.modules[m].layer, problem.modules[m].module}) > 0;
    });
    schemes.push_back(ladder.scheme(climbs ? base + problem.options.own.get<BoostOptions>().stop : base));
  }
  return schemes;
}

// The highest base, mixed of two rungs in layer order, at which base and boosts meet the budget.
std::vector<int> rebased(const AllocationProblem& problem, const Ladder& ladder,
                         const std::set<Place>& chosen) {
  problem.limits.check_smallest(problem.total(boosted(problem, ladder, chosen, 0)),
                                problem.possible_with() + " after boosting");
  for (int base = ladder.top(); base >= 0; --base) {
    const std::vector<int> low = boosted(problem, ladder, chosen, base);
    if (!problem.limits.allow(problem.total(low))) continue;
    if (base == ladder.top()) return low;
    return problem.fill_in_layer_order(low, boosted(problem, ladder, chosen, base + 1));
  }
  problem.fail_together();
}

}  // namespace

std::vector<int> outlying_layers(const std::vector<double>& scores, Differences differences, int top) {
  if (scores.size() < 3) return {};
  std::vector<double> steps;
  for (size_t i = 0; i + 1 < scores.size(); ++i)
    steps.push_back(differences == Differences::Divide ? scores[i + 1] / scores[i]
                                                       : scores[i + 1] - scores[i]);
  const Spread spread = trimmed_spread(steps);
  std::vector<std::pair<double, int>> outlying;  // -z and layer
  for (size_t i = 0; i < steps.size(); ++i) {
    const double distance = std::abs(steps[i] - spread.mean);
    if (distance > kOutlyingZ * spread.deviation) outlying.emplace_back(-distance, static_cast<int>(i) + 1);
  }
  std::sort(outlying.begin(), outlying.end());
  if (top > 0 && outlying.size() > static_cast<size_t>(top)) outlying.resize(top);
  std::vector<int> layers;
  for (const auto& [unused, layer] : outlying) layers.push_back(layer);
  return layers;
}

Options boost_options(OptionValues& values) {
  BoostOptions& boost = values.get<BoostOptions>();
  return {choice("differences", boost.differences,
                 {{"subtract", Differences::Subtract}, {"divide", Differences::Divide}},
                 "subtract (KurtBoost) or divide (SensiBoost) neighbouring scores"),
          positive("base", boost.base, "rung of the ladder to start from"),
          number("stop", boost.stop, 1, 12, "rungs a chosen module climbs"),
          number("top", boost.top, 0, 10000, "outliers kept a role; 0 = all"),
          flag("rebase", boost.rebase, "lower the base so that base and boosts together meet the budget")};
}

Allocation allocate_boost(const AllocationProblem& problem) {
  const BoostOptions& options = problem.options.own.get<BoostOptions>();
  if (options.stop < 1) fail_usage("--stop is {}, expected at least 1 rung", options.stop);
  if (options.top < 0) fail_usage("--top is {}, expected 0 (all) or more", options.top);
  const Ladder ladder(problem);
  const std::set<Place> chosen = outliers(problem.scores, options.differences, options.top);
  if (options.rebase && !problem.limits.list().empty())
    return {rebased(problem, ladder, chosen), std::nullopt};

  const std::vector<int> schemes = boosted(problem, ladder, chosen, ladder.rung_of(options.base));
  const Use use = problem.total(schemes);
  for (const Limit& limit : problem.limits.list())
    if (use[limit.resource] > limit.amount)
      fail_usage(
          "boosting {} modules from {} bpw takes {}, which is above the budget of {}; lower --base or let "
          "--rebase find it",
          chosen.size(), options.base, problem.limits.text_of(limit.resource, use[limit.resource]),
          limit.text);
  return {schemes, std::nullopt};
}

}  // namespace strata
