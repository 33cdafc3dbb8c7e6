#include "strata/allocation/first_choice.h"

#include <algorithm>
#include <cstdint>
#include <limits>

namespace strata {
namespace {

// A choice that is moved one group at a time, with the sums of its uses.
class Choice {
 public:
  Choice(const ChoiceProblem& problem, const Lagrangian& start)
      : problem_(problem), reduced_(start.reduced), chosen_(start.chosen), use_(problem.limits.size(), 0) {
    for (size_t g = 0; g < chosen_.size(); ++g)
      for (size_t l = 0; l < use_.size(); ++l) use_[l] += current(g).use[l];
  }

  // Moves to what costs least, at the multipliers' prices, for the excess over the limits that it takes away,
  // until all limits are met. False when no single move lessens the excess.
  bool repair() {
    const std::vector<int64_t> none(use_.size(), 0);
    for (double excess = excess_after(none); excess > 0; excess = excess_after(none)) {
      const auto value = [&](size_t g, size_t o) {
        const double removed = excess - excess_after(change(g, o));
        return removed > 0 ? reduced_change(g, o) / removed : kInfinity;
      };
      if (!move_to_best(value)) return false;
    }
    return true;
  }

  // Spends what is left: the move that lowers the cost within the limits and is best at the multipliers'
  // prices, until there is none.
  void improve() {
    const auto value = [&](size_t g, size_t o) {
      const bool lowers = problem_.groups[g][o].cost < current(g).cost;
      return lowers && excess_after(change(g, o)) == 0 ? reduced_change(g, o) : kInfinity;
    };
    while (move_to_best(value)) {
    }
  }

  // Pairs of moves that lower the cost together, one giving what the other takes, the best first. A cheaper
  // choice can only hold options whose reduced cost is below the distance of this one to the bound: only
  // these are paired.
  void exchange(double bound) {
    constexpr int kMostExchanges = 200;
    for (int i = 0; i < kMostExchanges; ++i) {
      const std::vector<Move> moves = moves_below(cost_of(problem_, chosen_) - bound);
      if (!exchange_best(moves)) return;
    }
  }

  const std::vector<int>& chosen() const { return chosen_; }

 private:
  struct Move {
    size_t group, option;
    double cost;  // change of it
    std::vector<int64_t> use;
  };

  // Moves to options of small reduced cost, smallest first.
  std::vector<Move> moves_below(double distance) {
    constexpr size_t kMostMoves = 600;
    std::vector<Move> moves;
    for (size_t g = 0; g < chosen_.size(); ++g)
      for (size_t o = 0; o < problem_.groups[g].size(); ++o)
        if (static_cast<int>(o) != chosen_[g] && reduced_[g][o] < distance)
          moves.push_back({g, o, problem_.groups[g][o].cost - current(g).cost, change(g, o)});
    std::stable_sort(moves.begin(), moves.end(), [&](const Move& a, const Move& b) {
      return reduced_[a.group][a.option] < reduced_[b.group][b.option];
    });
    if (moves.size() > kMostMoves) moves.resize(kMostMoves);
    return moves;
  }

  bool fit(const Move& a, const Move& b) const {
    for (size_t l = 0; l < use_.size(); ++l)
      if (use_[l] + a.use[l] + b.use[l] > problem_.limits[l]) return false;
    return true;
  }

  bool exchange_best(const std::vector<Move>& moves) {
    double best = 0;
    const Move *first = nullptr, *second = nullptr;
    for (size_t i = 0; i < moves.size(); ++i)
      for (size_t j = i + 1; j < moves.size(); ++j) {
        const Move &a = moves[i], &b = moves[j];
        if (a.cost + b.cost < best && a.group != b.group && fit(a, b)) {
          best = a.cost + b.cost;
          first = &a;
          second = &b;
        }
      }
    if (first == nullptr) return false;
    apply(first->group, first->option);
    apply(second->group, second->option);
    return true;
  }

  void apply(size_t group, size_t option) {
    const std::vector<int64_t>& delta = change(group, option);
    for (size_t l = 0; l < use_.size(); ++l) use_[l] += delta[l];
    chosen_[group] = static_cast<int>(option);
  }

  const ChoiceOption& current(size_t g) const { return problem_.groups[g][chosen_[g]]; }

  double reduced_change(size_t g, size_t o) const { return reduced_[g][o] - reduced_[g][chosen_[g]]; }

  const std::vector<int64_t>& change(size_t g, size_t o) {
    change_.resize(use_.size());
    for (size_t l = 0; l < use_.size(); ++l) change_[l] = problem_.groups[g][o].use[l] - current(g).use[l];
    return change_;
  }

  // Sum over the limits of the relative excess.
  double excess_after(const std::vector<int64_t>& change) const {
    double excess = 0;
    for (size_t l = 0; l < use_.size(); ++l) {
      const int64_t over = use_[l] + change[l] - problem_.limits[l];
      if (over > 0)
        excess += static_cast<double>(over) / static_cast<double>(std::max<int64_t>(1, problem_.limits[l]));
    }
    return excess;
  }

  template <class Value>
  bool move_to_best(const Value& value) {
    double best = kInfinity;
    size_t group = 0, option = 0;
    for (size_t g = 0; g < chosen_.size(); ++g)
      for (size_t o = 0; o < problem_.groups[g].size(); ++o) {
        if (static_cast<int>(o) == chosen_[g]) continue;
        const double v = value(g, o);
        if (v < best) best = v, group = g, option = o;
      }
    if (best == kInfinity) return false;
    apply(group, option);
    return true;
  }

  const ChoiceProblem& problem_;
  const std::vector<std::vector<double>>& reduced_;
  std::vector<int> chosen_;
  std::vector<int64_t> use_, change_;
};

}  // namespace

std::optional<std::vector<int>> first_choice(const ChoiceProblem& problem, const Lagrangian& start) {
  Choice choice(problem, start);
  if (!choice.repair()) return std::nullopt;
  choice.improve();
  choice.exchange(start.bound);
  return choice.chosen();
}

}  // namespace strata
