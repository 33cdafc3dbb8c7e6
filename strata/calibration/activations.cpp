#include "strata/calibration/activations.h"

#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <utility>

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

const auto& block_of(const LayerRun& run, const Stage& stage) {
  return run.plan.blocks[stage.block].block;
}

// By the first sequence of those that went through together: names and rows of inputs, of all the same names.
using SeenInputs = std::vector<std::vector<std::pair<std::string, at::Tensor>>>;

void show(const SeenInputs& inputs, const ActivationStream::See& see) {
  for (size_t i = 0; i < inputs.front().size(); ++i) {
    std::vector<at::Tensor> pieces;
    for (const auto& of_sequences : inputs)
      if (!of_sequences.empty()) pieces.push_back(of_sequences[i].second);
    see(inputs.front()[i].first, at::cat(pieces));
  }
}

}  // namespace

ActivationStream::ActivationStream(const Model& model, const Calibration& calibration,
                                   const ActivationOptions& options)
    : model_(model),
      decoder_(model, decoder_options(options)),
      state_options_(state_options(options)),
      window_(calibration.window()),
      states_(calibration.blocks(), window_, stream_size(model.config), state_options_) {
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

std::string input_of(const Module& module, int64_t expert) {
  return module.experts > 0 ? expert_name(module.input, expert) : module.input;
}

std::vector<Stage> ActivationStream::stages() const {
  require_layer();
  return stages_of(architecture_of(model_.config).plan(model_.config, layer_));
}

std::vector<std::string> ActivationStream::inputs() const {
  std::vector<std::string> inputs;
  for (const Stage& stage : stages())
    if (!stage.matrices.empty()) inputs.push_back(stage.matrices.front());
  return inputs;
}

void ActivationStream::observe(const See& see) {
  run(see, false);
}

void ActivationStream::advance(const See& see) {
  if (stage_ > 0 && !see) {
    require_layer();
    run_stages(stages().size(), nullptr);
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
  const std::unordered_set<std::string> seen = see ? seen_inputs() : std::unordered_set<std::string>();
  if (see)
    decoder_.observe([&](int, std::string_view what, const at::Tensor& value) {
      if (const auto found = seen.find(std::string(what)); found != seen.end()) see(*found, as_rows(value));
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

// The names of the layer's inputs that are shown: of matrices that read the same the first.
std::unordered_set<std::string> ActivationStream::seen_inputs() const {
  std::unordered_set<std::string> seen;
  for (const Module* module : model_.layer_modules(layer_))
    for (int64_t expert = 0; module->input == module->name && expert < module->matrices(); ++expert)
      seen.insert(input_of(*module, expert));
  return seen;
}

void ActivationStream::proceed_to(const std::string& input, const See& see) {
  const std::vector<Stage> all = stages();
  const auto stage =
      static_cast<size_t>(std::find_if(all.begin(), all.end(),
                                       [&](const Stage& each) {
                                         return !each.matrices.empty() && each.matrices.front() == input;
                                       }) -
                          all.begin());
  if (stage == all.size() || stage < stage_)
    fail("layer {} does not come to the input of {} any more", layer_, input);
  decoder_.hold_layer(layer_);
  run_stages(stage, see);
}

LayerState ActivationStream::read_state(const LayerRun& run, int64_t first, int64_t count) const {
  LayerState state = state_of(run, states_.read(first, count));
  if (values_) state.value = values_->read(first, count);
  return state;
}

// Runs the stages before `end`, shows what the matrices of that one read, and keeps the states before it, or
// before the stage before it where what it reads is wider than the stream, or before the router of its block
// where experts read it: those then run again.
void ActivationStream::run_stages(size_t end, const See& see) {
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
  size_t kept = is_wide(end) && end > stage_ ? end - 1 : end;
  if (end < run.stages.size() && std::holds_alternative<ExpertsPlan>(block_of(run, run.stages[end])))
    while (!run.stages[kept].route) --kept;
  std::optional<HiddenStates> values;
  if (kept < run.stages.size() && run.stages[kept].reads_value)
    values.emplace(blocks(), window_, width_of_value(kept), state_options_);
  for_each_piece([&](int64_t first, int64_t count) {
    const LayerState before = read_state(run, first, count);
    std::vector<LayerState> keep(static_cast<size_t>(count));
    SeenInputs inputs(static_cast<size_t>(count));
    decoder_.for_sequences(count, window_, [&](int64_t begin, int64_t stop) {
      const auto some = [&](const at::Tensor& of_all) {
        return of_all.defined() ? of_all.narrow(0, begin, stop - begin) : at::Tensor();
      };
      LayerState state{some(before.hidden), some(before.value)};
      state.carried = some(before.carried);
      for (size_t stage = stage_; stage < end; ++stage) {
        if (stage == kept) keep[static_cast<size_t>(begin)] = state;
        state = run_stage(run, run.stages[stage], state);
      }
      if (kept == end) keep[static_cast<size_t>(begin)] = state;
      if (!see) return;
      const Stage& stage = run.stages[end];
      show_input(stage, state, stage.matrices.front(), stage_input(run, stage, state),
                 [&](std::string_view input, const at::Tensor& read) {
                   inputs[static_cast<size_t>(begin)].emplace_back(input, as_rows(read));
                 });
    });
    for (int64_t block = 0; block < count && kept > stage_; ++block) {
      const LayerState& state = keep[static_cast<size_t>(block)];
      if (!state.hidden.defined()) continue;  // several went through together
      states_.write(first + block, stream_of(state));
      if (values) values->write(first + block, state.value);
    }
    if (see) show(inputs, see);
  });
  if (kept == stage_) return;
  values_ = std::move(values);
  stage_ = kept;
}

}  // namespace strata
