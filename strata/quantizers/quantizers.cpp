#include "strata/quantizers/quantizers.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <optional>

#include "strata/core/error.h"
#include "strata/gguf/type.h"
#include "strata/quantizers/awq.h"
#include "strata/quantizers/layerwise_quantizer.h"

namespace strata {
namespace {

bool has_part(const QuantizerChoice& choice, const std::string& part) {
  return choice.name == part || choice.name == "awq+" + part || (part == "awq" && choice.name == "awq+gptq");
}

std::optional<RowLearning> learning_of(const QuantizerChoice& choice) {
  if (choice.name == "adaround") return RowLearning::AdaRound;
  if (choice.name == "lwc") return RowLearning::Clipping;
  if (choice.name == "hybrid") return RowLearning::Hybrid;
  return std::nullopt;
}

// A model that is not ours to delete.
std::shared_ptr<const Model> borrowed(const Model& model) {
  return std::shared_ptr<const Model>(std::shared_ptr<void>(), &model);
}

}  // namespace

QuantizerChoice resolve_automatic(QuantizerChoice choice, bool calibrated) {
  if (choice.name == "auto") choice.name = calibrated ? "gptq" : "hqq";
  return choice;
}

std::vector<std::string> quantizer_choices() {
  std::vector<std::string> names = quantizer_names();
  names.insert(names.end(), {"importance", "gptq", "awq", "awq+gptq", "adaround", "lwc", "hybrid"});
  return names;
}

bool needs_calibration(const QuantizerChoice& choice) {
  const std::vector<std::string> known = quantizer_choices();
  if (std::find(known.begin(), known.end(), choice.name) == known.end())
    fail_usage("quantizer '{}' is not known; expected one of {}", choice.name, fmt::join(known, ", "));
  return choice.name != "rtn" && choice.name != "hqq";
}

void require_quantizable(const QuantizerChoice& choice, const std::vector<Scheme>& menu) {
  for (const Scheme& scheme : menu) {
    const bool affine = scheme.kind == Scheme::Kind::Affine || scheme.kind == Scheme::Kind::MixedRows;
    if (learning_of(choice) && !affine)
      fail_usage("{} learns affine groups, but {} is on the menu; choose schemes such as w3g64 (--schemes)",
                 choice.name, scheme.name());
    if (has_part(choice, "gptq") && choice.gptq.act_order != ActOrder::Off &&
        scheme.kind == Scheme::Kind::Gguf && takes_whole_blocks(scheme.gguf))
      fail_usage("{} takes whole blocks of neighbouring columns; leave out --act-order", scheme.name());
  }
}

PreparedQuantizer prepare_quantizer(const Model& model, const std::map<std::string, Scheme>& schemes,
                                    const QuantizerChoice& choice,
                                    std::shared_ptr<const Calibration> calibration, at::Device device) {
  PreparedQuantizer prepared;
  prepared.model = borrowed(model);
  if (!needs_calibration(choice)) {
    prepared.plain.name = choice.name;
    return prepared;
  }
  if (choice.gptq.act_order == ActOrder::Reordered)
    for (const auto& [tensor, scheme] : schemes)
      if (scheme.kind == Scheme::Kind::Gguf)
        fail_usage(
            "{} is planned as {}, which cannot store groups of columns in the order of their activations; "
            "use --act-order static",
            tensor, scheme.name());
  ActivationOptions activations;
  activations.device = device;
  if (has_part(choice, "awq")) {
    AwqOptions awq;
    awq.activations = activations;
    prepared.model =
        std::make_shared<Model>(scale_model(model, search_awq_scales(model, schemes, *calibration, awq)));
  }
  if (const std::optional<RowLearning> learning = learning_of(choice)) {
    LayerOutputOptions options = choice.learning;
    options.learning = *learning;
    options.activations = activations;
    options.row_impacts = choice.row_impacts;
    prepared.calibrated = make_layer_output_quantizer(*prepared.model, calibration, options);
    return prepared;
  }
  LayerwiseOptions options;
  options.activations = activations;
  options.sequential = choice.sequential;
  options.row_impacts = choice.row_impacts;
  if (choice.name == "importance")
    prepared.calibrated = make_importance_quantizer(*prepared.model, calibration, options);
  if (has_part(choice, "gptq"))
    prepared.calibrated = make_gptq_quantizer(*prepared.model, calibration, options, choice.gptq);
  return prepared;
}

}  // namespace strata
