#pragma once

#include "strata/vision/graph.h"
#include "strata/vision/images.h"

namespace strata::vision {

// Reads what goes into a network (images.h). Finds out on the first two images whether the network gives for
// several at once what it gives for each by itself; where it does not, it will run images one by one. Throws
// Error where what is given does not fit the network.
ImageSet load_inputs(const ImageOptions& options, Graph& graph);

// Whether the model says the sizes of all its inputs, but for the number of images.
bool has_fixed_inputs(const Graph& graph);

// All inputs at zero, for one image of a model with fixed inputs.
Tensors blank_inputs(const Graph& graph);

}  // namespace strata::vision
