#include <ATen/core/grad_mode.h>

#include <algorithm>

#include "strata/core/progress.h"
#include "strata/sensitivity/calibrated.h"
#include "strata/sensitivity/methods.h"
#include "strata/sensitivity/module_scores.h"

namespace strata {
namespace {

constexpr int64_t kLikeliest = 50;
constexpr int64_t kTokens = 4096;  // decoded at every layer; more change little and cost a head each
constexpr int64_t kLogits = int64_t{1} << 25;

// The likeliest tokens [rows, k] that hidden states [rows, d] decode to through final norm and head.
at::Tensor likeliest_tokens(Decoder& decoder, const at::Tensor& rows) {
  const int64_t vocab = decoder.model().config.vocab_size, k = std::min(kLikeliest, vocab);
  const int64_t step = std::max<int64_t>(1, kLogits / vocab);
  std::vector<at::Tensor> pieces;
  for (int64_t first = 0; first < rows.size(0); first += step) {
    const at::Tensor piece = rows.narrow(0, first, std::min(step, rows.size(0) - first));
    pieces.push_back(std::get<1>(at::topk(decoder.logits(piece.unsqueeze(0))[0], k)));
  }
  return at::cat(pieces);
}

// The mean over rows of |a and b| / |a or b| for sets of k tokens.
double mean_jaccard(const at::Tensor& a, const at::Tensor& b) {
  const at::Tensor shared = a.unsqueeze(2).eq(b.unsqueeze(1)).sum(at::IntArrayRef{1, 2}).to(at::kDouble);
  return (shared / (2.0 * static_cast<double>(a.size(1)) - shared)).mean().item<double>();
}

}  // namespace

// 1 - the mean over tokens of the Jaccard overlap of the 50 likeliest next tokens that the layer's input and
// its output decode to (LSAQ, arXiv 2412.18135), over the calibration's first 4,096 tokens.
Scores score_lsaq(const Model& model, const SensitivityOptions& options, const Evidence& evidence) {
  const at::NoGradGuard no_grad;
  const int64_t window = evidence.calibration->window();
  const int64_t blocks = std::clamp<int64_t>(kTokens / window, 1, evidence.calibration->blocks());
  Evidence few = evidence;
  few.calibration = std::make_shared<const Calibration>(
      make_calibration(evidence.calibration->ids.narrow(0, 0, blocks), evidence.calibration->source));
  ActivationStream stream = activations_of(model, options, few);
  DecoderOptions kept;
  kept.device = options.device;
  Decoder head(model, kept);  // loads nothing but the final norm and the head
  const auto decoded = [&] {
    const at::Tensor hidden = hidden_states(model.config, stream.hidden(0, blocks));
    return likeliest_tokens(head, hidden.reshape({-1, model.config.hidden_size}));
  };
  std::vector<double> values;
  Progress progress("decoding layers' inputs and outputs", model.config.num_layers, "layers");
  at::Tensor before = decoded();
  while (!stream.at_end()) {
    stream.advance();
    const at::Tensor after = decoded();
    values.push_back(1 - mean_jaccard(before, after));
    before = after;
    progress.advance();
  }
  Scores scores = layer_scores(model, "lsaq", values);
  describe_calibration(scores, few);
  return scores;
}

}  // namespace strata
