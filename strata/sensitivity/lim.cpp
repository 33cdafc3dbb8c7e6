#include <ATen/core/grad_mode.h>

#include "strata/core/progress.h"
#include "strata/device/products.h"
#include "strata/sensitivity/calibrated.h"
#include "strata/sensitivity/methods.h"
#include "strata/sensitivity/module_scores.h"

namespace strata {

// 1 - the mean over tokens of cos(x, y) for the layer's input x and output y (layer input modification, LIM,
// arXiv 2406.17415).
Scores score_lim(const Model& model, const SensitivityOptions& options, const Evidence& evidence) {
  const at::NoGradGuard no_grad;
  ActivationStream stream = activations_of(model, options, evidence);
  HiddenStateOptions kept;
  kept.device = options.device;
  HiddenStates before(stream.blocks(), evidence.calibration->window(), model.config.hidden_size, kept);
  std::vector<double> values;
  Progress progress("comparing layers' inputs and outputs", model.config.num_layers, "layers");
  while (!stream.at_end()) {
    const int64_t step = stream.blocks_per_piece();
    const auto for_pieces = [&](const auto& body) {
      for (int64_t first = 0; first < stream.blocks(); first += step)
        body(first, std::min(step, stream.blocks() - first));
    };
    const auto hidden = [&](int64_t first, int64_t count) {
      return hidden_states(model.config, stream.hidden(first, count));
    };
    for_pieces([&](int64_t first, int64_t count) { before.write(first, hidden(first, count)); });
    stream.advance();
    double cosines = 0;
    for_pieces([&](int64_t first, int64_t count) {
      const at::Tensor x = before.read(first, count), y = hidden(first, count);
      cosines += total(at::cosine_similarity(x, y, -1));
    });
    values.push_back(1 - cosines / static_cast<double>(evidence.calibration->tokens()));
    progress.advance();
  }
  Scores scores = layer_scores(model, "lim", values);
  describe_calibration(scores, evidence);
  return scores;
}

}  // namespace strata
