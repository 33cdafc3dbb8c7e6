#pragma once

#include <ATen/ATen.h>

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "strata/model/model.h"
#include "strata/pipeline/effort.h"
#include "strata/quantization/scheme.h"

namespace strata {

// What a device does in a second, measured for a moment on matrices of the model.
struct Rates {
  double products = 0;  // floating-point operations in products of a window with a layer's largest matrix
  double weights = 0;   // weights that are quantized
};

Rates measure_rates(const Model& model, const Scheme& scheme, at::Device device);

// What the work depends on beside the model and the rates.
struct WorkAhead {
  size_t schemes = 1;                       // of the menu
  int64_t tokens = 0;                       // asked for; 0: as the effort says
  int64_t kl_tokens = 0;                    // that divergences are measured on
  bool own_text = false;                    // which the model writes first
  int64_t sign_steps = 0, sign_tokens = 0;  // of signed rounding, a layer; tokens a step
  int64_t tune_steps = 0, tune_tokens = 0;  // of tuning
  int64_t evaluated = 0;                    // tokens of the text that losses are measured on in the end
  at::Device device = at::kCPU;
};

struct Estimate {
  std::string effort;
  double seconds = 0;
  uint64_t bytes = 0;  // of memory, that of the device included
};

// Time and memory of quantizing by an effort: the operations that it takes by the sizes of the model, over
// the rates. They are rough.
Estimate estimate(const Effort& effort, const Model& model, const Rates& rates, const WorkAhead& work);

// "14 min and 0.9 GiB": no more digits than an estimate has.
std::string rough_cost(const Estimate& estimate);

// One sentence: "standard takes about 2 min and 0.5 GiB (quick 2 s and 0.2 GiB, best 14 min and 0.9 GiB)".
std::string describe(const std::vector<Estimate>& estimates, const std::string& chosen);

}  // namespace strata
