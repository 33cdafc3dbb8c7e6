#include "strata/pipeline/quantizers.h"

#include <fmt/ranges.h>

#include <algorithm>

#include "strata/calibration/awq.h"
#include "strata/calibration/layerwise_quantizer.h"
#include "strata/core/error.h"

namespace strata {
namespace {

bool has_part(const QuantizerChoice& choice, const std::string& part) {
  return choice.name == part || choice.name == "awq+" + part || (part == "awq" && choice.name == "awq+gptq");
}

// A model that is not ours to delete.
std::shared_ptr<const Model> borrowed(const Model& model) {
  return std::shared_ptr<const Model>(std::shared_ptr<void>(), &model);
}

}  // namespace

std::vector<std::string> quantizer_choices() {
  std::vector<std::string> names = quantizer_names();
  names.insert(names.end(), {"importance", "gptq", "awq", "awq+gptq"});
  return names;
}

bool needs_calibration(const QuantizerChoice& choice) {
  const std::vector<std::string> known = quantizer_choices();
  if (std::find(known.begin(), known.end(), choice.name) == known.end())
    fail_usage("quantizer '{}' is not known; expected one of {}", choice.name, fmt::join(known, ", "));
  return choice.name != "rtn" && choice.name != "hqq";
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
