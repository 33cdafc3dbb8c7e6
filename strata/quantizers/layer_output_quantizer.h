#pragma once

#include <ATen/ATen.h>

#include <cstdint>
#include <memory>
#include <string>

#include "strata/calibration/activations.h"
#include "strata/core/options.h"
#include "strata/quantization/mixed_rows.h"
#include "strata/quantizers/layer_by_layer.h"

namespace strata {

// Which rows of a matrix are learned how (learned_matrix.h).
enum class RowLearning {
  AdaRound,
  Clipping,
  Hybrid  // rows at high bits by AdaRound, all others by learnable clipping (arXiv 2511.17801)
};

struct LayerOutputOptions {
  RowLearning learning = RowLearning::Hybrid;
  std::string start = "rtn";  // "rtn" or "hqq": where AdaRound has its scales from, and what is to be beaten
  int64_t steps = 500;        // at most, a layer
  double learning_rate = 0.01;     // the papers' 5,000 steps at 0.001, in fewer and longer ones
  int64_t tokens_per_step = 1024;  // in whole blocks
  double regularization = 1000;    // AdaRound's, a mean over weights beside a loss that is 1 at the start
  int checks = 10;                 // how often the matrices are measured as they would be stored
  int patience = 4;                // stops after so many checks without progress in the second half
  uint64_t seed = 0;               // of the blocks of every step
  ActivationOptions activations;
  RowImpacts row_impacts;  // of schemes that mix rows
};

Options layer_output_options(OptionValues& values);

// Learns all matrices of a layer together, so that the layer's output error falls: the mean squared distance
// between what the layer gives on the hidden states that the quantized layers before it left and what it
// gives in the unquantized model. An eighth of the calibration blocks (none where there are fewer than four)
// is held out; of what was measured on them, the quantization at the start included, the best is kept. Affine
// schemes and those that mix rows; throws UsageError for others.
std::shared_ptr<CalibratedQuantizer> make_layer_output_quantizer(
    const Model& model, std::shared_ptr<const Calibration> calibration, const LayerOutputOptions& options);

}  // namespace strata
