#include "strata/quantizers/layer_output_quantizer.h"

#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <cmath>
#include <optional>
#include <utility>

#include "strata/calibration/second_moments.h"
#include "strata/core/error.h"
#include "strata/core/progress.h"
#include "strata/core/random.h"
#include "strata/device/products.h"
#include "strata/forward/load_tensor.h"
#include "strata/quantizers/finished_layers.h"
#include "strata/quantizers/layer_output.h"

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

// All blocks in random order, again and again.
class BlockOrder {
 public:
  BlockOrder(const std::vector<int64_t>& blocks, uint64_t seed) : blocks_(blocks), random_(seed) {}

  std::vector<int64_t> next(int64_t count) {
    std::vector<int64_t> some;
    for (int64_t i = 0; i < count; ++i) some.push_back(next());
    return some;
  }

 private:
  int64_t next() {
    if (order_.empty()) {
      order_ = blocks_;
      for (size_t i = order_.size(); i > 1; --i) std::swap(order_[i - 1], order_[random_.below(i)]);
    }
    const int64_t block = order_.back();
    order_.pop_back();
    return block;
  }

  const std::vector<int64_t>& blocks_;
  Random random_;
  std::vector<int64_t> order_;  // blocks still to come
};

using LearnedModules = std::vector<std::unique_ptr<LearnedModule>>;

std::vector<at::Tensor> all_of(const LearnedModules& modules, at::Tensor (LearnedModule::*weights)()) {
  std::vector<at::Tensor> all;
  for (const auto& module : modules) all.push_back((module.get()->*weights)());
  return all;
}

// Learns the modules of one layer; each keeps the best of its start and what was measured on held-out blocks.
void learn_modules(const LayerLearning& learning, const LayerOutput& output, const Blocks& blocks,
                   int64_t window, int layer, const LearnedModules& modules, Progress& progress) {
  const auto measured = [&](const std::vector<at::Tensor>& weights, const std::vector<int64_t>& where) {
    const double error = output.error(weights, where);
    if (!std::isfinite(error))
      fail("the output error of layer {} is {}; the calibration text makes the model overflow", layer, error);
    return error;
  };
  const std::vector<at::Tensor> start = all_of(modules, &LearnedModule::start_weights);
  const double first_error = measured(start, blocks.learned);
  double best_error = measured(start, blocks.held_out);
  const int64_t at_once =
      std::clamp<int64_t>(learning.tokens_per_step / window, 1, static_cast<int64_t>(blocks.learned.size()));
  BlockOrder order(blocks.learned, learning.seed * 1000003 + static_cast<uint64_t>(layer));
  const int64_t between_checks = std::max<int64_t>(1, learning.steps / std::max(1, learning.checks));
  int64_t step = 0;
  for (int without_progress = 0; step < learning.steps && first_error > 0;) {
    std::vector<at::Tensor> gradients =
        output.gradients(all_of(modules, &LearnedModule::weights), order.next(at_once));
    const double done = static_cast<double>(step) / static_cast<double>(learning.steps);
    // Of a loss that is 1 at the start.
    for (size_t i = 0; i < modules.size(); ++i) modules[i]->descend(gradients[i].div_(first_error), done);
    progress.advance();
    ++step;
    if (step % between_checks != 0 && step != learning.steps) continue;
    const double error = measured(all_of(modules, &LearnedModule::stored_weights), blocks.held_out);
    const bool better = error < best_error;
    if (better) {
      best_error = error;
      for (const auto& module : modules) module->keep();
    }
    // What AdaRound stores is good only once most weights are rounded.
    without_progress = better || 2 * step < learning.steps ? 0 : without_progress + 1;
    if (without_progress >= learning.patience) break;
  }
  progress.advance(learning.steps - step);
}

class LayerOutputQuantizer : public LayerByLayerQuantizer {
 public:
  LayerOutputQuantizer(const Model& model, std::shared_ptr<const Calibration> calibration,
                       const LayerLearning& learning, LearnedModuleMaker maker, Json identity)
      : LayerByLayerQuantizer(model),
        calibration_(std::move(calibration)),
        learning_(learning),
        maker_(std::move(maker)),
        identity_(std::move(identity)),
        blocks_(part_blocks(calibration_->blocks())) {
    if (calibration_->tokens() == 0)
      fail("quantizers that learn do so on calibration tokens, and there are none; give a text with --calib");
    if (learning.steps < 0 || learning.checks < 1 || learning.patience < 1 || learning.tokens_per_step < 1)
      fail_usage("steps, checks, patience and tokens a step of a quantizer are positive");
  }

 private:
  using Matrices = std::map<std::string, QuantizedMatrix>;

  void start() override {
    quantized_.emplace(model(), *calibration_, learning_.activations);
    unquantized_.emplace(model(), *calibration_, learning_.activations);
    finished_ = FinishedLayers();
    if (!learning_.cache.empty()) finished_ = FinishedLayers(learning_.cache, "layers", all_that_matters());
    progress_ =
        std::make_unique<Progress>("learning to round", model().config.num_layers * learning_.steps, "steps");
  }

  Json all_that_matters() const {
    Json schemes = Json::object();
    for (const Module& module : model().modules)
      if (const Scheme* scheme = planned(module)) schemes[module.tensor] = scheme->name();
    return {{"weights", weights_fingerprint(model())},
            {"tokens", calibration_->fingerprint},
            {"schemes", schemes},
            {"quantizer", identity_},
            {"steps", learning_.steps},
            {"tokens_per_step", learning_.tokens_per_step},
            {"checks", learning_.checks},
            {"patience", learning_.patience},
            {"seed", learning_.seed},
            {"device", learning_.activations.device.is_cpu() ? "cpu" : "cuda"}};
  }

  void quantize_layer(int layer) override {
    const at::NoGradGuard no_grad;
    const OneThread one;  // but for what is dealt out in tasks
    if (layer > 0) quantized_->advance();
    unquantized_->advance();
    Matrices matrices;
    for (const Module* module : model().layer_modules(layer))
      if (const Scheme* scheme = planned(*module)) {
        QuantizedMatrix& matrix = matrices[module->tensor];
        matrix.scheme = *scheme;
        matrix.rows = module->rows;
        matrix.cols = module->cols;
      }
    if (matrices.empty() || finished_.read(layer, matrices)) {
      progress_->advance(learning_.steps);
    } else {
      learn_layer(layer, matrices);
      finished_.write(layer, matrices);
    }
    for (auto& [tensor, matrix] : matrices) replace(tensor, matrix);
    for (const Module* module : model().layer_modules(layer))
      if (planned(*module) != nullptr) finish(*module, std::move(matrices.at(module->tensor)));
    if (layer + 1 == model().config.num_layers) progress_.reset();
  }

  void learn_layer(int layer, Matrices& matrices) {
    const std::map<std::string, std::vector<float>> mean_squares = squares_of_inputs();
    int64_t layer_weights = 0;
    for (const auto& [tensor, matrix] : matrices) layer_weights += matrix.rows * matrix.cols;
    LearnedModules modules;
    std::vector<std::string> names, tensors;
    for (const Module* module : model().layer_modules(layer)) {
      const Scheme* scheme = planned(*module);
      if (scheme == nullptr) continue;
      const at::Tensor weights =
          load_tensor(*model().checkpoint, module->tensor, at::kCPU, at::kFloat).contiguous();
      static const std::vector<float> none;
      const auto squares = mean_squares.find(module->input);
      LearnedOrFixed made = maker_(
          {*module, *scheme, weights, squares == mean_squares.end() ? none : squares->second, layer_weights});
      if (auto* fixed = std::get_if<QuantizedMatrix>(&made)) {
        replace(module->tensor, *fixed);
        matrices[module->tensor] = std::move(*fixed);
        continue;
      }
      modules.push_back(std::move(std::get<std::unique_ptr<LearnedModule>>(made)));
      names.push_back(module->name);
      tensors.push_back(module->tensor);
    }
    if (modules.empty()) return progress_->advance(learning_.steps);
    const LayerOutput output(*quantized_, *unquantized_, names);
    learn_modules(learning_, output, blocks_, calibration_->window(), layer, modules, *progress_);
    for (size_t i = 0; i < modules.size(); ++i) matrices[tensors[i]] = modules[i]->best();
  }

  // Mean squares of the layer's inputs, by the first module that reads each.
  std::map<std::string, std::vector<float>> squares_of_inputs() {
    std::map<std::string, std::vector<float>> means;
    if (!learning_.mean_squares) return means;
    const int layer = quantized_->layer();
    const std::map<std::string, InputMoments> moments = measure_inputs(*quantized_, false, false);
    for (const Module* module : model().layer_modules(layer))
      if (module->input == module->name) means[module->input] = mean_squares(*module, moments);
    return means;
  }

  void replace(const std::string& tensor, const QuantizedMatrix& matrix) {
    at::Tensor weights = at::empty({matrix.rows, matrix.cols}, at::kFloat);
    matrix.dequantize(weights.data_ptr<float>());
    quantized_->decoder().replace(tensor, weights);
  }

  std::shared_ptr<const Calibration> calibration_;
  LayerLearning learning_;
  LearnedModuleMaker maker_;
  Json identity_;
  Blocks blocks_;
  std::optional<ActivationStream> quantized_, unquantized_;  // before the layer, and behind it
  FinishedLayers finished_;
  std::unique_ptr<Progress> progress_;
};

}  // namespace

std::shared_ptr<CalibratedQuantizer> make_layer_output_quantizer(
    const Model& model, std::shared_ptr<const Calibration> calibration, const LayerLearning& learning,
    LearnedModuleMaker maker, Json identity) {
  return std::make_shared<LayerOutputQuantizer>(model, std::move(calibration), learning, std::move(maker),
                                                std::move(identity));
}

}  // namespace strata
