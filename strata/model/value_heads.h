#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "strata/model/model.h"

namespace strata {

// Where value heads of a recurrence share key heads, llama.cpp has them in another order than checkpoints do
// (RecurrenceSizes::tiled), so the rows and columns that are of value heads stand in another order. A model
// is read in the order that it is stored in, and computes the same in either.

// The model with its value heads in this order, as if it were stored so. What quantizes columns in groups or
// blocks must see them as they will be stored.
Model with_value_heads(const Model& model, bool tiled);

// Of every matrix of this model whose columns are of value heads that llama.cpp has in another order: for
// each of its columns there that of this model.
std::map<std::string, std::vector<int64_t>> tiled_columns(const Model& model);

// Whether nothing of it would stand elsewhere there.
bool stands_in_order(const Model& model, bool tiled);

}  // namespace strata
