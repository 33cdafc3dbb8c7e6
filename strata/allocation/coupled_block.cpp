#include "strata/allocation/coupled_block.h"

#include <algorithm>
#include <array>
#include <limits>
#include <tuple>

#include "strata/core/error.h"

namespace strata {
namespace {

constexpr size_t kMostUses = 4;
constexpr size_t kLongestTail = 4096;  // choices of the last elements, which are costed together

using Uses = std::array<int64_t, kMostUses>;  // unused places are zero

Uses uses_of(const ChoiceOption& option) {
  Uses uses{};
  std::copy(option.use.begin(), option.use.end(), uses.begin());
  return uses;
}

Uses operator+(Uses a, const Uses& b) {
  for (size_t l = 0; l < kMostUses; ++l) a[l] += b[l];
  return a;
}

// Walks through all choices of a block. The last elements' choices, the tail, are taken together: an option
// of an earlier element adds one number to the cost of each of them, so that a choice takes little more than
// one addition.
class Enumeration {
 public:
  explicit Enumeration(const CoupledBlock& block) : block_(block), count_(block.elements.size()) {
    uses_ = block.elements.front().front().use.size();
    if (uses_ > kMostUses) fail("{} limits were given; at most {} were expected", uses_, kMostUses);
    order_pairs();
    find_tail();
    cost_tail();
  }

  size_t uses() const { return uses_; }
  size_t tail_size() const { return tail_size_; }
  const std::vector<int64_t>& tail_use(size_t use) const { return tail_uses_[use]; }

  // Calls visit(index of the choice that begins a tail, uses before the tail, costs of the tail's choices).
  template <class Visit>
  void for_each_tail(const Visit& visit) {
    chosen_.assign(count_, 0);
    sums_.assign(tail_begin_ + 1, std::vector<double>(tail_size_));
    sums_[0] = tail_costs_;
    descend(0, 0, Uses{}, visit);
  }

  std::vector<int> choice_at(uint64_t index) const {
    std::vector<int> chosen(count_);
    for (size_t e = count_; e-- > 0; index /= options(e)) chosen[e] = static_cast<int>(index % options(e));
    return chosen;
  }

 private:
  size_t options(size_t element) const { return block_.elements[element].size(); }

  double pair_cost(size_t first, size_t first_option, size_t second, size_t second_option) const {
    const Matrix<double>& costs = pairs_[first * count_ + second];
    return costs.values.empty() ? 0 : costs.values[first_option * options(second) + second_option];
  }

  // A table for every pair, the earlier element first.
  void order_pairs() {
    pairs_.resize(count_ * count_);
    for (const PairTable& pair : block_.pairs) {
      const size_t first = std::min(pair.first, pair.second), second = std::max(pair.first, pair.second);
      Matrix<double>& costs = pairs_[first * count_ + second];
      if (costs.values.empty())
        costs = Matrix<double>(static_cast<int64_t>(options(first)), static_cast<int64_t>(options(second)));
      for (int64_t a = 0; a < pair.costs.rows; ++a)
        for (int64_t b = 0; b < pair.costs.cols; ++b)
          (pair.first == first ? costs.row(a)[b] : costs.row(b)[a]) += pair.costs.row(a)[b];
    }
  }

  void find_tail() {
    tail_begin_ = count_;
    while (tail_begin_ > 0 && tail_size_ * options(tail_begin_ - 1) <= kLongestTail)
      tail_size_ *= options(--tail_begin_);
  }

  // Option of a tail's element in its t-th choice.
  size_t tail_option(size_t element, size_t t) const {
    for (size_t e = count_; --e > element;) t /= options(e);
    return t % options(element);
  }

  void cost_tail() {
    tail_costs_.assign(tail_size_, 0);
    tail_uses_.assign(uses_, std::vector<int64_t>(tail_size_, 0));
    for (size_t t = 0; t < tail_size_; ++t)
      for (size_t e = tail_begin_; e < count_; ++e) {
        const ChoiceOption& option = block_.elements[e][tail_option(e, t)];
        tail_costs_[t] += option.cost;
        for (size_t l = 0; l < uses_; ++l) tail_uses_[l][t] += option.use[l];
        for (size_t before = tail_begin_; before < e; ++before)
          tail_costs_[t] += pair_cost(before, tail_option(before, t), e, tail_option(e, t));
      }
    with_tail_.resize(tail_begin_);
    for (size_t e = 0; e < tail_begin_; ++e)
      for (size_t o = 0; o < options(e); ++o) {
        std::vector<double>& costs = with_tail_[e].emplace_back(tail_size_, 0.0);
        for (size_t t = 0; t < tail_size_; ++t)
          for (size_t after = tail_begin_; after < count_; ++after)
            costs[t] += pair_cost(e, o, after, tail_option(after, t));
      }
  }

  template <class Visit>
  void descend(size_t element, uint64_t index, const Uses& use, const Visit& visit) {
    if (element == tail_begin_) {
      visit(index * tail_size_, use, sums_[element].data());
      return;
    }
    for (size_t o = 0; o < options(element); ++o) {
      const ChoiceOption& option = block_.elements[element][o];
      double added = option.cost;
      for (size_t before = 0; before < element; ++before)
        added += pair_cost(before, chosen_[before], element, o);
      const double* sums = sums_[element].data();
      const double* costs = with_tail_[element][o].data();
      double* next = sums_[element + 1].data();
      for (size_t t = 0; t < tail_size_; ++t) next[t] = sums[t] + costs[t] + added;
      chosen_[element] = o;
      descend(element + 1, index * options(element) + o, use + uses_of(option), visit);
    }
  }

  const CoupledBlock& block_;
  size_t count_, uses_ = 0;
  std::vector<Matrix<double>> pairs_;
  size_t tail_begin_ = 0, tail_size_ = 1;
  std::vector<double> tail_costs_;
  std::vector<std::vector<int64_t>> tail_uses_;              // by use, then by choice of the tail
  std::vector<std::vector<std::vector<double>>> with_tail_;  // by element, option, choice of the tail
  std::vector<size_t> chosen_;
  std::vector<std::vector<double>> sums_;  // costs of the tail's choices with the elements before this one
};

// The space of uses cut into cells, with the least cost in each: what costs no less than something in a cell
// that lies below in every use is beaten. This sorts out nearly everything in two passes without sorting.
class Cells {
 public:
  Cells(const CoupledBlock& block, size_t uses) : uses_(uses) {
    constexpr int kBits = 12;  // of the number of cells, which fit a processor's nearest cache
    bits_ = kBits / static_cast<int>(std::max<size_t>(uses, 1));
    for (size_t l = 0; l < uses; ++l) {
      int64_t range = 0;
      for (const auto& options : block.elements) {
        const auto [low, high] =
            std::minmax_element(options.begin(), options.end(),
                                [l](const auto& a, const auto& b) { return a.use[l] < b.use[l]; });
        smallest_[l] += low->use[l];
        range += high->use[l] - low->use[l];
      }
      while (range >> shifts_[l] >= int64_t{1} << bits_) ++shifts_[l];
    }
    least_.assign(size_t{1} << (bits_ * static_cast<int>(uses)), kInfinity);
  }

  // Cells of a tail's choices.
  void find(const Enumeration& choices, const Uses& before, std::vector<uint32_t>& cells) const {
    std::fill(cells.begin(), cells.end(), 0);
    for (size_t l = 0; l < uses_; ++l) {
      const int64_t* use = choices.tail_use(l).data();
      const int64_t offset = before[l] - smallest_[l];
      const int shift = shifts_[l], place = bits_ * static_cast<int>(l);
      for (size_t t = 0; t < cells.size(); ++t)
        cells[t] += static_cast<uint32_t>((use[t] + offset) >> shift) << place;
    }
  }

  void add(uint32_t cell, double cost) { least_[cell] = std::min(least_[cell], cost); }

  // Replaces every cell's least cost by the least of the cells below it in every use.
  void spread() {
    for (size_t l = 0; l < uses_; ++l)
      for (size_t cell = 0; cell < least_.size(); ++cell)
        if (at(cell, l) > 0) least_[cell] = std::min(least_[cell], least_[cell - step(l)]);
    size_t diagonal = 0;
    for (size_t l = 0; l < uses_; ++l) diagonal += step(l);
    for (size_t cell = least_.size(); cell-- > 0;) {
      bool is_lowest = false;
      for (size_t l = 0; l < uses_; ++l) is_lowest = is_lowest || at(cell, l) == 0;
      least_[cell] = is_lowest ? kInfinity : least_[cell - diagonal];
    }
  }

  bool beats(uint32_t cell, double cost) const { return least_[cell] <= cost; }

 private:
  size_t step(size_t use) const { return size_t{1} << (bits_ * static_cast<int>(use)); }
  size_t at(size_t cell, size_t use) const { return cell / step(use) % (size_t{1} << bits_); }

  size_t uses_;
  int bits_ = 0;
  Uses smallest_{};
  std::array<int, kMostUses> shifts_{};
  std::vector<double> least_;
};

struct Candidate {
  Uses use;
  double cost;
  uint64_t index;

  bool operator<(const Candidate& other) const {
    return std::tie(use, cost, index) < std::tie(other.use, other.cost, other.index);
  }
};

std::vector<Candidate> find_candidates(const CoupledBlock& block, Enumeration& choices) {
  Cells cells(block, choices.uses());
  std::vector<uint32_t> cell_of(choices.tail_size());
  choices.for_each_tail([&](uint64_t, const Uses& before, const double* costs) {
    cells.find(choices, before, cell_of);
    for (size_t t = 0; t < cell_of.size(); ++t) cells.add(cell_of[t], costs[t]);
  });
  cells.spread();
  std::vector<Candidate> candidates;
  choices.for_each_tail([&](uint64_t index, const Uses& before, const double* costs) {
    cells.find(choices, before, cell_of);
    for (size_t t = 0; t < cell_of.size(); ++t) {
      if (cells.beats(cell_of[t], costs[t])) continue;
      Candidate candidate{before, costs[t], index + t};
      for (size_t l = 0; l < choices.uses(); ++l) candidate.use[l] += choices.tail_use(l)[t];
      candidates.push_back(candidate);
    }
  });
  return candidates;
}

// Keeps what nothing before it in the order of uses beats or equals.
std::vector<Candidate> keep_front(std::vector<Candidate> candidates, size_t uses) {
  std::sort(candidates.begin(), candidates.end());
  std::vector<Candidate> front;
  double least = kInfinity;
  const auto is_beaten_by = [uses](const Candidate& a, const Candidate& b) {
    bool beaten = b.cost <= a.cost;
    for (size_t l = 1; l < uses; ++l) beaten = beaten && b.use[l] <= a.use[l];
    return beaten;
  };
  for (const Candidate& candidate : candidates) {
    const bool beaten = uses <= 1 ? candidate.cost >= least
                                  : std::any_of(front.rbegin(), front.rend(), [&](const Candidate& other) {
                                      return is_beaten_by(candidate, other);
                                    });
    if (beaten) continue;
    least = candidate.cost;
    front.push_back(candidate);
  }
  return front;
}

}  // namespace

uint64_t count_choices(const CoupledBlock& block) {
  uint64_t count = 1;
  for (const auto& options : block.elements)
    count = std::min<uint64_t>(count * options.size(), kMostBlockChoices + 1);
  return count;
}

double cost_of(const CoupledBlock& block, const std::vector<int>& chosen) {
  double cost = 0;
  for (size_t e = 0; e < chosen.size(); ++e) cost += block.elements[e][chosen[e]].cost;
  for (const PairTable& pair : block.pairs) cost += pair.costs.row(chosen[pair.first])[chosen[pair.second]];
  return cost;
}

std::vector<BlockChoice> pareto_front(const CoupledBlock& block) {
  if (count_choices(block) > kMostBlockChoices)
    fail("{} elements have more than {} choices together", block.elements.size(), kMostBlockChoices);
  Enumeration choices(block);
  std::vector<BlockChoice> front;
  for (const Candidate& candidate : keep_front(find_candidates(block, choices), choices.uses())) {
    BlockChoice choice;
    choice.chosen = choices.choice_at(candidate.index);
    choice.total.cost = cost_of(block, choice.chosen);
    choice.total.use.assign(candidate.use.begin(), candidate.use.begin() + choices.uses());
    front.push_back(std::move(choice));
  }
  return front;
}

}  // namespace strata
