#include "strata/calibration/activations.h"

#include <ATen/core/grad_mode.h>

#include <algorithm>

#include "strata/core/error.h"
#include "strata/core/interrupt.h"

namespace strata {
namespace {

// Tokens that run through a layer together.
constexpr int64_t kCpuTokens = 4096, kCudaTokens = 32768;

DecoderOptions decoder_options(const ActivationOptions& options) {
  DecoderOptions decoder;
  decoder.device = options.device;
  decoder.dtype = options.dtype;
  decoder.resident = false;
  return decoder;
}

HiddenStateOptions state_options(const ActivationOptions& options) {
  HiddenStateOptions states = options.states;
  states.device = options.device;
  states.dtype = options.dtype;
  return states;
}

}  // namespace

Role input_role(Role role) {
  if (role == Role::K || role == Role::V) return Role::Q;
  if (role == Role::Up) return Role::Gate;
  return role;
}

Role role_of(std::string_view name) {
  for (const Role role : {Role::Q, Role::K, Role::V, Role::O, Role::Gate, Role::Up, Role::Down}) {
    const std::string projection = std::string(name_of(role)) + "_proj";
    const std::string_view last = name.substr(name.rfind('.') + 1);
    if (last == projection) return role;
  }
  fail("{} is not the name of a linear module", name);
}

ActivationStream::ActivationStream(const Model& model, const Calibration& calibration,
                                   const ActivationOptions& options)
    : model_(model),
      decoder_(model, decoder_options(options)),
      states_(calibration.blocks(), calibration.window(), model.config.hidden_size, state_options(options)) {
  const int64_t tokens = options.device.is_cuda() ? kCudaTokens : kCpuTokens;
  blocks_per_piece_ = std::clamp<int64_t>(tokens / calibration.window(), 1, calibration.blocks());
  for (int64_t first = 0; first < blocks(); first += blocks_per_piece_) {
    const int64_t count = std::min(blocks_per_piece_, blocks() - first);
    states_.write(first, decoder_.embed(calibration.ids.narrow(0, first, count)));
  }
}

void ActivationStream::observe(const See& see) {
  run(see, false);
}

void ActivationStream::advance(const See& see) {
  run(see, true);
  for (const Module& module : model_.modules)
    if (module.layer == layer_) decoder_.restore(module.tensor);
  decoder_.drop_layer(layer_);
  ++layer_;
}

void ActivationStream::run(const See& see, bool keep) {
  const at::NoGradGuard no_grad;
  if (at_end()) fail("all {} layers have run: there is none behind the last", model_.config.num_layers);
  if (see)
    decoder_.observe([&](int, std::string_view what, const at::Tensor& value) {
      if (what == "layer") return;
      const Role role = role_of(what);
      if (input_role(role) == role) see(role, value.reshape({-1, value.size(-1)}));
    });
  // However this ends, nobody looks any more.
  struct StopObserving {
    Decoder& decoder;
    ~StopObserving() { decoder.observe(nullptr); }
  } stop{decoder_};
  decoder_.hold_layer(layer_);
  for (int64_t first = 0; first < blocks(); first += blocks_per_piece_) {
    check_interrupted();
    const int64_t count = std::min(blocks_per_piece_, blocks() - first);
    const at::Tensor output = decoder_.layer(layer_, states_.read(first, count));
    if (keep) states_.write(first, output);
  }
}

}  // namespace strata
