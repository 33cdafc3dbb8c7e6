#include "strata/pipeline/automatic.h"

#include <fmt/format.h>

#include <algorithm>

#include "strata/core/error.h"
#include "strata/evaluation/evaluate.h"
#include "strata/pipeline/apply_schemes.h"
#include "strata/pipeline/workbench.h"
#include "strata/sensitivity/method.h"

namespace strata {

Plan uniform_plan(const Model& model, const Scores& scores, AllocatorOptions allocator, uint64_t bytes) {
  allocator.name = "uniform";
  allocator.budget = {};
  allocator.budget.bytes = bytes;
  allocator.boundaries.clear();
  return make_plan(model, scores, allocator);
}

MethodChoice resolve_automatic(const MethodChoice& method, const Effort& effort) {
  if (method.score_method != "auto") return method;
  MethodChoice choice = parse_method(effort.method);
  choice.label = method.label;
  return choice;
}

bool is_checked(const MethodChoice& method) {
  return method.label == "auto" && sensitivity_method(method.score_method).needs_calibration;
}

PartedCalibration part_calibration(const Calibration& calibration) {
  const int64_t blocks = calibration.blocks();
  if (blocks < 2)
    fail(
        "the method auto keeps part of the calibration tokens to check its plan with, and there is one "
        "window of {} "
        "only; give more with --calib-tokens or a longer text",
        calibration.window());
  const int64_t checking = std::max<int64_t>(1, blocks / 4);
  const auto part = [&](int64_t first, int64_t count) {
    return std::make_shared<const Calibration>(
        make_calibration(calibration.ids.narrow(0, first, count).contiguous(), calibration.source));
  };
  return {part(0, blocks - checking), part(blocks - checking, checking)};
}

CheckedPlan check_against_uniform(const Model& model, const Plan& plan, const Scores& scores,
                                  const AllocatorOptions& allocator,
                                  const std::function<double(const Plan&)>& kld_of) {
  Plan uniform = uniform_plan(model, scores, allocator, plan.bytes);
  if (schemes_of(plan) == schemes_of(uniform))
    return {plan, "auto: the plan is the uniform one", std::nullopt};
  const double uniform_kld = kld_of(uniform), kld = kld_of(plan);
  const std::string klds = fmt::format(
      "auto: on held-back tokens the plan of {} has a KL divergence of {:.4f} and the uniform one of {:.4f}",
      scores.method, kld, uniform_kld);
  if (kld <= uniform_kld) return {plan, klds + ", so it is kept", kld};
  uniform.method = plan.method;
  uniform.embedding = plan.embedding;
  uniform.head = plan.head;
  uniform.layer_embedding = plan.layer_embedding;
  return {uniform, klds + ", so the uniform plan is taken instead", uniform_kld};
}

double kld_on(const Calibration& calibration, Decoder& decoder, Decoder& reference) {
  const at::Tensor ids = calibration.ids.to(at::kInt).contiguous();
  const int32_t* first = ids.data_ptr<int32_t>();
  EvaluationOptions evaluation;
  evaluation.window = calibration.window();
  return *evaluate(decoder, {first, first + ids.numel()}, evaluation, &reference).kld;
}

}  // namespace strata
