#include "strata/calibration/gradients.h"

#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <numeric>
#include <optional>
#include <vector>

#include "strata/core/progress.h"
#include "strata/core/threads.h"
#include "strata/device/products.h"
#include "strata/forward/decoder.h"
#include "strata/forward/ends.h"
#include "strata/forward/linear.h"
#include "strata/model/boundary_modules.h"

namespace strata {
namespace {

constexpr int64_t kLogits = int64_t{1} << 25;  // of a block that are in memory at a time

class BackwardPass {
 public:
  BackwardPass(const Model& model, const Calibration& calibration, const GradientOptions& options)
      : model_(model),
        options_(options),
        ids_(calibration.ids),
        layers_(model.config.num_layers),
        decoder_(model, decoder_options(options)),
        progress_("computing gradients",
                  (2 * layers_ + static_cast<int64_t>(options.boundaries.size())) * calibration.blocks(),
                  "block layers") {
    HiddenStateOptions states;
    states.device = options.device;
    states.memory_limit = options.memory_limit / (layers_ + 2);
    const auto kept = [&](int64_t size) { return HiddenStates(ids_.size(0), ids_.size(1), size, states); };
    const int64_t changing = changing_size(model.config), whole = stream_size(model.config);
    for (int64_t layer = 0; layer <= layers_; ++layer) states_.push_back(kept(changing));
    states_.push_back(kept(whole));
    if (whole > changing) constant_.emplace(kept(whole - changing));
  }

  void forward() {
    const at::NoGradGuard no_grad;
    for (int64_t b = 0; b < ids_.size(0); ++b) {
      const at::Tensor stream = decoder_.embed(ids_.narrow(0, b, 1));
      write(0, b, stream);
      if (constant_) constant_->write(b, stream.narrow(-1, changing_size(model_.config), constant_size()));
    }
    for (int layer = 0; layer < layers_; ++layer) {
      decoder_.hold_layer(layer);
      const int64_t blocks = ids_.size(0), together = options_.device.is_cpu() ? thread_count() : 1;
      for (int64_t b = 0; b < blocks; b += together) {
        const int64_t count = std::min(together, blocks - b);
        write(layer + 1, b, decoder_.layer(layer, read(layer, b, count)));
        progress_.advance(count);
      }
      decoder_.drop_layer(layer);
    }
  }

  // The mean loss; leaves the loss's gradient by the last hidden states where the gradients are kept.
  double backward_through_head() {
    const OneThread one;  // but for products, which are dealt out
    const at::Tensor head = decoder_.weight(model_.head);
    const int64_t blocks = ids_.size(0), together = blocks_together(3 * positions_together() * head.size(0));
    std::vector<double> losses(static_cast<size_t>(blocks));
    for (int64_t first = 0; first < blocks; first += together)
      parallel_for(std::min(together, blocks - first), 1, [&](int64_t i, int64_t) {
        losses[static_cast<size_t>(first + i)] = backward_through_head(head, first + i);
      });
    return std::accumulate(losses.begin(), losses.end(), 0.0) / static_cast<double>(blocks);
  }

  // Turns the gradient by a layer's output into that by its input, and shows those by its modules.
  void backward_through_layer(int index, const SeeGradient& see) {
    const OneThread one;  // but for products, which are dealt out
    const int64_t blocks = ids_.size(0), together = blocks_together(layer_params(index));
    const LayerRun run = decoder_.layer_run(index, ids_.size(1));
    const std::vector<const Module*> modules = model_.layer_modules(index);
    for (int64_t first = 0; first < blocks; first += together) {
      const int64_t count = std::min(together, blocks - first);
      std::vector<std::vector<at::Tensor>> by_modules(static_cast<size_t>(count));
      parallel_for(count, 1, [&](int64_t i, int64_t) {
        by_modules[static_cast<size_t>(i)] = backward_through_layer(run, index, first + i);
      });
      for (int64_t i = 0; i < count; ++i) {
        for (size_t m = 0; m < modules.size(); ++m)
          see(*modules[m], first + i, by_modules[static_cast<size_t>(i)][m]);
        progress_.advance();
      }
    }
  }

  // Behind the first layer's backward pass.
  void show_boundary(const Module& module, const SeeGradient& see) {
    const OneThread one;  // but for products, which are dealt out
    for (int64_t block = 0; block < ids_.size(0); ++block) {
      at::Tensor gradient;
      if (module.tensor == model_.head) gradient = gradient_of_head(block);
      if (module.tensor == model_.embedding) {
        if (!gradient.defined())
          gradient = at::zeros({module.rows, module.cols}, at::device(options_.device).dtype(at::kFloat));
        const at::Tensor ids = ids_.narrow(0, block, 1);
        const at::Tensor by_rows =
            gradient_by_rows(model_.config, decoder_.embedding_rows(ids), decoder_.layer_embedding(ids),
                             gradients().read(block, 1));
        gradient.index_add_(0, ids_[block].to(options_.device), by_rows[0]);
      }
      see(module, block, gradient);
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

  // The stream before a layer, of whose features those that no layer changes are kept once.
  at::Tensor read(int64_t layer, int64_t block, int64_t count) const {
    const at::Tensor changing = states_[static_cast<size_t>(layer)].read(block, count);
    return constant_ ? with_changing_part(model_.config, changing, constant_->read(block, count)) : changing;
  }
  void write(int64_t layer, int64_t block, const at::Tensor& stream) {
    states_[static_cast<size_t>(layer)].write(block, changing_part(model_.config, stream));
  }
  int64_t constant_size() const { return stream_size(model_.config) - changing_size(model_.config); }

  // As many blocks as there are threads, if so many floats of each fit in memory.
  int64_t blocks_together(int64_t floats) const {
    if (!options_.device.is_cpu()) return 1;
    const int64_t bytes = std::max<int64_t>(1, floats) * static_cast<int64_t>(sizeof(float));
    return std::clamp<int64_t>(options_.memory_limit / bytes, 1, thread_count());
  }

  // The loss of one block.
  double backward_through_head(const at::Tensor& head, int64_t block) {
    const at::AutoGradMode with_gradients(true);  // of this thread
    at::Tensor hidden = read(layers_, block, 1).detach().clone().set_requires_grad(true);
    const double loss = backward_through_head(hidden, head, block);
    gradients().write(block, hidden.grad());
    return loss;
  }

  at::Tensor gradient_of_head(int64_t block) {
    const at::AutoGradMode with_gradients(true);
    const at::Tensor head = decoder_.weight(model_.head).detach().set_requires_grad(true);
    backward_through_head(read(layers_, block, 1).detach(), head, block);
    return head.grad();
  }

  // The mean loss of a block whose last layer gave `hidden`; leaves its gradients by `hidden` and by `head`,
  // where they want them. Logits of some positions at a time are in memory.
  double backward_through_head(const at::Tensor& hidden, const at::Tensor& head, int64_t block) {
    const int64_t predicted = ids_.size(1) - 1, most = positions_together();
    const at::Tensor normed = decoder_.final_normed(hidden).narrow(1, 0, predicted);
    const at::Tensor targets = ids_[block].narrow(0, 1, predicted).to(hidden.device());
    const at::Tensor by_normed = at::zeros_like(normed);
    double loss = 0;
    for (int64_t first = 0; first < predicted; first += most) {
      const int64_t count = std::min(most, predicted - first);
      const at::Tensor some =
          normed.narrow(1, first, count).detach().set_requires_grad(normed.requires_grad());
      const at::Tensor logits = softcapped(linear(some, head, at::Tensor())[0], model_.config.final_softcap);
      const at::Tensor of_some = at::nll_loss(at::log_softmax(logits, -1), targets.narrow(0, first, count)) *
                                 (static_cast<double>(count) / static_cast<double>(predicted));
      of_some.backward();
      loss += of_some.item<double>();
      if (normed.requires_grad()) by_normed.narrow(1, first, count).copy_(some.grad());
    }
    if (normed.requires_grad()) normed.backward(by_normed);
    return loss;
  }

  int64_t positions_together() const {
    return std::clamp<int64_t>(kLogits / model_.config.vocab_size, 1, ids_.size(1));
  }

  int64_t layer_params(int index) const {
    int64_t params = 0;
    for (const Module* module : model_.layer_modules(index)) params += module->params();
    return params;
  }

  // One block through one layer: the gradients by the modules.
  std::vector<at::Tensor> backward_through_layer(LayerRun run, int index, int64_t block) {
    const at::AutoGradMode with_gradients(true);  // of this thread
    const std::vector<const Module*> modules = model_.layer_modules(index);
    for (const Module* module : modules) {
      at::Tensor& weight = run.weights.weight(module->name);
      weight = weight.detach().set_requires_grad(true);
    }
    at::Tensor hidden = read(index, block, 1).detach().clone().set_requires_grad(true);
    run_layer(run, hidden).backward(gradients().read(block, 1));
    gradients().write(block, hidden.grad());
    std::vector<at::Tensor> by_modules;
    for (const Module* module : modules) by_modules.push_back(run.weights.weight(module->name).grad());
    return by_modules;
  }

  const Model& model_;
  const GradientOptions options_;
  const at::Tensor ids_;
  const int64_t layers_;
  Decoder decoder_;
  std::vector<HiddenStates> states_;  // before every layer, after the last, and the gradient by the stream
  std::optional<HiddenStates> constant_;  // what no layer changes of the stream
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
  for (const Module& boundary : options.boundaries) pass.show_boundary(boundary, see);
  if (layer_done && !options.boundaries.empty()) layer_done(kNoLayer);
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
