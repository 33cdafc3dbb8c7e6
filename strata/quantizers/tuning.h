#pragma once

#include <ATen/ATen.h>

#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "strata/calibration/calibration.h"
#include "strata/core/options.h"
#include "strata/model/model.h"
#include "strata/quantization/calibrated_quantizer.h"
#include "strata/quantizers/student.h"

namespace strata {

struct TuningOptions {
  enum class When { Automatic, On, Off } when = When::Automatic;  // automatic: as the effort says
  int64_t steps = 100;
  int64_t tokens_per_step = 2048;  // in whole windows
  double learning_rate = 3e-3;     // of Adam, on factors; after the warm-up, from where it falls
  int checks = 10;                 // how often the model is measured as it would be stored
  uint64_t seed = 0;               // of the order of the windows
  at::Device device = at::kCPU;
  std::filesystem::path cache;  // directory of what an interrupted run goes on from; empty = none
  WrittenForm form;
  std::function<void(int64_t step, double divergence)> checked;  // sees every check; null: nobody looks
};

Options declare(TuningOptions& options);

// Throws where there are too few windows to hold any back: to be asked before long work that ends in tune().
void require_tunable(const Calibration& calibration);

// What tuning leaves, as it is stored.
struct TunedModel {
  std::map<std::string, QuantizedMatrix> matrices;
  std::map<std::string, std::vector<float>> vectors;  // norms and biases; none where the start was kept
  // Mean KL(p || q) over the positions held back, in nats: of the matrices as they came, and of what is left.
  double divergence_before = 0, divergence_after = 0;
};

// End-to-end tuning of all that a quantized model stores in floats (the second phase of EfficientQAT, Chen et
// al. 2024, arXiv 2407.11062, with the unquantized model as teacher):
//   loss = mean over positions of KL(p || q),   p: the next-token distribution of `unquantized`, q: of
//   `model` with `matrices`
// by Adam (0.9, 0.95) whose rate rises for a few steps and then falls like a cosine to 0, gradients clipped
// to a norm of 1. A step sees several windows; all windows come again and again in random order. An eighth of
// the windows is held back: of what was measured on them, rounded as it is stored, the best is kept, the
// start included. `model` computes the same as `unquantized` but for its matrices; AWQ has scaled some of it.
// Throws where there is nothing to learn, where there are too few windows to hold any back, and where the
// divergence is not finite.
TunedModel tune(const Model& unquantized, const Model& model, std::map<std::string, QuantizedMatrix> matrices,
                const Calibration& calibration, const TuningOptions& options);

// The model with other norms and biases.
Model replace_vectors(const Model& model, std::map<std::string, std::vector<float>> vectors);

}  // namespace strata
