#include "strata/allocation/label_search.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <utility>

namespace strata {
namespace {

constexpr size_t kMostLimits = 4;
using Uses = std::array<int64_t, kMostLimits>;  // unused places are zero

struct Label {
  Uses use{};
  double reduced = 0;
  uint32_t parent = 0;  // position among the labels of the group before
  int32_t option = 0;
};

Uses plus(Uses use, const std::vector<int64_t>& more) {
  for (size_t l = 0; l < more.size(); ++l) use[l] += more[l];
  return use;
}

class Search {
 public:
  Search(const ChoiceProblem& problem, const Lagrangian& start, int64_t most_labels)
      : problem_(problem), start_(start), labels_left_(most_labels) {}

  enum class Outcome { Found, None, TooManyLabels };

  // Looks through all choices that cost at most `distance` more than the bound.
  Outcome within(double distance) {
    distance_ = distance;
    find_ranges();
    const size_t groups = problem_.groups.size();
    trail_.assign(groups, {});
    std::vector<Label> labels(1);
    for (size_t g = 0; g < groups; ++g) {
      labels = extend(labels, g);
      labels_left_ -= static_cast<int64_t>(labels.size());
      if (labels_left_ < 0) return Outcome::TooManyLabels;
      if (labels.empty()) return Outcome::None;
      for (const Label& label : labels) trail_[g].emplace_back(label.parent, label.option);
    }
    const auto best = std::min_element(labels.begin(), labels.end(), [&](const Label& a, const Label& b) {
      return a.reduced + price_of_slack(a.use) < b.reduced + price_of_slack(b.use);
    });
    trace(static_cast<uint32_t>(best - labels.begin()));
    return Outcome::Found;
  }

  const std::vector<int>& chosen() const { return chosen_; }

 private:
  // Smallest and largest uses that the groups from g on can add.
  void find_ranges() {
    const size_t groups = problem_.groups.size();
    smallest_.assign(groups + 1, {});
    largest_.assign(groups + 1, {});
    for (size_t g = groups; g-- > 0;)
      for (size_t l = 0; l < problem_.limits.size(); ++l) {
        int64_t low = std::numeric_limits<int64_t>::max(), high = 0;
        for (size_t o = 0; o < problem_.groups[g].size(); ++o) {
          if (start_.reduced[g][o] > distance_) continue;
          low = std::min(low, problem_.groups[g][o].use[l]);
          high = std::max(high, problem_.groups[g][o].use[l]);
        }
        smallest_[g][l] = smallest_[g + 1][l] + low;
        largest_[g][l] = largest_[g + 1][l] + high;
      }
  }

  double price_of_slack(const Uses& use) const {
    double price = 0;
    for (size_t l = 0; l < start_.multipliers.size(); ++l)
      price += start_.multipliers[l] * static_cast<double>(std::max<int64_t>(0, problem_.limits[l] - use[l]));
    return price;
  }

  // Whether a label after groups 0 .. g-1 can become a choice within the limits and the distance.
  bool can_finish(const Label& label, size_t g) const {
    Uses most = label.use;
    for (size_t l = 0; l < problem_.limits.size(); ++l) {
      if (label.use[l] + smallest_[g][l] > problem_.limits[l]) return false;
      most[l] += largest_[g][l];
    }
    return label.reduced + price_of_slack(most) <= distance_;
  }

  // Every label with every option of group g, in the order of their uses, the cheapest of equal uses.
  std::vector<Label> extend(const std::vector<Label>& labels, size_t g) const {
    std::vector<Label> all;
    for (size_t o = 0; o < problem_.groups[g].size(); ++o) {
      if (start_.reduced[g][o] > distance_) continue;
      const auto middle = static_cast<std::ptrdiff_t>(all.size());
      for (size_t i = 0; i < labels.size(); ++i) {
        Label next{plus(labels[i].use, problem_.groups[g][o].use), labels[i].reduced + start_.reduced[g][o],
                   static_cast<uint32_t>(i), static_cast<int32_t>(o)};
        if (can_finish(next, g + 1)) all.push_back(next);
      }
      // Adding one option keeps the order of the uses, so that merging replaces sorting.
      std::inplace_merge(all.begin(), all.begin() + middle, all.end(),
                         [](const Label& a, const Label& b) { return a.use < b.use; });
    }
    return cheapest(all);
  }

  std::vector<Label> cheapest(const std::vector<Label>& labels) const {
    std::vector<Label> kept;
    double lowest_cost = std::numeric_limits<double>::infinity();
    for (const Label& label : labels) {
      if (problem_.limits.size() == 1) {
        // Of two labels the one that uses no more and costs no more is enough.
        const double cost = label.reduced - start_.multipliers[0] * static_cast<double>(label.use[0]);
        if (cost >= lowest_cost) continue;
        lowest_cost = cost;
      }
      if (kept.empty() || kept.back().use != label.use)
        kept.push_back(label);
      else if (label.reduced < kept.back().reduced)
        kept.back() = label;
    }
    return kept;
  }

  void trace(uint32_t position) {
    chosen_.assign(trail_.size(), 0);
    for (size_t g = trail_.size(); g-- > 0;) {
      chosen_[g] = trail_[g][position].second;
      position = trail_[g][position].first;
    }
  }

  const ChoiceProblem& problem_;
  const Lagrangian& start_;
  int64_t labels_left_;
  double distance_ = 0;
  std::vector<Uses> smallest_, largest_;                          // from each group to the last
  std::vector<std::vector<std::pair<uint32_t, int32_t>>> trail_;  // parent and option of every label
  std::vector<int> chosen_;
};

}  // namespace

LabelSearchResult label_search(const ChoiceProblem& problem, const Lagrangian& start, double cutoff,
                               int64_t most_labels) {
  LabelSearchResult result;
  result.bound = start.bound;
  if (problem.limits.size() > kMostLimits || !std::isfinite(cutoff)) return result;
  Search search(problem, start, most_labels);
  const double whole = cutoff - start.bound;
  for (int halvings = 6; halvings >= 0; --halvings) {
    const double distance = std::ldexp(whole, -halvings);
    const Search::Outcome outcome = search.within(distance);
    if (outcome == Search::Outcome::TooManyLabels) break;
    if (outcome == Search::Outcome::Found) {
      result.chosen = search.chosen();
      result.bound = cost_of(problem, *result.chosen);
      break;
    }
    result.bound = start.bound + distance;
  }
  return result;
}

}  // namespace strata
