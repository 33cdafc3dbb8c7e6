#pragma once

#include "strata/model/model.h"

namespace strata {

// What a relative squared error of a matrix's weights costs, where nothing is known but what the matrix does
// and where it stands: the KL divergence is about weight times error. Only ratios of weights mean something.
double prior_weight(const Module& module, int layers);

// The weight of an embedding, a head, or a matrix that is both (boundary_modules), over that of all matrices
// of the layers together.
double prior_beside_layers(const Module& boundary);

}  // namespace strata
