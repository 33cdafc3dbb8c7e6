#pragma once

#include <ATen/ATen.h>

#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <variant>
#include <vector>

#include "strata/calibration/activations.h"
#include "strata/core/json.h"
#include "strata/quantization/mixed_rows.h"
#include "strata/quantizers/layer_by_layer.h"
#include "strata/quantizers/learned_module.h"

namespace strata {

// How all matrices of a layer are learned together.
struct LayerLearning {
  int64_t steps = 500;             // at most, a layer
  int64_t tokens_per_step = 1024;  // in whole blocks
  int checks = 10;                 // how often the matrices are measured as they would be stored
  int patience = 4;                // stops after so many checks without progress in the second half
  uint64_t seed = 0;               // of the blocks of every step
  ActivationOptions activations;
  RowImpacts row_impacts;       // of schemes that mix rows
  bool mean_squares = false;    // matrices are told how large their inputs are
  std::filesystem::path cache;  // where finished layers are kept (finished_layers.h); empty: nowhere
};

// What a matrix is learned from.
struct LearnedModuleInputs {
  const Module& module;
  const Scheme& scheme;
  const at::Tensor& weights;  // [rows, cols] float on the CPU
  // Of its inputs, cols values a matrix; empty where nobody asked for them.
  const std::vector<float>& mean_squares;
  int64_t layer_weights;  // of all matrices of the layer that are planned
};

// A matrix that is learned, or what it is where there is nothing to learn.
using LearnedOrFixed = std::variant<std::unique_ptr<LearnedModule>, QuantizedMatrix>;
using LearnedModuleMaker = std::function<LearnedOrFixed(const LearnedModuleInputs& inputs)>;

// Learns all matrices of a layer together, so that the layer's output error falls: the mean squared distance
// between what the layer gives on the hidden states that the quantized layers before it left and what it
// gives in the unquantized model. An eighth of the calibration blocks (none where there are fewer than four)
// is held out; of what was measured on them, the quantization at the start included, the best is kept.
// `identity` is what finished layers depend on beside the model, the tokens, the schemes and LayerLearning.
// Throws where an output is not finite.
std::shared_ptr<CalibratedQuantizer> make_layer_output_quantizer(
    const Model& model, std::shared_ptr<const Calibration> calibration, const LayerLearning& learning,
    LearnedModuleMaker maker, Json identity = {});

}  // namespace strata
