#include "strata/quantizers/quantizers.h"

#include <algorithm>

#include "strata/core/error.h"
#include "strata/core/progress.h"
#include "strata/gguf/type.h"
#include "strata/quantizers/awq.h"
#include "strata/quantizers/layerwise_quantizer.h"
#include "strata/quantizers/layerwise_trials.h"
#include "strata/quantizers/row_learning.h"
#include "strata/quantizers/sign_round.h"

namespace strata {
namespace {

using Schemes = std::map<std::string, Scheme>;

// A model that is not ours to delete.
std::shared_ptr<const Model> borrowed(const Model& model) {
  return std::shared_ptr<const Model>(std::shared_ptr<void>(), &model);
}

// GPTQ

Options options_of_gptq(OptionValues& values) {
  Options options = gptq_options(values);
  for (Option& option : layerwise_options(values)) options.push_back(std::move(option));
  return options;
}

std::string refused_by_gptq(const Quantizer&, const Scheme& scheme, const OptionValues& options) {
  if (options.get<GptqOptions>().act_order == ActOrder::Off || scheme.kind != Scheme::Kind::Gguf ||
      !takes_whole_blocks(scheme.gguf))
    return "";
  return scheme.name() + " takes whole blocks of neighbouring columns; leave out --act-order";
}

LayerwiseOptions layerwise(const OptionValues& values, const QuantizerInputs& inputs) {
  LayerwiseOptions options = values.get<LayerwiseOptions>();
  options.activations.device = inputs.device;
  options.row_impacts = inputs.row_impacts;
  return options;
}

void prepare_gptq(PreparedQuantizer& prepared, const Schemes& schemes, const OptionValues& options,
                  const QuantizerInputs& inputs) {
  const GptqOptions& gptq = options.get<GptqOptions>();
  if (gptq.act_order == ActOrder::Reordered)
    for (const auto& [tensor, scheme] : schemes)
      if (scheme.kind == Scheme::Kind::Gguf)
        fail_usage(
            "{} is planned as {}, which cannot store groups of columns in the order of their activations; "
            "use --act-order static",
            tensor, scheme.name());
  prepared.calibrated =
      make_gptq_quantizer(*prepared.model, inputs.calibration, layerwise(options, inputs), gptq);
}

std::shared_ptr<SchemeTrials> trials_of_maker(const Model& model, MatrixQuantizerMaker maker,
                                              const QuantizerInputs& inputs, std::string identity) {
  ActivationOptions activations;
  activations.device = inputs.device;
  return std::make_shared<LayerwiseTrials>(model, inputs.calibration, activations, std::move(maker),
                                           std::move(identity));
}

std::shared_ptr<SchemeTrials> gptq_trials(const Model& model, const OptionValues& options,
                                          const QuantizerInputs& inputs) {
  const GptqOptions& gptq = options.get<GptqOptions>();
  auto row_impacts = std::make_shared<const RowImpacts>(inputs.row_impacts);
  return trials_of_maker(model, gptq_maker(gptq, std::move(row_impacts)), inputs,
                         "gptq " + changed_values(gptq_options, options).dump());
}

std::shared_ptr<SchemeTrials> importance_trials(const Model& model, const OptionValues&,
                                                const QuantizerInputs& inputs) {
  auto row_impacts = std::make_shared<const RowImpacts>(inputs.row_impacts);
  return trials_of_maker(model, importance_maker(std::move(row_impacts)), inputs, "importance");
}

void prepare_importance(PreparedQuantizer& prepared, const Schemes&, const OptionValues& options,
                        const QuantizerInputs& inputs) {
  prepared.calibrated =
      make_importance_quantizer(*prepared.model, inputs.calibration, layerwise(options, inputs));
}

// AWQ: the scaled model, then quantized like any other.

void prepare_awq(PreparedQuantizer& prepared, const Schemes& schemes, const OptionValues&,
                 const QuantizerInputs& inputs) {
  AwqOptions awq;
  awq.activations.device = inputs.device;
  prepared.model = std::make_shared<Model>(
      scale_model(*prepared.model, search_awq_scales(*prepared.model, schemes, *inputs.calibration, awq)));
}

void prepare_awq_gptq(PreparedQuantizer& prepared, const Schemes& schemes, const OptionValues& options,
                      const QuantizerInputs& inputs) {
  prepare_awq(prepared, schemes, options, inputs);
  prepare_gptq(prepared, schemes, options, inputs);
}

// Learned rounding

std::string refused_by_learning(const Quantizer& quantizer, const Scheme& scheme, const OptionValues&) {
  if (scheme.kind == Scheme::Kind::Affine || scheme.kind == Scheme::Kind::MixedRows) return "";
  return fmt::format(
      "{} learns affine groups, but {} is on the menu; choose schemes such as w3g64 (--schemes)",
      quantizer.name, scheme.name());
}

void take_inputs(LayerLearning& layers, const QuantizerInputs& inputs) {
  layers.seed = inputs.seed;
  layers.activations.device = inputs.device;
  layers.row_impacts = inputs.row_impacts;
  layers.cache = inputs.cache;
}

template <RowLearning kLearning>
void prepare_learning(PreparedQuantizer& prepared, const Schemes&, const OptionValues& values,
                      const QuantizerInputs& inputs) {
  RowLearningOptions options = values.get<RowLearningOptions>();
  options.learning = kLearning;
  take_inputs(options.layers, inputs);
  prepared.calibrated = make_row_learning_quantizer(*prepared.model, inputs.calibration, options);
}

void prepare_sign_round(PreparedQuantizer& prepared, const Schemes& schemes, const OptionValues& values,
                        const QuantizerInputs& inputs) {
  const std::string left = left_by_sign_round(*prepared.model, schemes);
  if (!left.empty())
    show_note("signround: " + left + " and stay as their importance-weighted search leaves them");
  SignRoundOptions options = values.get<SignRoundOptions>();
  take_inputs(options.layers, inputs);
  // Products in bfloat16 where a GPU computes them; what is learned is in float32.
  if (inputs.device.is_cuda()) options.layers.activations.dtype = at::kBFloat16;
  prepared.calibrated = make_sign_round_quantizer(*prepared.model, inputs.calibration, options);
}

}  // namespace

const std::vector<Quantizer>& quantizers() {
  static const std::vector<Quantizer> list = {
      {"rtn", "round to nearest"},
      {"hqq", "half-quadratic quantization, which looks at weights alone"},
      {"importance", "scales searched under the mean squares of the inputs", true, layerwise_options, nullptr,
       prepare_importance, "", importance_trials},
      {"gptq", "columns make up for the errors of those before them (arXiv 2210.17323)", true,
       options_of_gptq, refused_by_gptq, prepare_gptq, "", gptq_trials},
      {"awq", "columns of large inputs scaled up, then hqq (arXiv 2306.00978)", true, nullptr, nullptr,
       prepare_awq},
      {"awq+gptq", "awq's scales, then gptq", true, options_of_gptq, refused_by_gptq, prepare_awq_gptq},
      {"adaround", "rounding learned against a layer's output (arXiv 2004.10568)", true, row_learning_options,
       refused_by_learning, prepare_learning<RowLearning::AdaRound>, "gptq", nullptr, nullptr, false},
      {"lwc", "learnable clipping, against a layer's output (arXiv 2308.13137)", true, row_learning_options,
       refused_by_learning, prepare_learning<RowLearning::Clipping>, "gptq", nullptr, nullptr, false},
      {"hybrid", "adaround for rows at high bits, lwc for the others (arXiv 2511.17801)", true,
       row_learning_options, refused_by_learning, prepare_learning<RowLearning::Hybrid>, "gptq", nullptr,
       nullptr, false},
      {"signround", "codes and scales learned by signed steps against a layer's output (arXiv 2309.05516)",
       true, sign_round_options, nullptr, prepare_sign_round, "gptq", nullptr, learned_by_sign_round},
  };
  return list;
}

const Quantizer& find_quantizer(std::string_view name) {
  std::string known;
  for (const Quantizer& quantizer : quantizers()) {
    if (quantizer.name == name) return quantizer;
    known += (known.empty() ? "" : ", ") + quantizer.name;
  }
  fail_usage("quantizer '{}' is not known; expected one of {}", name, known);
}

QuantizerChoice resolve_automatic(QuantizerChoice choice, const std::string& automatic) {
  if (choice.name == "auto") choice.name = automatic;
  return choice;
}

QuantizerChoice stand_in_for(QuantizerChoice choice) {
  const Quantizer& quantizer = find_quantizer(choice.name);
  if (!quantizer.stand_in.empty()) choice.name = quantizer.stand_in;
  return choice;
}

std::shared_ptr<SchemeTrials> trials_of(const Model& model, const QuantizerChoice& choice,
                                        const QuantizerInputs& inputs) {
  const Quantizer& quantizer = find_quantizer(stand_in_for(choice).name);
  return quantizer.trials == nullptr ? nullptr : quantizer.trials(model, choice.options, inputs);
}

void require_quantizable(const Model& model, const QuantizerChoice& choice, const std::vector<Scheme>& menu) {
  const Quantizer& quantizer = find_quantizer(choice.name);
  if (quantizer.learns != nullptr && std::none_of(menu.begin(), menu.end(), quantizer.learns))
    fail_usage(
        "{} learns codes, but none of the schemes to choose from has codes of its own; use --quantizer "
        "importance, or schemes such as Q3_K",
        quantizer.name);
  for (const Module& module : model.modules)
    if (module.experts > 0 && !quantizer.takes_experts)
      fail_usage("{} is a stack of experts, which {} cannot learn; choose signround", module.tensor,
                 quantizer.name);
  if (quantizer.refusal == nullptr) return;
  for (const Scheme& scheme : menu) {
    const std::string refusal = quantizer.refusal(quantizer, scheme, choice.options);
    if (!refusal.empty()) fail_usage("{}", refusal);
  }
}

bool scatters_groups(const QuantizerChoice& choice) {
  return choice.options.get<GptqOptions>().act_order == ActOrder::Reordered;
}

PreparedQuantizer prepare_quantizer(const Model& model, const Schemes& schemes, const QuantizerChoice& choice,
                                    const QuantizerInputs& inputs) {
  const Quantizer& quantizer = find_quantizer(choice.name);
  PreparedQuantizer prepared;
  prepared.model = borrowed(model);
  if (!quantizer.needs_calibration) prepared.plain.name = quantizer.name;
  if (quantizer.prepare != nullptr) quantizer.prepare(prepared, schemes, choice.options, inputs);
  return prepared;
}

}  // namespace strata
