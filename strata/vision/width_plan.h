#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "strata/core/json.h"
#include "strata/vision/quantized_layers.h"
#include "strata/vision/width_costs.h"

namespace strata::vision {

// What decides a layer's share of a budget.
struct LayerSize {
  std::string tensor;
  int64_t weights = 0, outputs = 0;
  int64_t multiplications = 0;  // for one image
};

// `image` are the graph's inputs for one image.
std::vector<LayerSize> layer_sizes(const Graph& graph, const Tensors& image);

// The same without multiplications, for networks that leave the size of their images open.
std::vector<LayerSize> layer_sizes(const Graph& graph);

// Limits of a whole network; those that are set hold together.
struct WidthBudget {
  std::optional<uint64_t> bytes;       // packed: codes, a scale and a bias (32 bits each) an output
  std::optional<double> compression;   // 32 bits a weight over its code bits, as papers count
  std::optional<double> bitops;        // sum of multiplications x weight bits x activation bits, an image
  std::optional<double> bitops_ratio;  // of the float network's, at 32 x 32 bits

  bool empty() const { return !bytes && !compression && !bitops && !bitops_ratio; }
  std::string text() const;
};

// Widths for every layer, and what they come to.
struct WidthPlan {
  std::string method, budget;
  std::vector<Widths> layers;
  std::optional<double> gap;  // relative optimality gap that the solver proved
  uint64_t bytes = 0;         // packed
  double compression = 0, bitops = 0, bitops_ratio = 0;

  void sum_up(const std::vector<LayerSize>& sizes);
};

struct WidthAllocation {
  double alpha = 1;  // weight of the activations' costs, after both are scaled to the same mean
  double relative_gap = 1e-4;
  double seconds = 60;
};

Options declare(WidthAllocation& options);

// Widths 2 to 8 for the layers that have costs, 8 for the others, of the least total cost under the budget,
// by an integer program over pairs of widths. Throws UsageError when the budget is below the smallest
// possible, which it names.
WidthPlan allocate_widths(const std::vector<LayerSize>& sizes, const WidthCosts& costs,
                          const WidthBudget& budget, const WidthAllocation& options);

// One width everywhere, the largest that fits, and one bit more for the first layers as far as that fits.
// Widths of activations stay at 8 where only size is limited.
WidthPlan uniform_widths(const std::vector<LayerSize>& sizes, const std::vector<size_t>& free,
                         const WidthBudget& budget);

Json to_json(const WidthPlan& plan, const std::vector<LayerSize>& sizes);

}  // namespace strata::vision
