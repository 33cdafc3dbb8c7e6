#include "strata/sensitivity/output_losses.h"

#include <algorithm>

namespace strata {
namespace {

// Sums of a row in float, of the rows in double precision.
at::Tensor sum_of(const at::Tensor& values) {
  return values.sum(-1).sum(at::kDouble);
}

class LayerLoss : public OutputLoss {
 public:
  explicit LayerLoss(const ModelConfig& config) : config_(config) {}
  at::Tensor outcome(int, const at::Tensor& output) override { return hidden_states(config_, output); }
  at::Tensor squared_distance(const at::Tensor& a, const at::Tensor& b) override {
    return sum_of((a - b).square_());
  }

 private:
  const ModelConfig& config_;
};

class LogitsLoss : public OutputLoss {
 public:
  LogitsLoss(const Model& model, at::Device device, int64_t window) : decoder_(model, options(device)) {
    // Everything is loaded now, so that threads find it without changing anything.
    // The rotary tables too.
    for (int layer = 0; layer < model.config.num_layers; ++layer) decoder_.layer_run(layer, window);
    decoder_.weight(model.final_norm);
    const at::Tensor head = decoder_.weight(model.head);
    gram_ = at::zeros({head.size(1), head.size(1)}, head.options().dtype(at::kDouble));
    constexpr int64_t kRows = 8192;
    for (int64_t first = 0; first < head.size(0); first += kRows) {
      const at::Tensor rows = head.narrow(0, first, std::min(kRows, head.size(0) - first)).to(at::kDouble);
      gram_.addmm_(rows.t(), rows);
    }
    gram_ = gram_.to(at::kFloat);
  }

  at::Tensor outcome(int layer, const at::Tensor& output) override {
    at::Tensor hidden = output;
    const ModelConfig& config = decoder_.model().config;
    for (int next = layer + 1; next < config.num_layers; ++next) hidden = decoder_.layer(next, hidden);
    return decoder_.final_normed(hidden);
  }

  at::Tensor squared_distance(const at::Tensor& a, const at::Tensor& b) override {
    const at::Tensor difference = a - b;
    return sum_of(at::matmul(difference, gram_).mul_(difference));
  }

 private:
  static DecoderOptions options(at::Device device) {
    DecoderOptions decoder;
    decoder.device = device;
    return decoder;
  }

  Decoder decoder_;
  at::Tensor gram_;
};

}  // namespace

std::unique_ptr<OutputLoss> make_layer_loss(const Model& model) {
  return std::make_unique<LayerLoss>(model.config);
}

std::unique_ptr<OutputLoss> make_logits_loss(const Model& model, at::Device device, int64_t window) {
  return std::make_unique<LogitsLoss>(model, device, window);
}

}  // namespace strata
