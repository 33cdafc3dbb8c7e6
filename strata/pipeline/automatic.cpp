#include "strata/pipeline/automatic.h"

#include <fmt/format.h>

#include <algorithm>

#include "strata/core/error.h"
#include "strata/evaluation/evaluate.h"
#include "strata/pipeline/apply_schemes.h"
#include "strata/pipeline/quantize.h"

namespace strata {
namespace {

std::vector<int32_t> tokens_of(const Calibration& calibration) {
  const at::Tensor ids = calibration.ids.to(at::kInt).contiguous();
  const int32_t* first = ids.data_ptr<int32_t>();
  return {first, first + ids.numel()};
}

Plan uniform_plan(const Model& model, const Scores& scores, AllocatorOptions allocator, uint64_t bytes) {
  allocator.name = "uniform";
  allocator.budget = {};
  allocator.budget.bytes = bytes;
  return make_plan(model, scores, allocator);
}

bool same_schemes(const Plan& a, const Plan& b) {
  return schemes_of(a) == schemes_of(b);
}

}  // namespace

MethodChoice resolve_automatic(const MethodChoice& method, bool calibrated) {
  if (method.score_method != "auto") return method;
  MethodChoice choice = parse_method(calibrated ? "kl" : "uniform:exact");
  choice.label = method.label;
  return choice;
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
                                  const AllocatorOptions& allocator, const QuantizerOptions& quantizer,
                                  CalibratedQuantizer* calibrated, const Calibration& checking,
                                  const DecoderOptions& options) {
  CheckedPlan result;
  result.plan = plan;
  Plan uniform = uniform_plan(model, scores, allocator, plan.bytes);
  if (same_schemes(plan, uniform)) {
    result.note = "the plan is the uniform one";
    return result;
  }
  const std::vector<int32_t> ids = tokens_of(checking);
  EvaluationOptions evaluation;
  evaluation.window = checking.window();
  Decoder reference(model, options), decoder(model, options);
  const auto measure = [&](const Plan& candidate) {
    apply_schemes(decoder, schemes_of(candidate), quantizer, calibrated);
    return *evaluate(decoder, ids, evaluation, &reference).kld;
  };
  result.kld = measure(plan);
  result.uniform_kld = measure(uniform);
  const bool keep = result.kld <= result.uniform_kld;
  result.note =
      fmt::format("KLD {:.4f} on {} held-back tokens against {:.4f} of the uniform plan: {}", result.kld,
                  ids.size(), result.uniform_kld, keep ? "kept" : "the uniform plan is taken instead");
  if (!keep) {
    uniform.method = plan.method;
    result.plan = std::move(uniform);
  }
  return result;
}

}  // namespace strata
