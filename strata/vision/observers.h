#pragma once

#include <ATen/ATen.h>

#include <cstdint>
#include <vector>

#include "strata/vision/graph.h"

namespace strata::vision {

// Where information is read: after every residual block (additions and concatenations, with the activation
// behind them) and before and after the last layer; or after every layer; or only around the last layer.
enum class ObserverChoice { Blocks, Layers, Last };

// Nodes whose outputs are observed, in order. Blocks falls back to Layers for a network without any.
std::vector<size_t> observer_nodes(const Graph& graph, ObserverChoice choice);

// One row of features an image: a map [N, C, H, W] averaged over its pixels, anything else flattened.
at::Tensor pooled_features(const at::Tensor& output);

// The network's own view of its input, which stands for X: the first layer's maps averaged over a grid of at
// most 4 x 4 cells.
at::Tensor stem_features(const at::Tensor& output);

}  // namespace strata::vision
