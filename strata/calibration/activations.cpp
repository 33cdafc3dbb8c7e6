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

at::Tensor as_rows(const at::Tensor& values) {
  return values.reshape({-1, values.size(-1)});
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
      state_options_(state_options(options)),
      window_(calibration.window()),
      states_(calibration.blocks(), window_, model.config.hidden_size, state_options_) {
  const int64_t tokens = options.device.is_cuda() ? kCudaTokens : kCpuTokens;
  blocks_per_piece_ = std::clamp<int64_t>(tokens / calibration.window(), 1, calibration.blocks());
  for_each_piece([&](int64_t first, int64_t count) {
    states_.write(first, decoder_.embed(calibration.ids.narrow(0, first, count)));
  });
}

template <class Body>
void ActivationStream::for_each_piece(const Body& body) {
  for (int64_t first = 0; first < blocks(); first += blocks_per_piece_) {
    check_interrupted();
    body(first, std::min(blocks_per_piece_, blocks() - first));
  }
}

void ActivationStream::observe(const See& see) {
  run(see, false);
}

void ActivationStream::advance(const See& see) {
  if (stage_ != Stage::Before && !see)
    finish_layer();
  else
    run(see, true);
  for (const Module& module : model_.modules)
    if (module.layer == layer_) decoder_.restore(module.tensor);
  decoder_.drop_layer(layer_);
  ++layer_;
}

void ActivationStream::run(const See& see, bool keep) {
  const at::NoGradGuard no_grad;
  if (at_end()) fail("all {} layers have run: there is none behind the last", model_.config.num_layers);
  if (stage_ != Stage::Before) fail("layer {} is under way and cannot be observed as a whole", layer_);
  if (see)
    decoder_.observe([&](int, std::string_view what, const at::Tensor& value) {
      if (what == "layer") return;
      const Role role = role_of(what);
      if (input_role(role) == role) see(role, as_rows(value));
    });
  // However this ends, nobody looks any more.
  struct StopObserving {
    Decoder& decoder;
    ~StopObserving() { decoder.observe(nullptr); }
  } stop{decoder_};
  decoder_.hold_layer(layer_);
  for_each_piece([&](int64_t first, int64_t count) {
    const at::Tensor output = decoder_.layer(layer_, states_.read(first, count));
    if (keep) states_.write(first, output);
  });
}

void ActivationStream::proceed_to(Role role, const SeeInput& see) {
  const at::NoGradGuard no_grad;
  if (at_end()) fail("all {} layers have run: there is none behind the last", model_.config.num_layers);
  const Stage latest = role == Role::Down   ? Stage::Attended
                       : role == Role::Gate ? Stage::Mixed
                                            : Stage::Before;
  if (stage_ > latest || input_role(role) != role)
    fail("layer {} does not come to the input of {} any more", layer_, name_of(role));
  decoder_.hold_layer(layer_);
  if (role == Role::Q) return see_attention_inputs(see);
  if (stage_ == Stage::Before) mix(role == Role::O ? see : nullptr);
  if (role == Role::O) return;
  if (stage_ == Stage::Mixed) attend(role == Role::Gate ? see : nullptr);
  if (role == Role::Down) see_gated(see);
}

void ActivationStream::see_attention_inputs(const SeeInput& see) {
  const LayerWeights weights = decoder_.layer_weights(layer_);
  for_each_piece([&](int64_t first, int64_t count) {
    see(as_rows(attention_input(model_.config, weights, states_.read(first, count))));
  });
}

void ActivationStream::mix(const SeeInput& see) {
  const ModelConfig& config = model_.config;
  const LayerWeights weights = decoder_.layer_weights(layer_);
  const RopeTable rope = decoder_.rope_table(window_);
  const Attention attention = causal_attention_over(config.window_of(layer_));
  if (!mixed_) mixed_.emplace(blocks(), window_, config.num_heads * config.head_dim, state_options_);
  for_each_piece([&](int64_t first, int64_t count) {
    const at::Tensor hidden = states_.read(first, count);
    const at::Tensor mixed = decoder_.by_windows(count, window_, [&](int64_t begin, int64_t end) {
      const at::Tensor input = attention_input(config, weights, hidden.narrow(0, begin, end - begin));
      return mixed_values(config, weights, rope, attention, input);
    });
    mixed_->write(first, mixed);
    if (see) see(as_rows(mixed));
  });
  stage_ = Stage::Mixed;
}

void ActivationStream::attend(const SeeInput& see) {
  const LayerWeights weights = decoder_.layer_weights(layer_);
  for_each_piece([&](int64_t first, int64_t count) {
    const at::Tensor attended =
        project(weights, Role::O, mixed_->read(first, count)).add_(states_.read(first, count));
    states_.write(first, attended);
    if (see) see(as_rows(mlp_input(model_.config, weights, attended)));
  });
  stage_ = Stage::Attended;
}

void ActivationStream::see_gated(const SeeInput& see) {
  const LayerWeights weights = decoder_.layer_weights(layer_);
  for_each_piece([&](int64_t first, int64_t count) {
    const at::Tensor attended = states_.read(first, count);
    see(as_rows(decoder_.by_windows(count, window_, [&](int64_t begin, int64_t end) {
      const at::Tensor input = mlp_input(model_.config, weights, attended.narrow(0, begin, end - begin));
      return gated_activation(weights, input);
    })));
  });
}

void ActivationStream::finish_layer() {
  const at::NoGradGuard no_grad;
  if (stage_ == Stage::Mixed) attend(nullptr);
  const LayerWeights weights = decoder_.layer_weights(layer_);
  for_each_piece([&](int64_t first, int64_t count) {
    const at::Tensor attended = states_.read(first, count);
    states_.write(first, decoder_.by_windows(count, window_, [&](int64_t begin, int64_t end) {
      const at::Tensor part = attended.narrow(0, begin, end - begin);
      return mlp_output(model_.config, weights, part, nullptr).add_(part);
    }));
  });
  stage_ = Stage::Before;
}

}  // namespace strata
