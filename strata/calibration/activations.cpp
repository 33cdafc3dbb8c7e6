#include "strata/calibration/activations.h"

#include <ATen/core/grad_mode.h>

#include <algorithm>

#include "strata/core/error.h"
#include "strata/core/interrupt.h"
#include "strata/model/layout.h"

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

void ActivationStream::require_layer() const {
  if (at_end()) fail("all {} layers have run: there is none behind the last", model_.config.num_layers);
}

std::vector<std::string> ActivationStream::inputs() const {
  require_layer();
  std::vector<std::string> inputs;
  for (const auto& readers : readers_of(architecture_of(model_.config).plan(model_.config, layer_)))
    inputs.push_back(readers.front());
  return inputs;
}

void ActivationStream::observe(const See& see) {
  run(see, false);
}

void ActivationStream::advance(const See& see) {
  if (stage_ > 0 && !see) {
    require_layer();
    run_stages(inputs().size(), nullptr);
  } else {
    run(see, true);
  }
  stage_ = 0;
  for (const Module* module : model_.layer_modules(layer_)) decoder_.restore(module->tensor);
  decoder_.drop_layer(layer_);
  ++layer_;
}

void ActivationStream::run(const See& see, bool keep) {
  const at::NoGradGuard no_grad;
  require_layer();
  if (stage_ > 0) fail("layer {} is under way and cannot be observed as a whole", layer_);
  if (see)
    decoder_.observe([&](int layer, std::string_view what, const at::Tensor& value) {
      if (what == "layer") return;
      const Module& module = model_.module(layer, what);
      if (module.input == module.name) see(module.input, as_rows(value));
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

void ActivationStream::proceed_to(const std::string& input, const SeeInput& see) {
  const std::vector<std::string> all = inputs();
  const auto stage = static_cast<size_t>(std::find(all.begin(), all.end(), input) - all.begin());
  if (stage == all.size() || stage < stage_)
    fail("layer {} does not come to the input of {} any more", layer_, input);
  decoder_.hold_layer(layer_);
  run_stages(stage, see);
}

LayerState ActivationStream::read_state(int64_t first, int64_t count) const {
  LayerState state{states_.read(first, count), {}};
  if (values_) state.value = values_->read(first, count);
  return state;
}

// Runs the stages before `end`, shows what the matrices of that one read, and keeps the states before it, or
// before the stage before it where what it reads is wider than the stream: that then runs again.
void ActivationStream::run_stages(size_t end, const SeeInput& see) {
  const at::NoGradGuard no_grad;
  const LayerRun run = decoder_.layer_run(layer_, window_);
  // Of the value before a stage: what this stage and those behind it read of it.
  const auto width_of_value = [&](size_t stage) {
    int64_t width = 0;
    for (; stage < run.stages.size() && run.stages[stage].reads_value; ++stage)
      width += model_.module(layer_, run.stages[stage].matrices.front()).cols;
    return width;
  };
  const auto is_wide = [&](size_t stage) { return width_of_value(stage) > 2 * model_.config.hidden_size; };
  const size_t kept = is_wide(end) && end > stage_ ? end - 1 : end;
  std::optional<HiddenStates> values;
  if (kept < run.stages.size() && run.stages[kept].reads_value)
    values.emplace(blocks(), window_, width_of_value(kept), state_options_);
  for_each_piece([&](int64_t first, int64_t count) {
    const LayerState before = read_state(first, count);
    std::vector<LayerState> keep(static_cast<size_t>(count));
    std::vector<at::Tensor> inputs(static_cast<size_t>(count));
    decoder_.for_sequences(count, window_, [&](int64_t begin, int64_t stop) {
      LayerState state{before.hidden.narrow(0, begin, stop - begin),
                       before.value.defined() ? before.value.narrow(0, begin, stop - begin) : at::Tensor()};
      for (size_t stage = stage_; stage < end; ++stage) {
        if (stage == kept) keep[static_cast<size_t>(begin)] = state;
        state = run_stage(run, run.stages[stage], state);
      }
      if (kept == end) keep[static_cast<size_t>(begin)] = state;
      if (see) inputs[static_cast<size_t>(begin)] = stage_input(run, run.stages[end], state);
    });
    for (int64_t block = 0; block < count && kept > stage_; ++block) {
      const LayerState& state = keep[static_cast<size_t>(block)];
      if (!state.hidden.defined()) continue;  // several went through together
      states_.write(first + block, state.hidden);
      if (values) values->write(first + block, state.value);
    }
    if (!see) return;
    inputs.erase(
        std::remove_if(inputs.begin(), inputs.end(), [](const at::Tensor& x) { return !x.defined(); }),
        inputs.end());
    see(as_rows(at::cat(inputs)));
  });
  if (kept == stage_) return;
  values_ = std::move(values);
  stage_ = kept;
}

}  // namespace strata
