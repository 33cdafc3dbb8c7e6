#pragma once

#include <cstdint>
#include <vector>

#include "strata/vision/graph.h"
#include "strata/vision/images.h"

namespace strata::vision {

// Traces of the Hessian of the mean cross-entropy, by layer: over its weights, and over what flows into it
// (summed over an image's values, averaged over the images).
struct HessianTraces {
  std::vector<double> weights, inputs;
};

// Hutchinson's estimator: the mean of v' H v over `samples` random sign vectors v, which all layers share
// (terms between layers have mean zero), on the network as it is.
HessianTraces estimate_traces(const Graph& graph, const ImageSet& images, int samples, uint64_t seed);

}  // namespace strata::vision
