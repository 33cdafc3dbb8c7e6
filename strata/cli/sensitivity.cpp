#include "strata/cli/sensitivity.h"

#include "strata/device/device.h"
#include "strata/model/decoder.h"

namespace strata::cli {

void SensitivityCliOptions::add_to(CLI::App& command) {
  add_calibration_to(command);
  add_nsds_to(command);
}

void SensitivityCliOptions::add_calibration_to(CLI::App& command) {
  const std::string group = "Calibration";
  const CLI::Range positive(int64_t{1}, int64_t{1} << 40);
  command
      .add_option("--calib", calibration.source,
                  "tokens to measure on: a text file, token ids (.npy, .safetensors), or self: text that the "
                  "model writes; what needs tokens takes self without it")
      ->type_name("FILE|self")
      ->group(group);
  command.add_option("--calib-tokens", calibration.tokens, "how many of them, in whole windows")
      ->check(positive)
      ->capture_default_str()
      ->group(group);
  command.add_option("--calib-window", calibration.window, "tokens in a window")
      ->check(CLI::Range(2, 1 << 24))
      ->capture_default_str()
      ->group(group);
  command
      .add_option("--calib-cache", cache,
                  "directory where costs are saved as they are measured, so that a later run goes on there")
      ->type_name("DIR")
      ->group(group);
  command
      .add_option(
          "--imatrix", imatrix,
          "llama.cpp's importance matrix (GGUF) of this model: serves output-error instead of tokens and "
          "weighs the errors of GGUF types")
      ->type_name("FILE")
      ->group(group);
  command.add_option("--kl-tokens", kl_tokens, "calibration tokens that the method kl uses")
      ->check(positive)
      ->capture_default_str()
      ->group(group);
  command.add_option("--infoq-tokens", infoq_tokens, "calibration tokens that the method infoq uses")
      ->check(positive)
      ->capture_default_str()
      ->group(group);
  command.add_option("--kl-precision", kl_precision, "what kl computes in; bfloat16 is faster on a GPU")
      ->check(CLI::IsMember({"float32", "bfloat16"}))
      ->capture_default_str()
      ->group(group);
  command
      .add_option("--impact-tokens", high_impact.tokens,
                  "calibration tokens that high-impact measures losses on; the impact of rows takes all")
      ->check(positive)
      ->capture_default_str()
      ->group(group);
  command
      .add_option(
          "--loss", loss,
          "where high-impact measures: layer, at each layer's own output; logits, at the model's, which "
          "is slower")
      ->check(CLI::IsMember({"layer", "logits"}))
      ->capture_default_str()
      ->group(group);
  command
      .add_flag("--grouped-query-rule", grouped_query_rule,
                "sensiboost: with grouped queries o takes the score of q, k and v, as in the paper's code")
      ->group(group);
}

void SensitivityCliOptions::add_nsds_to(CLI::App& command) {
  const std::string group = "NSDS";
  command.add_option("--tau", tau, "share of the squared singular values that is kept")
      ->check(CLI::Range(0.01, 1.0))
      ->capture_default_str()
      ->group(group);
  command
      .add_option("--entropy", entropy,
                  "structural expressiveness: the sum times exp(entropy) or divided by it")
      ->check(CLI::IsMember({"multiply", "divide"}))
      ->capture_default_str()
      ->group(group);
  command.add_option("--mad", mad, "deviation scaled by 1.4826 (consistent) or not (plain)")
      ->check(CLI::IsMember({"consistent", "plain"}))
      ->capture_default_str()
      ->group(group);
}

SensitivityOptions SensitivityCliOptions::resolve(const CommonOptions& common) const {
  SensitivityOptions options;
  options.nsds.tau = tau;
  options.nsds.multiply_entropy = entropy == "multiply";
  options.nsds.consistent_mad = mad == "consistent";
  options.device = parse_device(common.device);
  options.seed = common.seed;
  options.calibration_source = calibration;
  options.calibration_source.seed = common.seed;
  options.cache = cache;
  options.imatrix_file = imatrix;
  options.kl.tokens = kl_tokens;
  options.infoq.tokens = infoq_tokens;
  options.kl.dtype = kl_precision == "bfloat16" ? at::kBFloat16 : at::kFloat;
  options.high_impact = high_impact;
  options.high_impact.loss =
      loss == "logits" ? HighImpactOptions::Loss::Logits : HighImpactOptions::Loss::Layer;
  options.grouped_query_rule = grouped_query_rule;
  return options;
}

std::string method_list() {
  std::string list;
  for (const SensitivityMethod& method : sensitivity_methods())
    list += (list.empty() ? "" : ", ") + std::string(method.name);
  return list;
}

}  // namespace strata::cli
