#pragma once

#include <memory>
#include <string>

#include "strata/calibration/calibration.h"
#include "strata/core/options.h"
#include "strata/quantizers/layer_output_quantizer.h"

namespace strata {

// Which rows of a matrix are learned how (learned_matrix.h).
enum class RowLearning {
  AdaRound,
  Clipping,
  Hybrid  // rows at high bits by AdaRound, all others by learnable clipping (arXiv 2511.17801)
};

struct RowLearningOptions {
  RowLearning learning = RowLearning::Hybrid;
  std::string start = "rtn";  // "rtn" or "hqq": where AdaRound has its scales from, and what is to be beaten
  double learning_rate = 0.01;   // the papers' 5,000 steps at 0.001, in fewer and longer ones
  double regularization = 1000;  // AdaRound's, a mean over weights beside a loss that is 1 at the start
  LayerLearning layers;
};

Options row_learning_options(OptionValues& values);

// Learns the matrices of a layer by AdaRound and learnable clipping, with Adam. Affine schemes and those that
// mix rows; throws UsageError for others.
std::shared_ptr<CalibratedQuantizer> make_row_learning_quantizer(
    const Model& model, std::shared_ptr<const Calibration> calibration, const RowLearningOptions& options);

}  // namespace strata
