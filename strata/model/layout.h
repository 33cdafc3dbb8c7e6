#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "strata/model/model.h"

namespace strata {

struct ExpectedTensor {
  std::string name;
  std::vector<int64_t> shape;
};

// Every tensor a model of this config consists of, under Hugging Face's names: embedding, the layers in
// order, final norm, and the head unless it is tied.
std::vector<ExpectedTensor> expected_tensors(const ModelConfig& config);

// The linear modules of every layer: q, k, v, o, gate, up, down.
std::vector<Module> linear_modules(const ModelConfig& config);

}  // namespace strata
