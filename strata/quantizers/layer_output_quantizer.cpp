#include "strata/quantizers/layer_output_quantizer.h"

#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <limits>
#include <optional>
#include <utility>

#include "strata/core/error.h"
#include "strata/core/interrupt.h"
#include "strata/core/progress.h"
#include "strata/core/random.h"
#include "strata/model/load_tensor.h"
#include "strata/quantizers/adam.h"
#include "strata/quantizers/learned_module.h"

namespace strata {
namespace {

// Parts of the calibration blocks.
struct Blocks {
  std::vector<int64_t> learned, held_out;
};

Blocks part_blocks(int64_t count) {
  const int64_t held_out = count < 4 ? 0 : std::max<int64_t>(1, count / 8);
  Blocks blocks;
  for (int64_t b = 0; b < count; ++b) (b < count - held_out ? blocks.learned : blocks.held_out).push_back(b);
  if (held_out == 0) blocks.held_out = blocks.learned;
  return blocks;
}

at::Tensor dequantized(const QuantizedMatrix& matrix) {
  at::Tensor weights = at::empty({matrix.rows, matrix.cols}, at::kFloat);
  matrix.dequantize(weights.data_ptr<float>());
  return weights;
}

// Learns one layer.
class LayerLearner {
 public:
  LayerLearner(const LayerOutputOptions& options, ActivationStream& stream, const ActivationStream& targets,
               std::vector<LearnedModule>& modules, const Blocks& blocks)
      : options_(options),
        stream_(stream),
        targets_(targets),
        modules_(modules),
        blocks_(blocks),
        window_(targets.hidden(0, 1).size(1)),
        random_(options.seed * 1000003 + static_cast<uint64_t>(stream.layer())) {
    const int layer = stream.layer();
    stream.decoder().hold_layer(layer);
    run_.emplace(stream.decoder().layer_run(layer, window_));
    for (const LearnedModule& module : modules) learned_weights_ += module.module().params();
  }

  // The best of the start and what was learned.
  std::vector<QuantizedMatrix> run(Progress& progress) {
    for (const LearnedModule& module : modules_) best_.push_back(module.start());
    best_error_ = error_of(best_, blocks_.held_out);
    const double first_error = error_of(best_, blocks_.learned);
    std::vector<at::Tensor> parameters;
    for (const LearnedModule& module : modules_)
      for (const at::Tensor& parameter : module.parameters()) parameters.push_back(parameter);
    Adam adam(parameters, {options_.learning_rate});
    const int64_t between_checks = std::max<int64_t>(1, options_.steps / std::max(1, options_.checks));
    int64_t step = 0;
    for (int without_progress = 0; step < options_.steps && first_error > 0;) {
      descend(static_cast<double>(step) / static_cast<double>(options_.steps), first_error);
      adam.step();
      progress.advance();
      ++step;
      if (step % between_checks != 0 && step != options_.steps) continue;
      // What AdaRound stores is good only once most weights are rounded.
      without_progress = keep_if_better() || 2 * step < options_.steps ? 0 : without_progress + 1;
      if (without_progress >= options_.patience) break;
    }
    progress.advance(options_.steps - step);
    return std::move(best_);
  }

 private:
  // Gradients of the loss on some blocks.
  void descend(double progress, double first_error) {
    const at::AutoGradMode with_gradients(true);
    std::vector<at::Tensor> inputs, outputs;
    const auto count = std::clamp<int64_t>(options_.tokens_per_step / window_, 1,
                                           static_cast<int64_t>(blocks_.learned.size()));
    for (int64_t i = 0; i < count; ++i) {
      const int64_t block = next_block();
      inputs.push_back(stream_.hidden(block, 1));
      outputs.push_back(targets_.hidden(block, 1));
    }
    LayerRun run = *run_;
    for (LearnedModule& module : modules_) run.weights.weight(module.module().name) = module.weights();
    const at::Tensor error = run_layer(run, at::cat(inputs)) - at::cat(outputs);
    at::Tensor loss = error.square().mean() / first_error;
    for (LearnedModule& module : modules_) {
      const at::Tensor regularizer = module.regularizer(progress);
      if (regularizer.defined())
        loss = loss + regularizer * (options_.regularization / static_cast<double>(learned_weights_));
    }
    loss.backward();
  }

  // All blocks in random order, again and again.
  int64_t next_block() {
    if (order_.empty()) {
      order_ = blocks_.learned;
      for (size_t i = order_.size(); i > 1; --i) std::swap(order_[i - 1], order_[random_.below(i)]);
    }
    const int64_t block = order_.back();
    order_.pop_back();
    return block;
  }

  bool keep_if_better() {
    std::vector<QuantizedMatrix> now;
    for (const LearnedModule& module : modules_) now.push_back(module.stored());
    const double error = error_of(now, blocks_.held_out);
    if (!(error < best_error_)) return false;
    best_error_ = error;
    best_ = std::move(now);
    return true;
  }

  // Mean squared error of the layer's output with matrices as they are stored.
  double error_of(const std::vector<QuantizedMatrix>& matrices, const std::vector<int64_t>& blocks) {
    const at::NoGradGuard no_grad;
    check_interrupted();
    LayerRun run = *run_;
    for (size_t i = 0; i < matrices.size(); ++i)
      run.weights.weight(modules_[i].module().name) =
          dequantized(matrices[i]).to(options_.activations.device);
    double sum = 0;
    for (const int64_t block : blocks) {
      const at::Tensor error = run_layer(run, stream_.hidden(block, 1)) - targets_.hidden(block, 1);
      sum += error.square().mean(-1).mean(at::kDouble).item<double>();
    }
    return sum / static_cast<double>(blocks.size());
  }

  const LayerOutputOptions& options_;
  ActivationStream& stream_;
  const ActivationStream& targets_;
  std::vector<LearnedModule>& modules_;
  const Blocks& blocks_;
  const int64_t window_;
  std::optional<LayerRun> run_;  // with the layer's own weights
  Random random_;
  std::vector<int64_t> order_;  // blocks still to come
  int64_t learned_weights_ = 0;
  std::vector<QuantizedMatrix> best_;
  double best_error_ = 0;
};

class LayerOutputQuantizer : public LayerByLayerQuantizer {
 public:
  LayerOutputQuantizer(const Model& model, std::shared_ptr<const Calibration> calibration,
                       const LayerOutputOptions& options)
      : LayerByLayerQuantizer(model), calibration_(std::move(calibration)), options_(options) {
    if (calibration_->tokens() == 0)
      fail(
          "adaround, lwc and hybrid learn on calibration tokens, and there are none; give a text with "
          "--calib");
    if (options_.steps < 0 || options_.checks < 1 || options_.patience < 1 || options_.tokens_per_step < 1 ||
        !(options_.learning_rate > 0) || !(options_.regularization >= 0))
      fail_usage("steps, checks, patience, tokens a step and the learning rate of a quantizer are positive");
    options_.activations.dtype = at::kFloat;
  }

 private:
  void start() override {
    quantized_.emplace(model(), *calibration_, options_.activations);
    unquantized_.emplace(model(), *calibration_, options_.activations);
    progress_ =
        std::make_unique<Progress>("learning to round", model().config.num_layers * options_.steps, "steps");
  }

  void quantize_layer(int layer) override {
    learn_layer(layer);
    if (layer + 1 == model().config.num_layers) progress_.reset();
  }

  void learn_layer(int layer) {
    const at::NoGradGuard no_grad;
    if (layer > 0) quantized_->advance();
    unquantized_->advance();
    std::vector<LearnedModule> modules;
    for (const Module& module : model().modules) {
      if (module.layer != layer) continue;
      if (const Scheme* scheme = planned(module))
        modules.emplace_back(module, *scheme,
                             load_tensor(*model().checkpoint, module.tensor, at::kCPU, at::kFloat), options_);
    }
    if (modules.empty()) return progress_->advance(options_.steps);
    const Blocks blocks = part_blocks(calibration_->blocks());
    std::vector<QuantizedMatrix> learned =
        LayerLearner(options_, *quantized_, *unquantized_, modules, blocks).run(*progress_);
    for (size_t i = 0; i < modules.size(); ++i) {
      quantized_->decoder().replace(modules[i].module().tensor, dequantized(learned[i]));
      finish(modules[i].module(), std::move(learned[i]));
    }
  }

  std::shared_ptr<const Calibration> calibration_;
  LayerOutputOptions options_;
  std::optional<ActivationStream> quantized_, unquantized_;  // before the layer, and behind it
  std::unique_ptr<Progress> progress_;
};

}  // namespace

Options layer_output_options(OptionValues& values) {
  LayerOutputOptions& learning = values.get<LayerOutputOptions>();
  return {number("learn-steps", learning.steps, 0, int64_t{1} << 40,
                 "steps of gradient descent a layer, at most"),
          positive("learning-rate", learning.learning_rate, "of Adam"),
          word("learn-start", learning.start, {"rtn", "hqq"},
               "where AdaRound has its scales from, and what is kept where learning does not beat it"),
          number("patience", learning.patience, 1, 1000,
                 "stop a layer after so many of ten checks on held-out blocks without progress")};
}

std::shared_ptr<CalibratedQuantizer> make_layer_output_quantizer(
    const Model& model, std::shared_ptr<const Calibration> calibration, const LayerOutputOptions& options) {
  return std::make_shared<LayerOutputQuantizer>(model, std::move(calibration), options);
}

}  // namespace strata
