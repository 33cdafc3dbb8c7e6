#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "strata/information/mutual_information.h"
#include "strata/information/samples.h"

namespace strata {
namespace {

constexpr size_t kLeaf = 16;

// A k-d tree over points in the plane, for k-th neighbours in the maximum norm. Points lie in the order of
// the leaves, halves are ranges.
class Tree {
 public:
  Tree(const std::vector<float>& x, const std::vector<float>& y) : order_(x.size()) {
    std::iota(order_.begin(), order_.end(), uint32_t{0});
    build(x, y, 0, order_.size());
    for (uint32_t i : order_) {
      x_.push_back(x[i]);
      y_.push_back(y[i]);
    }
  }

  const std::vector<uint32_t>& order() const { return order_; }

  // Distance from the point at place `p` of order() to its k-th nearest other.
  float distance(size_t p, int k) const {
    Query query{x_[p], y_[p], p, k, {}};
    std::fill(query.nearest, query.nearest + k, std::numeric_limits<float>::infinity());
    search(query, 0);
    return query.nearest[k - 1];
  }

 private:
  struct Node {
    size_t begin, end;
    uint32_t right = 0;  // the left child follows its parent; 0 in a leaf
    bool by_x = true;
    float split = 0;  // left <= split <= right
  };
  struct Query {
    float x, y;
    size_t self;
    int k;
    float nearest[kMostNeighbours];  // ascending
  };

  void build(const std::vector<float>& x, const std::vector<float>& y, size_t begin, size_t end) {
    const size_t index = nodes_.size();
    nodes_.push_back({begin, end});
    if (end - begin <= kLeaf) return;
    const auto spread = [&](const std::vector<float>& values) {
      float low = values[order_[begin]], high = low;
      for (size_t i = begin; i < end; ++i) {
        low = std::min(low, values[order_[i]]);
        high = std::max(high, values[order_[i]]);
      }
      return high - low;
    };
    const bool by_x = spread(x) >= spread(y);
    const std::vector<float>& values = by_x ? x : y;
    const size_t middle = begin + (end - begin) / 2;
    const auto at = [&](size_t place) { return order_.begin() + static_cast<std::ptrdiff_t>(place); };
    std::nth_element(at(begin), at(middle), at(end),
                     [&](uint32_t a, uint32_t b) { return values[a] < values[b]; });
    nodes_[index].by_x = by_x;
    nodes_[index].split = values[order_[middle]];
    build(x, y, begin, middle);
    nodes_[index].right = static_cast<uint32_t>(nodes_.size());
    build(x, y, middle, end);
  }

  void search(Query& query, size_t index) const {
    const Node& node = nodes_[index];
    if (node.right == 0) {
      scan(query, node);
      return;
    }
    const float offset = (node.by_x ? query.x : query.y) - node.split;
    // Equal values may lie on both sides; the near one is then either.
    const size_t near = offset < 0 ? index + 1 : node.right, far = offset < 0 ? node.right : index + 1;
    search(query, near);
    if (std::abs(offset) < query.nearest[query.k - 1]) search(query, far);
  }

  void scan(Query& query, const Node& node) const {
    float distances[kLeaf];
    const size_t count = node.end - node.begin;
    const float *x = x_.data() + node.begin, *y = y_.data() + node.begin;
    for (size_t i = 0; i < count; ++i)
      distances[i] = std::max(std::abs(x[i] - query.x), std::abs(y[i] - query.y));
    if (query.self - node.begin < count)
      distances[query.self - node.begin] = std::numeric_limits<float>::infinity();
    for (size_t i = 0; i < count; ++i) {
      if (distances[i] >= query.nearest[query.k - 1]) continue;
      float distance = distances[i];
      for (int place = 0; place < query.k; ++place) {
        const float nearer = std::min(distance, query.nearest[place]);
        distance = std::max(distance, query.nearest[place]);
        query.nearest[place] = nearer;
      }
    }
  }

  std::vector<Node> nodes_;
  std::vector<uint32_t> order_;
  std::vector<float> x_, y_;  // in that order
};

}  // namespace

double kraskov_information(const float* x, const float* y, int64_t n, int neighbours) {
  const std::vector<float> a = standardised(x, n, neighbours, 1), b = standardised(y, n, neighbours, 2);
  if (a.empty() || b.empty()) return 0;
  const Tree tree(a, b);
  std::vector<float> sorted_a = a, sorted_b = b;
  std::sort(sorted_a.begin(), sorted_a.end());
  std::sort(sorted_b.begin(), sorted_b.end());
  const std::vector<double> psi = digamma_table(n);
  double sum = 0;
  for (size_t p = 0; p < a.size(); ++p) {
    const uint32_t i = tree.order()[p];
    const float radius = tree.distance(p, neighbours);
    sum += psi[count_within(sorted_a, a[i], radius)] + psi[count_within(sorted_b, b[i], radius)];
  }
  return psi[static_cast<size_t>(neighbours)] + psi.back() - sum / static_cast<double>(n);
}

}  // namespace strata
