#pragma once

#include <string>
#include <vector>

#include "strata/vision/onnx.h"

namespace strata::vision {

// Which nodes of a model strata computes. Those that it cannot, it carries through as they are, where no
// layer needs what layers went into: before the first layers (and then they hand over what counts as the
// model's input), or behind the last ones.
enum class NodeRole { Before, Computed, Behind };

// `refusals` says for every node why it cannot be computed; empty where it can. `layers` says which are
// layers. Throws Error with the refusal of a node between layers, or of a layer.
std::vector<NodeRole> node_roles(const OnnxModel& model, const std::vector<std::string>& refusals,
                                 const std::vector<bool>& layers);

}  // namespace strata::vision
