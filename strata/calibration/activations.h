#pragma once

#include <ATen/ATen.h>

#include <cstdint>
#include <functional>
#include <optional>

#include "strata/calibration/calibration.h"
#include "strata/calibration/hidden_states.h"
#include "strata/model/decoder.h"

namespace strata {

// Modules of a layer that read the same input: q, k and v; o; gate and up; down. The first of them stands for
// all: Role::Q, Role::O, Role::Gate, Role::Down.
Role input_role(Role role);

// The role of a module's name inside its layer ("self_attn.q_proj").
Role role_of(std::string_view name);

struct ActivationOptions {
  at::Device device = at::kCPU;
  at::ScalarType dtype = at::kFloat;  // of weights and activations as they are computed
  HiddenStateOptions states;          // device and dtype are set from the above
};

// A calibration set on its way through the model, one layer at a time: in memory are one layer's weights, the
// hidden states of all blocks (or a temporary file), and the activations of a piece.
//
//   ActivationStream stream(model, calibration, options);
//   for (; !stream.at_end(); stream.advance()) {
//     stream.observe([&](Role role, const at::Tensor& input) { ... });    // inputs of layer stream.layer()
//     stream.decoder().replace(tensor, quantized);                         // what advance() runs with
//   }
//
// The model must outlive it.
class ActivationStream {
 public:
  ActivationStream(const Model& model, const Calibration& calibration, const ActivationOptions& options);

  int layer() const { return layer_; }  // whose input is held; num_layers at the end
  bool at_end() const { return layer_ == model_.config.num_layers; }

  // Sees the inputs of the layer's modules, piece by piece and in the order of the blocks: input [tokens, in]
  // of decoder().options().dtype on the device, once for every input_role().
  using See = std::function<void(Role role, const at::Tensor& input)>;

  // Runs the layer, as replaced, over all blocks and stays before it.
  void observe(const See& see);

  // Runs the layer, as replaced, over all blocks as far as the inputs of a role that is its own input_role(),
  // and sees those, piece by piece: [tokens, in]. The layer then stands there: the matrices before the role
  // are taken as they have been replaced by now, and must stay so. Roles in the order Q, O, Gate, Down; any
  // may be left out. Values behind attention and states between attention and MLP are kept as hidden states
  // are, each within their limit, so that only gate and up run twice.
  using SeeInput = std::function<void(const at::Tensor& input)>;
  void proceed_to(Role role, const SeeInput& see);

  // Runs what is left of the layer, as replaced, over all blocks and moves behind it; `see` may be null, and
  // must be once proceed_to() has passed attention. The layer's replacements are dropped with its other
  // weights.
  void advance(const See& see = nullptr);

  // The hidden states [count, window, hidden_size] before layer(), until proceed_to() passes attention.
  at::Tensor hidden(int64_t first, int64_t count) const { return states_.read(first, count); }

  int64_t blocks() const { return states_.blocks(); }
  int64_t blocks_per_piece() const { return blocks_per_piece_; }
  Decoder& decoder() { return decoder_; }

 private:
  // What the blocks have in store: their states before the layer; those and the values that attention mixed;
  // or their states between attention and MLP.
  enum class Stage { Before, Mixed, Attended };

  void run(const See& see, bool keep);
  void see_attention_inputs(const SeeInput& see);
  void mix(const SeeInput& see);
  void attend(const SeeInput& see);
  void see_gated(const SeeInput& see);
  void finish_layer();
  template <class Body>
  void for_each_piece(const Body& body);

  const Model& model_;
  Decoder decoder_;
  HiddenStateOptions state_options_;
  int64_t window_;
  HiddenStates states_;
  std::optional<HiddenStates> mixed_;  // inputs of o [blocks, window, heads * head_dim]
  Stage stage_ = Stage::Before;
  int64_t blocks_per_piece_;
  int layer_ = 0;
};

}  // namespace strata
