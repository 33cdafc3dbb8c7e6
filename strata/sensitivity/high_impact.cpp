#include <algorithm>

#include "strata/sensitivity/calibrated.h"
#include "strata/sensitivity/change_losses.h"
#include "strata/sensitivity/methods.h"
#include "strata/sensitivity/module_scores.h"

namespace strata {
namespace {

// The paper's ratios of rows at 3 bits over 2.
constexpr const char* kPaperMenu = "w2g64+w3";

void add_single_costs(Scores& scores, const Model& model, const std::vector<Scheme>& schemes,
                      const ChangeLosses& losses) {
  for (int layer = 0; layer < model.config.num_layers; ++layer) {
    const std::vector<const Module*> modules = model.layer_modules(layer);
    for (size_t m = 0; m < modules.size(); ++m)
      for (size_t s = 0; s < schemes.size(); ++s)
        scores.costs.push_back({modules[m]->tensor, modules[m]->rows, modules[m]->cols, schemes[s].name(),
                                losses.single(layer, m, s)});
  }
}

void add_pair_costs(Scores& scores, const Model& model, const std::vector<Scheme>& schemes,
                    const ChangeLosses& losses) {
  for (int layer = 0; layer < model.config.num_layers; ++layer) {
    const std::vector<const Module*> modules = model.layer_modules(layer);
    for (size_t a = 0; a < modules.size(); ++a)
      for (size_t b = a + 1; b < modules.size(); ++b)
        for (size_t i = 0; i < schemes.size(); ++i)
          for (size_t j = 0; j < schemes.size(); ++j)
            scores.pair_costs.push_back({modules[a]->tensor, schemes[i].name(), modules[b]->tensor,
                                         schemes[j].name(), losses.interaction(layer, a, i, b, j)});
  }
}

}  // namespace

Options high_impact_options(OptionValues& values) {
  HighImpactOptions& high_impact = values.get<HighImpactOptions>();
  using Loss = HighImpactOptions::Loss;
  return {number("impact-tokens", high_impact.tokens, 1, int64_t{1} << 40,
                 "calibration tokens that losses are measured on; the impact of rows takes all"),
          choice("loss", high_impact.loss, {{"layer", Loss::Layer}, {"logits", Loss::Logits}},
                 "where: layer, at each layer's own output; logits, at the model's, which is slower"),
          choice("interactions", high_impact.interactions, {{"on", true}, {"off", false}},
                 "on, or off to leave out what pairs of matrices cost together: measuring single matrices "
                 "alone takes a tenth of the time")};
}

// High-impact parameter ratios (arXiv 2511.17801): with L(m, s) the loss (ChangeLosses) when module m alone
// is stored in scheme s, the cost of m in s is L(m, s), and two modules of one layer cost together
//   L(m and n) - L(m) - L(n)
// beyond that: half of the paper's x' M x. Which rows of a scheme that mixes rows have high bits is decided
// by row_impact.h. The model's loss itself is 0 where nothing is changed.
Scores score_high_impact(const Model& model, const SensitivityOptions& asked, const Evidence& evidence) {
  SensitivityOptions options = asked;
  if (options.schemes.empty()) options.schemes = parse_schemes(kPaperMenu);
  Evidence with_impacts = evidence;
  with_impacts.row_impacts = row_impacts_for(model, options.schemes, options, evidence);
  const std::vector<Scheme>& schemes = options.schemes;
  const HighImpactOptions& high_impact = options.methods.get<HighImpactOptions>();
  const ChangeLosses losses = measure_change_losses(model, options, with_impacts);

  const Scheme low = lowest_scheme(model, schemes);
  const auto lowest = static_cast<size_t>(std::find(schemes.begin(), schemes.end(), low) - schemes.begin());
  std::vector<double> values;
  for (int layer = 0; layer < model.config.num_layers; ++layer)
    for (size_t m = 0; m < model.layer_modules(layer).size(); ++m)
      values.push_back(losses.single(layer, m, lowest));
  Scores scores = per_module_scores(model, "high-impact", values);
  add_single_costs(scores, model, schemes, losses);
  if (high_impact.interactions) add_pair_costs(scores, model, schemes, losses);
  scores.details["scheme"] = low.name();
  scores.details["quantizer"] = options.quantizer.name;
  scores.details["loss"] = high_impact.loss == HighImpactOptions::Loss::Logits ? "logits" : "layer";
  describe_calibration(scores, evidence);
  return scores;
}

}  // namespace strata
