#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <limits>
#include <map>

#include "strata/core/error.h"
#include "strata/forward/decoder.h"
#include "strata/information/information_loss.h"
#include "strata/information/sliced.h"
#include "strata/sensitivity/calibrated.h"
#include "strata/sensitivity/cost_sheet.h"
#include "strata/sensitivity/infoq.h"
#include "strata/sensitivity/methods.h"

namespace strata {
namespace {

constexpr int64_t kFewestTokensPerBucket = 8;

// Next tokens [B, T] -> [B * (T - 1)] buckets of about equally many positions, the most frequent tokens
// first.
std::vector<int64_t> next_token_buckets(const at::Tensor& ids, int64_t buckets) {
  const at::Tensor next = ids.narrow(1, 1, ids.size(1) - 1).contiguous();
  const int64_t* tokens = next.data_ptr<int64_t>();
  std::map<int64_t, int64_t> counts;
  for (int64_t i = 0; i < next.numel(); ++i) ++counts[tokens[i]];
  std::vector<std::pair<int64_t, int64_t>> by_count(counts.begin(), counts.end());
  std::stable_sort(by_count.begin(), by_count.end(),
                   [](const auto& a, const auto& b) { return a.second > b.second; });
  std::map<int64_t, int64_t> bucket_of;
  int64_t before = 0;
  for (const auto& [token, count] : by_count) {
    bucket_of[token] = before * buckets / next.numel();
    before += count;
  }
  std::vector<int64_t> labels;
  for (int64_t i = 0; i < next.numel(); ++i) labels.push_back(bucket_of[tokens[i]]);
  return labels;
}

// Layers whose outputs are read, evenly spread, the last one among them.
std::vector<int> spread_observers(int layers, int wanted) {
  const int count = std::clamp(wanted, 1, layers);
  std::vector<int> observers;
  for (int o = 0; o < count; ++o) observers.push_back((o + 1) * layers / count - 1);
  return observers;
}

class InformationMeasurement {
 public:
  InformationMeasurement(const Model& model, const SensitivityOptions& options, const at::Tensor& ids,
                         CostSheet& sheet)
      : model_(model),
        options_(options.methods.get<InfoqOptions>()),
        sheet_(sheet),
        decoder_(model, decoder_options(options)),
        observers_(spread_observers(model.config.num_layers, options_.observers)),
        directions_(random_directions(model.config.hidden_size, options_.directions, options.seed)
                        .to(options.device)) {
    labels_ = next_token_buckets(ids, options_.buckets);
    hidden_ = decoder_.embed(ids);
    reference_ = flow(hidden_, 0);
  }

  void run() {
    for_each_module(decoder_, hidden_, "measuring lost information",
                    [&](const Module& module) { measure(module); });
  }

 private:
  static DecoderOptions decoder_options(const SensitivityOptions& options) {
    DecoderOptions decoder;
    decoder.device = options.device;
    return decoder;
  }

  void measure(const Module& module) {
    sheet_.for_each_missing(module, [&](size_t scheme, const at::Tensor&, const at::Tensor& quantized) {
      decoder_.replace(module.tensor, quantized);
      const std::vector<double> probed = flow(hidden_, module.layer);
      decoder_.restore(module.tensor);
      const double bits = sheet_.schemes()[scheme].code_bits_per_weight(module.rows, module.cols);
      sheet_.set(module, scheme, information_loss(reference_, probed, bits, options_.inverse_width));
    });
  }

  // SMI(L_j; Y) behind every observer j from the input of `first` on; NaN at those before it.
  std::vector<double> flow(at::Tensor hidden, int first) {
    std::vector<double> information(observers_.size(), std::numeric_limits<double>::quiet_NaN());
    for (int layer = first; layer < model_.config.num_layers; ++layer) {
      hidden = decoder_.layer(layer, hidden);
      const auto observer = std::find(observers_.begin(), observers_.end(), layer);
      if (observer != observers_.end())
        information[static_cast<size_t>(observer - observers_.begin())] = information_of(hidden);
    }
    return information;
  }

  // The last position of a window has no next token.
  double information_of(const at::Tensor& stream) const {
    const at::Tensor hidden = hidden_states(model_.config, stream);
    const at::Tensor rows = hidden.narrow(1, 0, hidden.size(1) - 1).reshape({-1, hidden.size(2)});
    return sliced_information(project(rows, directions_), labels_, options_.neighbours);
  }

  const Model& model_;
  InfoqOptions options_;
  CostSheet& sheet_;
  Decoder decoder_;
  std::vector<int> observers_;     // layers, ascending
  at::Tensor directions_;          // [d, directions]
  std::vector<int64_t> labels_;    // of every position but a window's last
  at::Tensor hidden_;              // before the layer at hand, [B, T, d]
  std::vector<double> reference_;  // SMI(L_j; Y) of the unquantized model
};

// The calibration's first windows, as many as hold the tokens that were asked for.
Evidence first_windows(const InfoqOptions& infoq, const Evidence& evidence) {
  Evidence few = evidence;
  few.calibration = first_blocks(*evidence.calibration, infoq.tokens, "infoq");
  const Calibration& windows = *few.calibration;
  const int64_t predicted = windows.blocks() * (windows.window() - 1);
  const int64_t needed = kFewestTokensPerBucket * infoq.buckets;
  if (predicted < needed)
    fail(
        "infoq looks at {} next tokens of {}, but for {} buckets of them it needs at least {}; give more "
        "tokens",
        predicted, windows.source, infoq.buckets, needed);
  return few;
}

}  // namespace

Options infoq_options(OptionValues& values) {
  InfoqOptions& infoq = values.get<InfoqOptions>();
  return {
      number("infoq-tokens", infoq.tokens, 1, int64_t{1} << 40,
             "calibration tokens that the method infoq uses"),
      number("directions", infoq.directions, 1, 1 << 16, "random directions of sliced mutual information"),
      number("neighbours", infoq.neighbours, 1, 16, "neighbours of the estimators"),
      flag("no-inverse-width", infoq.inverse_width, "leave out the factor 1 / bits", false)};
}

// InfoQ (arXiv 2508.04753) carried over to language models: S(i, b) = (1/b) mean_j |I(j) - I_ib(j)| / mean_j
// I(j), where I(j) = SMI(L_j; Y) is the sliced mutual information between the residual stream behind layer j
// >= i and the bucket of the next token, and I_ib the same with matrix i alone in scheme b. The reference is
// the unquantized model; b is the bits of the scheme's codes.
Scores score_infoq(const Model& model, const SensitivityOptions& options, const Evidence& evidence) {
  const at::NoGradGuard no_grad;
  const InfoqOptions& infoq = options.methods.get<InfoqOptions>();
  const Evidence few = first_windows(infoq, evidence);
  const Json settings = {{"buckets", infoq.buckets},
                         {"directions", infoq.directions},
                         {"neighbours", infoq.neighbours},
                         {"observers", infoq.observers},
                         {"inverse_width", infoq.inverse_width},
                         {"seed", options.seed}};
  CostSheet sheet(model, "infoq", options, few, settings);
  if (!sheet.is_complete()) InformationMeasurement(model, options, few.calibration->ids, sheet).run();
  Scores scores = sheet.scores();
  scores.details["infoq"] = settings;
  describe_calibration(scores, few);
  return scores;
}

}  // namespace strata
