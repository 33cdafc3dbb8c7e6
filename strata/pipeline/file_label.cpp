#include "strata/pipeline/file_label.h"

#include <fmt/format.h>

#include <algorithm>

#include "strata/export/export_plan.h"

namespace strata {
namespace {

constexpr size_t kLongestValue = 64;
constexpr size_t kMostEntries = 12;
constexpr size_t kBesideValue = 64;  // the name of an entry, and what formats store with it

std::string read_tokens(const Calibration& calibration) {
  const std::string source = std::filesystem::path(calibration.source).filename().string();
  const std::string rest = fmt::format("{} tokens, {}", calibration.tokens(), calibration.fingerprint);
  const std::string text = fmt::format("{}, {}", source, rest);
  return text.size() <= kLongestValue ? text : rest;
}

// Whether the file's matrices take the plan's bits: not in a directory of dequantized weights, nor where some
// are kept in a type of their own.
bool stores_plan(const QuantizeResult& result) {
  const std::vector<Assignment>& all = result.plan.assignments;
  return result.format == "gguf" ||
         (result.format != "hf" &&
          std::none_of(all.begin(), all.end(), [](const Assignment& a) { return is_floating(a.scheme); }));
}

}  // namespace

std::string label_of_bits(const Plan& plan) {
  return fmt::format("{:.4f}", plan.bits_per_weight);
}

Label file_label(const QuantizeRequest& request, const QuantizeResult& result,
                 const QuantizerChoice& quantizer, const Calibration* calibration) {
  Label label;
  const auto add = [&](const char* name, const std::string& value) {
    if (!value.empty() && value.size() <= kLongestValue) label.emplace_back(name, value);
  };
  const Plan& plan = result.plan;
  add("program", request.program);
  add("effort", result.estimates.empty() ? "" : result.effort);
  add("method", plan.method);
  add("allocator", plan.allocator);
  add("quantizer", quantizer.name);
  add("budget", plan.budget == "none" ? "" : plan.budget);
  add(stores_plan(result) ? kLabelOfBits : "planned_bits_per_weight", label_of_bits(plan));
  if (calibration != nullptr) add("calibration", read_tokens(*calibration));
  if (result.held_back_kld) add("held_back_kld", fmt::format("{:.6f}", *result.held_back_kld));
  if (result.tuning) add("tuned", "end to end");
  return label;
}

Label longest_label() {
  return {{"reserved", std::string(kMostEntries * (kLongestValue + kBesideValue), ' ')}};
}

}  // namespace strata
