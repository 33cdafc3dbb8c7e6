#include <algorithm>
#include <numeric>

#include "strata/core/error.h"
#include "strata/information/mutual_information.h"
#include "strata/information/samples.h"

namespace strata {
namespace {

// Distance from each value of a sorted list to its k-th nearest other: the best of the windows of k + 1
// values around it. The best window never moves back, so that one pass finds all.
void neighbour_distances(const std::vector<float>& sorted, size_t k, std::vector<float>& distances) {
  distances.resize(sorted.size());
  size_t left = 0;
  for (size_t i = 0; i < sorted.size(); ++i) {
    const auto reach = [&](size_t l) { return std::max(sorted[i] - sorted[l], sorted[l + k] - sorted[i]); };
    while (left + k < i) ++left;
    while (left + k + 1 < sorted.size() && left < i && reach(left + 1) <= reach(left)) ++left;
    distances[i] = reach(left);
  }
}

}  // namespace

double ross_information(const float* x, const int64_t* labels, int64_t n, int neighbours) {
  const std::vector<float> values = standardised(x, n, neighbours, 1);
  if (values.empty()) return 0;
  std::vector<size_t> order(values.size());  // by label, then by value
  std::iota(order.begin(), order.end(), size_t{0});
  std::sort(order.begin(), order.end(), [&](size_t a, size_t b) {
    return labels[a] != labels[b] ? labels[a] < labels[b] : values[a] < values[b];
  });

  std::vector<float> used, members, distances;  // of samples whose label is not theirs alone
  std::vector<float> radii;
  std::vector<std::pair<size_t, size_t>> groups;  // members and neighbours
  for (size_t begin = 0, end; begin < order.size(); begin = end) {
    end = begin + 1;
    while (end < order.size() && labels[order[end]] == labels[order[begin]]) ++end;
    if (end - begin < 2) continue;
    members.clear();
    for (size_t i = begin; i < end; ++i) members.push_back(values[order[i]]);
    const size_t k = std::min(static_cast<size_t>(neighbours), members.size() - 1);
    neighbour_distances(members, k, distances);
    used.insert(used.end(), members.begin(), members.end());
    radii.insert(radii.end(), distances.begin(), distances.end());
    groups.emplace_back(members.size(), k);
  }
  if (used.empty()) fail("no label has two samples; mutual information with labels needs more images");

  std::vector<float> sorted = used;
  std::sort(sorted.begin(), sorted.end());
  const std::vector<double> psi = digamma_table(static_cast<int64_t>(sorted.size()));
  double sum = 0;
  for (const auto& [count, k] : groups) sum += static_cast<double>(count) * (psi[k] - psi[count]);
  for (size_t i = 0; i < used.size(); ++i) {
    // Itself and the neighbours nearer than the k-th: as many as the neighbours up to the k-th.
    sum -= psi[count_within(sorted, used[i], radii[i])];
  }
  return psi.back() + sum / static_cast<double>(used.size());
}

}  // namespace strata
