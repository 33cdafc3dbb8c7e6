#include "strata/calibration/gradients.h"

#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <vector>

#include "strata/core/progress.h"
#include "strata/device/products.h"
#include "strata/model/decoder.h"
#include "strata/model/linear.h"

namespace strata {
namespace {

// The linear modules' weights of a layer, made ready to receive gradients.
struct TrainableLayer {
  LayerRun run;
  std::vector<std::pair<const Module*, at::Tensor>> linear;
};

class BackwardPass {
 public:
  BackwardPass(const Model& model, const Calibration& calibration, const GradientOptions& options)
      : model_(model),
        ids_(calibration.ids),
        layers_(model.config.num_layers),
        decoder_(model, decoder_options(options)),
        progress_("computing gradients", 2 * layers_ * calibration.blocks(), "block layers") {
    HiddenStateOptions states;
    states.device = options.device;
    states.memory_limit = options.memory_limit / (layers_ + 2);
    for (int64_t layer = 0; layer <= layers_ + 1; ++layer)
      states_.emplace_back(ids_.size(0), ids_.size(1), model.config.hidden_size, states);
  }

  void forward() {
    const at::NoGradGuard no_grad;
    for (int64_t b = 0; b < ids_.size(0); ++b) states_[0].write(b, decoder_.embed(ids_.narrow(0, b, 1)));
    for (int layer = 0; layer < layers_; ++layer) {
      decoder_.hold_layer(layer);
      for (int64_t b = 0; b < ids_.size(0); ++b) {
        states_[layer + 1].write(b, decoder_.layer(layer, states_[layer].read(b, 1)));
        progress_.advance();
      }
      decoder_.drop_layer(layer);
    }
  }

  // The mean loss; leaves the loss's gradient by the last hidden states where the gradients are kept.
  double backward_through_head() {
    const at::AutoGradMode with_gradients(true);
    const OneThread one;  // but for products, which are dealt out
    const at::Tensor head = decoder_.weight(model_.head);
    const int64_t predicted = ids_.size(1) - 1;
    double loss_sum = 0;
    for (int64_t b = 0; b < ids_.size(0); ++b) {
      at::Tensor hidden = states_[layers_].read(b, 1).detach().clone().set_requires_grad(true);
      const at::Tensor normed = decoder_.final_normed(hidden).narrow(1, 0, predicted);
      const at::Tensor targets = ids_[b].narrow(0, 1, predicted).to(hidden.device());
      const at::Tensor loss =
          at::nll_loss(at::log_softmax(linear(normed, head, at::Tensor())[0], -1), targets);
      loss_sum += loss.item<double>();
      loss.backward();
      gradients().write(b, hidden.grad());
    }
    return loss_sum / static_cast<double>(ids_.size(0));
  }

  // Turns the gradient by a layer's output into that by its input, and shows those by its modules.
  void backward_through_layer(int index, const SeeGradient& see) {
    const at::AutoGradMode with_gradients(true);
    const OneThread one;  // but for products, which are dealt out
    TrainableLayer layer = trainable(index);
    for (int64_t b = 0; b < ids_.size(0); ++b) {
      at::Tensor hidden = states_[index].read(b, 1).detach().clone().set_requires_grad(true);
      run_layer(layer.run, hidden).backward(gradients().read(b, 1));
      gradients().write(b, hidden.grad());
      for (auto& [module, weight] : layer.linear) {
        see(*module, b, weight.grad());
        weight.mutable_grad().zero_();
      }
      progress_.advance();
    }
  }

 private:
  static DecoderOptions decoder_options(const GradientOptions& options) {
    DecoderOptions decoder;
    decoder.device = options.device;
    decoder.resident = false;
    return decoder;
  }

  HiddenStates& gradients() { return states_.back(); }

  TrainableLayer trainable(int index) {
    TrainableLayer layer{decoder_.layer_run(index, ids_.size(1)), {}};
    for (const Module* module : model_.layer_modules(index)) {
      at::Tensor& weight = layer.run.weights.weight(module->name);
      weight = weight.detach().set_requires_grad(true);
      layer.linear.emplace_back(module, weight);
    }
    return layer;
  }

  const Model& model_;
  const at::Tensor ids_;
  const int64_t layers_;
  Decoder decoder_;
  std::vector<HiddenStates> states_;  // before every layer, after the last, and the gradient by them
  Progress progress_;
};

}  // namespace

double for_each_gradient(const Model& model, const Calibration& calibration, const GradientOptions& options,
                         const SeeGradient& see, const LayerDone& layer_done) {
  BackwardPass pass(model, calibration, options);
  pass.forward();
  const double loss = pass.backward_through_head();
  for (int layer = static_cast<int>(model.config.num_layers) - 1; layer >= 0; --layer) {
    pass.backward_through_layer(layer, see);
    if (layer_done) layer_done(layer);
  }
  return loss;
}

void GradientSums::add(const Module& module, const at::Tensor& gradient) {
  const at::NoGradGuard no_grad;
  Entry& entry = entries_[module.tensor];
  if (!entry.sum.defined()) {
    entry.sum = at::zeros_like(gradient);
    entry.squares = at::zeros_like(gradient);
  }
  entry.sum.add_(gradient);
  entry.squares.addcmul_(gradient, gradient);
  ++entry.blocks;
}

}  // namespace strata
