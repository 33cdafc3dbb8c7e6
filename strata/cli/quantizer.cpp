#include "strata/cli/quantizer.h"

#include <fmt/ranges.h>

#include "strata/cli/common.h"
#include "strata/core/error.h"

namespace strata::cli {

void QuantizerCliOptions::add_to(CLI::App& command, bool many) {
  names = many ? "hqq" : "auto";
  command
      .add_option("--quantizer", names,
                  fmt::format("{}{}; rtn and hqq look at weights alone, the others at calibration text "
                              "(--calib) too; GGUF types have their own rounding in the place of rtn and hqq",
                              many ? "a list of: " : "auto (gptq with --calib, hqq without), ",
                              fmt::join(quantizer_choices(), ", ")))
      ->capture_default_str();
  const std::string group = "GPTQ";
  command
      .add_option("--act-order", act_order,
                  "quantize columns by falling input size: off; static, with groups of neighbouring columns; "
                  "reordered, with groups in that order, for formats that hold an index of groups (gptq, hf)")
      ->check(CLI::IsMember({"off", "static", "reordered"}))
      ->capture_default_str()
      ->group(group);
  command
      .add_option("--gptq-scales", scales,
                  "when a group's scale is decided: as-reached, from weights that make up for the errors "
                  "before; static, from the weights as they were")
      ->check(CLI::IsMember({"as-reached", "static"}))
      ->capture_default_str()
      ->group(group);
  command.add_option("--damping", damping, "added to the second moments' diagonal, as a part of its mean")
      ->check(CLI::Range(0.0, 10.0))
      ->capture_default_str()
      ->group(group);
  command
      .add_flag("--one-pass", one_pass,
                "take all inputs of a layer from the layer as it was, not as its earlier matrices are "
                "quantized: faster, a little worse")
      ->group(group);
  add_learning_to(command);
}

void QuantizerCliOptions::add_learning_to(CLI::App& command) {
  const std::string group = "Learned rounding (adaround, lwc, hybrid)";
  command.add_option("--learn-steps", learning.steps, "steps of gradient descent a layer, at most")
      ->check(CLI::Range(int64_t{0}, int64_t{1} << 40))
      ->capture_default_str()
      ->group(group);
  command.add_option("--learning-rate", learning.learning_rate, "of Adam")
      ->check(CLI::PositiveNumber)
      ->capture_default_str()
      ->group(group);
  command
      .add_option("--learn-start", learning.start,
                  "where AdaRound has its scales from, and what is kept where learning does not beat it")
      ->check(CLI::IsMember({"rtn", "hqq"}))
      ->capture_default_str()
      ->group(group);
  command
      .add_option("--patience", learning.patience,
                  "stop a layer after so many of ten checks on held-out blocks without progress")
      ->check(CLI::Range(1, 1000))
      ->capture_default_str()
      ->group(group);
}

QuantizerChoice QuantizerCliOptions::with_name(const std::string& name) const {
  QuantizerChoice choice;
  choice.name = name;
  choice.gptq.damping = damping;
  choice.gptq.act_order = parse_act_order(act_order);
  choice.gptq.scales = scales == "static" ? GroupScales::Static : GroupScales::AsReached;
  choice.sequential = !one_pass;
  choice.learning = learning;
  return choice;
}

std::vector<QuantizerChoice> QuantizerCliOptions::resolve() const {
  std::vector<QuantizerChoice> choices;
  for (const std::string& name : split(names)) {
    choices.push_back(with_name(name));
    needs_calibration(choices.back());  // throws for an unknown name
  }
  return choices;
}

QuantizerChoice QuantizerCliOptions::resolve_one() const {
  if (names == "auto") return with_name(names);
  const std::vector<QuantizerChoice> choices = resolve();
  if (choices.size() != 1) fail_usage("--quantizer takes one quantizer here, but '{}' was given", names);
  return choices.front();
}

}  // namespace strata::cli
