#pragma once

#include <ATen/ATen.h>

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <unordered_set>
#include <vector>

#include "strata/calibration/calibration.h"
#include "strata/calibration/hidden_states.h"
#include "strata/forward/decoder.h"

namespace strata {

struct ActivationOptions {
  at::Device device = at::kCPU;
  at::ScalarType dtype = at::kFloat;  // of weights and activations as they are computed
  HiddenStateOptions states;          // device and dtype are set from the above
};

// The name under which the input of a module is seen, of a stack that of an expert.
std::string input_of(const Module& module, int64_t expert);

// A calibration set on its way through the model, one layer at a time: in memory are one layer's weights, the
// hidden states of all blocks (or a temporary file), and the activations of a piece.
//
//   ActivationStream stream(model, calibration, options);
//   for (; !stream.at_end(); stream.advance()) {
//     stream.observe([&](const std::string& input, const at::Tensor& values) { ... });  // of stream.layer()
//     stream.decoder().replace(tensor, quantized);                         // what advance() runs with
//   }
//
// The model must outlive it.
class ActivationStream {
 public:
  ActivationStream(const Model& model, const Calibration& calibration, const ActivationOptions& options);

  int layer() const { return layer_; }  // whose input is held; num_layers at the end
  bool at_end() const { return layer_ == model_.config.num_layers; }

  // Sees the inputs of the layer's modules, piece by piece and in the order of the blocks: values [tokens,
  // in] of decoder().options().dtype on the device, once for all modules that read the same, under the name
  // of the first of them (Module::input); of a stack for every expert under input_of(), as an InputObserver
  // sees them.
  using See = std::function<void(const std::string& input, const at::Tensor& values)>;

  // Runs the layer, as replaced, over all blocks and stays before it.
  void observe(const See& see);

  // Runs the layer, as replaced, over all blocks as far as an input, and sees that, piece by piece: [tokens,
  // in]. The layer then stands there: the matrices before it are taken as they have been replaced by now, and
  // must stay so. Inputs come in the order of inputs(); any may be left out. States of the residual stream
  // and values behind attention are kept as hidden states are, each within their limit, so that only gate and
  // up run twice.
  void proceed_to(const std::string& input, const See& see);

  // The layer's inputs by name, in the order in which it comes to them.
  std::vector<std::string> inputs() const;

  // Runs what is left of the layer, as replaced, over all blocks and moves behind it; `see` may be null, and
  // must be once proceed_to() has left the layer's beginning. The layer's replacements are dropped with its
  // other weights.
  void advance(const See& see = nullptr);

  // The stream [count, window, stream_size] (model/stream.h) before layer(), until proceed_to() leaves the
  // layer's beginning.
  at::Tensor hidden(int64_t first, int64_t count) const { return states_.read(first, count); }

  int64_t blocks() const { return states_.blocks(); }
  int64_t blocks_per_piece() const { return blocks_per_piece_; }
  Decoder& decoder() { return decoder_; }

 private:
  void require_layer() const;
  std::vector<Stage> stages() const;  // of the layer
  std::unordered_set<std::string> seen_inputs() const;
  LayerState read_state(const LayerRun& run, int64_t first, int64_t count) const;
  void run(const See& see, bool keep);
  void run_stages(size_t end, const See& see);
  template <class Body>
  void for_each_piece(const Body& body);

  const Model& model_;
  Decoder decoder_;
  HiddenStateOptions state_options_;
  int64_t window_;
  HiddenStates states_;
  std::optional<HiddenStates> values_;  // LayerState::value where the stage reads one
  size_t stage_ = 0;                    // before which the blocks stand
  int64_t blocks_per_piece_;
  int layer_ = 0;
};

}  // namespace strata
