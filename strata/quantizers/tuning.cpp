#include "strata/quantizers/tuning.h"

#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <optional>
#include <utility>

#include "strata/checkpoint/replaced_checkpoint.h"
#include "strata/core/error.h"
#include "strata/core/progress.h"
#include "strata/core/random.h"
#include "strata/device/products.h"
#include "strata/forward/load_tensor.h"
#include "strata/quantizers/adam.h"
#include "strata/quantizers/teacher.h"
#include "strata/quantizers/tuning_state.h"

namespace strata {
namespace {

constexpr int64_t kWarmUp = 20;        // steps, of many
constexpr int64_t kMostHeldBack = 16;  // windows

// Windows to learn on and windows held back.
struct Parts {
  at::Tensor learned, held_back;  // [windows, length]
};

Parts part_windows(const Calibration& calibration, int64_t learned_at_most) {
  require_tunable(calibration);
  const int64_t windows = calibration.blocks();
  const int64_t held_back = std::clamp<int64_t>(windows / 8, 1, kMostHeldBack);
  return {calibration.ids.narrow(0, 0, std::min(windows - held_back, learned_at_most)),
          calibration.ids.narrow(0, windows - held_back, held_back)};
}

class Tuner {
 public:
  Tuner(const Model& unquantized, const Model& model, std::map<std::string, QuantizedMatrix> matrices,
        const Calibration& calibration, const TuningOptions& options)
      : model_(model),
        options_(options),
        dtype_(options.device.is_cuda() ? at::kBFloat16 : at::kFloat),
        windows_per_step_(std::max<int64_t>(1, options.tokens_per_step / calibration.window())),
        parts_(part_windows(calibration, options.steps * windows_per_step_)),
        state_file_(options.cache, identity(unquantized, matrices, calibration)),
        student_(model, std::move(matrices), {options.device, dtype_, options.form}),
        teacher_head_(load_tensor(*unquantized.checkpoint, unquantized.head, options.device, at::kFloat)),
        teacher_(unquantized, parts_.learned, options.device, dtype_),
        held_back_teacher_(unquantized, parts_.held_back, options.device, at::kFloat) {}

  TunedModel run() {
    const at::NoGradGuard no_grad;
    TunedModel tuned;
    tuned.divergence_before = tuned.divergence_after = held_back_divergence(true);
    if (!std::isfinite(tuned.divergence_before))
      fail(
          "{}: the quantized model's divergence from the unquantized one is {} on calibration tokens, and "
          "cannot be tuned; choose schemes with more bits",
          model_.path.string(), tuned.divergence_before);
    const at::Tensor start = student_.parameters().clone();
    learn(tuned.divergence_before);
    const double divergence = held_back_divergence(true);
    if (divergence < tuned.divergence_before) {
      tuned.divergence_after = divergence;
      tuned.vectors = student_.vectors();
    } else {
      student_.parameters().copy_(start);
    }
    tuned.matrices = student_.take_matrices();
    return tuned;
  }

 private:
  // All that the result depends on.
  Json identity(const Model& unquantized, const std::map<std::string, QuantizedMatrix>& matrices,
                const Calibration& calibration) const {
    if (options_.cache.empty()) return {};
    TuningOptions options = options_;
    Json identity = {{"weights", weights_fingerprint(unquantized)},
                     {"scaled weights", weights_fingerprint(model_)},
                     {"matrices", stored_fingerprint(matrices)},
                     {"calibration", calibration.fingerprint},
                     {"options", values_of(declare(options))},
                     {"checks", options_.checks},
                     {"seed", options_.seed},
                     {"device", options_.device.is_cuda() ? "cuda" : "cpu"}};
    if (options_.form.layer_embedding) identity["layer embedding"] = options_.form.layer_embedding->name();
    return identity;
  }

  double held_back_divergence(bool written) const {
    return student_.stored_divergence(
        parts_.held_back,
        [&](int64_t first, int64_t count) { return held_back_teacher_.normed(first, count); }, teacher_head_,
        written);
  }

  // Leaves the best parameters in the student.
  void learn(double first_divergence) {
    const at::Tensor& parameters = student_.parameters();
    Adam adam({parameters}, {options_.learning_rate, 0.9, 0.95});
    TuningState state;
    state.best = parameters.clone();
    state.best_divergence = first_divergence;
    if (std::optional<TuningState> found = state_file_.read(parameters.numel())) {
      state = std::move(*found);
      parameters.copy_(state.parameters);
      adam.resume({{state.means.to(options_.device)}, {state.squares.to(options_.device)}, state.step});
    }
    Progress progress("tuning end to end", options_.steps, "steps");
    progress.advance(state.step);
    const at::Tensor head = teacher_head_.to(dtype_);
    const int64_t between_checks = std::max<int64_t>(1, options_.steps / std::max(1, options_.checks));
    while (state.step < options_.steps) {
      descend(state.step, head, adam);
      progress.advance();
      ++state.step;
      if (state.step % between_checks != 0 && state.step != options_.steps) continue;
      const double divergence = check(state);
      state.parameters = parameters;
      state.means = adam.state().means.front();
      state.squares = adam.state().squares.front();
      state_file_.write(state);
      if (options_.checked) options_.checked(state.step, divergence);
    }
    parameters.copy_(state.best);
  }

  void descend(int64_t step, const at::Tensor& teacher_head, Adam& adam) {
    const std::vector<int64_t> windows = windows_of(step);
    const at::Tensor ids = parts_.learned.index_select(0, at::tensor(windows, at::kLong));
    student_.gradients().zero_();
    student_.learn(ids, teacher_.normed(windows), teacher_head);
    clip(student_.gradients());
    at::Tensor parameters = student_.parameters();
    parameters.mutable_grad() = student_.gradients();
    adam.set_learning_rate(rate_of(step));
    adam.step();
  }

  // To a norm of at most 1.
  static void clip(const at::Tensor& gradients) {
    const OneThread one;
    const at::Tensor norm = gradients.square().sum(at::kDouble).sqrt();
    gradients.mul_((norm + 1e-6).reciprocal_().clamp_max_(1).to(at::kFloat));
  }

  double rate_of(int64_t step) const {
    const auto now = static_cast<double>(step), all = static_cast<double>(options_.steps);
    const double warm_up = static_cast<double>(std::min(kWarmUp, std::max<int64_t>(1, options_.steps / 5)));
    return options_.learning_rate * std::min(1.0, (now + 1) / warm_up) * 0.5 *
           (1 + std::cos(M_PI * now / all));
  }

  // All windows in random order, and again in another one.
  std::vector<int64_t> windows_of(int64_t step) const {
    const int64_t count = parts_.learned.size(0);
    std::vector<int64_t> windows;
    for (int64_t i = 0; i < std::min(windows_per_step_, count); ++i) {
      const int64_t position = step * std::min(windows_per_step_, count) + i;
      windows.push_back(order_of_pass(position / count)[static_cast<size_t>(position % count)]);
    }
    return windows;
  }

  std::vector<int64_t> order_of_pass(int64_t pass) const {
    std::vector<int64_t> order(static_cast<size_t>(parts_.learned.size(0)));
    std::iota(order.begin(), order.end(), 0);
    Random random(options_.seed * 1000003 + static_cast<uint64_t>(pass));
    for (size_t i = order.size(); i > 1; --i) std::swap(order[i - 1], order[random.below(i)]);
    return order;
  }

  double check(TuningState& state) {
    const double divergence = held_back_divergence(false);
    if (!std::isfinite(divergence))
      fail("{}: the divergence became {} within {} steps of tuning; choose a smaller --tune-rate",
           model_.path.string(), divergence, state.step);
    if (divergence < state.best_divergence) {
      state.best_divergence = divergence;
      state.best = student_.parameters().clone();
    }
    return divergence;
  }

  const Model& model_;
  const TuningOptions& options_;
  const at::ScalarType dtype_;
  const int64_t windows_per_step_;
  const Parts parts_;
  const TuningStateFile state_file_;
  Student student_;
  const at::Tensor teacher_head_;
  const Teacher teacher_, held_back_teacher_;
};

}  // namespace

Options declare(TuningOptions& options) {
  return {
      choice("tune", options.when,
             {{"auto", TuningOptions::When::Automatic},
              {"on", TuningOptions::When::On},
              {"off", TuningOptions::When::Off}},
             "on: after quantizing, learn all that the file stores in floats (scales, zero points, "
             "norms, biases) end to end, from what the unquantized model predicts on the "
             "calibration tokens; auto: with the effort best"),
      number("tune-steps", options.steps, 1, int64_t{1} << 40, "steps of gradient descent"),
      number("tune-tokens", options.tokens_per_step, 1, int64_t{1} << 40, "tokens a step, in whole windows"),
      positive("tune-rate", options.learning_rate, "of Adam, on factors of what is stored")};
}

void require_tunable(const Calibration& calibration) {
  if (calibration.blocks() < 2)
    fail(
        "tuning holds windows back to check on, but {} gives {} of {} tokens; give a longer text, or a "
        "smaller --calib-window",
        calibration.source, calibration.blocks(), calibration.window());
}

TunedModel tune(const Model& unquantized, const Model& model, std::map<std::string, QuantizedMatrix> matrices,
                const Calibration& calibration, const TuningOptions& options) {
  return Tuner(unquantized, model, std::move(matrices), calibration, options).run();
}

Model replace_vectors(const Model& model, std::map<std::string, std::vector<float>> vectors) {
  Model replaced = model;
  replaced.checkpoint = std::make_shared<ReplacedCheckpoint>(model.checkpoint, std::move(vectors));
  return replaced;
}

}  // namespace strata
