#include "strata/model/decoder.h"

#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <iterator>
#include <utility>

#include "strata/core/blas_threads.h"
#include "strata/core/error.h"
#include "strata/core/threads.h"
#include "strata/device/device.h"
#include "strata/model/load_tensor.h"

namespace strata {
namespace {

// Elements of the largest activation a piece of a batch may have: small enough for the caches of a CPU, large
// enough to fill a GPU.
constexpr int64_t kCpuPiece = int64_t{1} << 20;
constexpr int64_t kCudaPiece = int64_t{1} << 28;
// Elements of that activation in all threads together when each has a window of its own.
constexpr int64_t kSpreadElements = int64_t{1} << 26;
// Rows of the head that are in memory at a time when weights are not kept.
constexpr int64_t kHeadElements = int64_t{1} << 26;

}  // namespace

Decoder::Decoder(const Model& model, DecoderOptions options) : model_(model), options_(options) {
  require_runnable(model, "the forward pass");
  if (options_.dtype != at::kFloat && options_.dtype != at::kBFloat16)
    fail_usage("a decoder computes in float32 or bfloat16, not in {}", c10::toString(options_.dtype));
  if (options_.rounding != RuntimeRounding::None) {
    if (options_.dtype != at::kFloat) fail_usage("what a runtime rounds can be followed in float32 only");
    if (model.path.extension() != ".gguf")
      fail_usage("{} is no GGUF: what llama.cpp rounds depends on the types of its tensors",
                 model.path.string());
  }
  use_threads();
}

at::Tensor Decoder::embed(const at::Tensor& ids) {
  const at::NoGradGuard no_grad;
  const at::Tensor flat = ids.reshape({-1}).to(at::kLong).cpu();
  const int64_t vocab_size = model_.config.vocab_size;
  if (flat.numel() > 0 && (flat.min().item<int64_t>() < 0 || flat.max().item<int64_t>() >= vocab_size))
    fail("{}: a token id lies outside the vocabulary of {} tokens; the tokenizer does not fit the model",
         model_.path.string(), vocab_size);
  at::Tensor rows;
  if (options_.resident || in_memory(model_.embedding)) {
    rows = at::embedding(weight(model_.embedding), flat.to(options_.device));
  } else {
    const TensorInfo& info = model_.checkpoint->info(model_.embedding);
    at::Tensor gathered = at::empty({flat.numel(), model_.config.hidden_size}, at::kFloat);
    for (int64_t i = 0; i < flat.numel(); ++i)
      model_.checkpoint->read_rows(info, flat.data_ptr<int64_t>()[i], 1,
                                   gathered.data_ptr<float>() + i * model_.config.hidden_size);
    rows = gathered.to(options_.device, options_.dtype);
  }
  return rows.view({ids.size(0), ids.size(1), model_.config.hidden_size});
}

at::Tensor Decoder::layer(int index, const at::Tensor& hidden) {
  const at::NoGradGuard no_grad;
  if (index < 0 || index >= model_.config.num_layers)
    fail("there is no layer {} in a model of {} layers", index, model_.config.num_layers);
  const LayerWeights weights = layer_weights(index);
  const RopeTable rope = rope_table(hidden.size(1));
  const Attention attend = attention(index);
  const auto run = [&](const at::Tensor& piece) {
    const InputObserver observe = [&](std::string_view what, const at::Tensor& value) {
      if (observer_) observer_(index, what, value);
    };
    at::Tensor output = run_decoder_layer(model_.config, weights, rope, attend, piece, observe);
    observe("layer", output);
    return output;
  };

  return by_windows(hidden.size(0), hidden.size(1),
                    [&](int64_t first, int64_t end) { return run(hidden.narrow(0, first, end - first)); });
}

at::Tensor Decoder::by_windows(int64_t batch, int64_t length, const RunWindows& run) {
  const at::NoGradGuard no_grad;
  const bool spread = spreads_windows(batch, length);
  const int64_t step = windows_per_piece(length);
  if (batch <= step && !spread) return run(0, batch);
  const int64_t pieces = spread ? batch : (batch + step - 1) / step;
  std::vector<at::Tensor> outputs(static_cast<size_t>(pieces));
  const auto run_pieces = [&](int64_t first, int64_t end) {
    const at::NoGradGuard no_grad_in_thread;
    const int64_t size = spread ? 1 : step;
    for (int64_t piece = first; piece < end; ++piece)
      outputs[static_cast<size_t>(piece)] = run(piece * size, std::min(batch, (piece + 1) * size));
  };
  if (spread) {
    const BlasThreads one_thread(1);
    parallel_for(pieces, 1, run_pieces);
  } else {
    run_pieces(0, pieces);
  }
  return at::cat(outputs);
}

at::Tensor Decoder::logits(const at::Tensor& hidden) {
  const at::NoGradGuard no_grad;
  const at::Tensor normed =
      rounded_input(model_.head, rms_norm(hidden, weight(model_.final_norm), model_.config.rms_norm_eps));
  if (options_.resident || in_memory(model_.head))
    return at::linear(normed, weight(model_.head)).to(at::kFloat);
  const int64_t vocab_size = model_.config.vocab_size;
  const int64_t step = std::max<int64_t>(1, kHeadElements / model_.config.hidden_size);
  at::Tensor output =
      at::empty({hidden.size(0), hidden.size(1), vocab_size}, hidden.options().dtype(at::kFloat));
  for (int64_t first = 0; first < vocab_size; first += step) {
    const int64_t count = std::min(step, vocab_size - first);
    output.narrow(2, first, count).copy_(at::linear(normed, weight_rows(model_.head, first, count)));
  }
  return output;
}

at::Tensor Decoder::forward(const at::Tensor& ids) {
  at::Tensor hidden = embed(ids);
  for (int index = 0; index < model_.config.num_layers; ++index) hidden = layer(index, hidden);
  return logits(hidden);
}

void Decoder::replace(const std::string& tensor, at::Tensor weight) {
  const std::vector<int64_t>& expected = model_.checkpoint->info(tensor).shape;
  if (weight.sizes() != at::IntArrayRef(expected))
    fail("{} cannot take the place of {}: its shape is {}, expected {}", "the given weight", tensor,
         fmt::format("{}", c10::str(weight.sizes())), fmt::format("{}", c10::str(at::IntArrayRef(expected))));
  replaced_[tensor] = weight.to(options_.device, options_.dtype).contiguous();
}

void Decoder::restore(const std::string& tensor) {
  replaced_.erase(tensor);
}

void Decoder::restore_all() {
  replaced_.clear();
}

void Decoder::hold_layer(int index) {
  const bool resident = std::exchange(options_.resident, true);
  try {
    layer_weights(index);
  } catch (...) {
    options_.resident = resident;
    throw;
  }
  options_.resident = resident;
}

void Decoder::drop_layer(int index) {
  if (options_.resident) return;
  const std::string prefix = model_.layer_tensor(index, "");
  for (auto each = loaded_.begin(); each != loaded_.end();)
    each = each->first.compare(0, prefix.size(), prefix) == 0 ? loaded_.erase(each) : std::next(each);
}

at::Tensor Decoder::weight(const std::string& tensor) {
  if (const auto found = replaced_.find(tensor); found != replaced_.end()) return found->second;
  if (const auto found = loaded_.find(tensor); found != loaded_.end()) return found->second;
  at::Tensor value = load_tensor(*model_.checkpoint, tensor, options_.device, options_.dtype);
  if (options_.resident) loaded_[tensor] = value;
  return value;
}

at::Tensor Decoder::weight_rows(const std::string& tensor, int64_t first, int64_t count) {
  return load_rows(*model_.checkpoint, model_.checkpoint->info(tensor), first, count, options_.device,
                   options_.dtype);
}

bool Decoder::in_memory(const std::string& tensor) const {
  return replaced_.count(tensor) > 0 || loaded_.count(tensor) > 0;
}

LayerWeights Decoder::layer_weights(int index) {
  const ModelConfig& config = model_.config;
  const auto take = [&](const char* name, bool present = true) {
    return present ? weight(model_.layer_tensor(index, name)) : at::Tensor();
  };
  LayerWeights w;
  w.input_norm = take("input_layernorm.weight");
  w.q = take("self_attn.q_proj.weight");
  w.k = take("self_attn.k_proj.weight");
  w.v = take("self_attn.v_proj.weight");
  w.o = take("self_attn.o_proj.weight");
  w.q_bias = take("self_attn.q_proj.bias", config.attention_bias);
  w.k_bias = take("self_attn.k_proj.bias", config.attention_bias);
  w.v_bias = take("self_attn.v_proj.bias", config.attention_bias);
  w.o_bias = take("self_attn.o_proj.bias", config.output_bias);
  w.q_norm = take("self_attn.q_norm.weight", config.qk_norm);
  w.k_norm = take("self_attn.k_norm.weight", config.qk_norm);
  w.post_attention_norm = take("post_attention_layernorm.weight");
  w.gate = take("mlp.gate_proj.weight");
  w.up = take("mlp.up_proj.weight");
  w.down = take("mlp.down_proj.weight");
  w.gate_bias = take("mlp.gate_proj.bias", config.mlp_bias);
  w.up_bias = take("mlp.up_proj.bias", config.mlp_bias);
  w.down_bias = take("mlp.down_proj.bias", config.mlp_bias);
  if (options_.rounding != RuntimeRounding::None)
    w.round_input = [this, index](Role role, const at::Tensor& input) {
      return rounded_input(model_.module(index, role).tensor, input);
    };
  return w;
}

at::Tensor Decoder::rounded_input(const std::string& tensor, const at::Tensor& input) const {
  if (options_.rounding == RuntimeRounding::None) return input;
  return round_as_llama_cpp(input, model_.checkpoint->info(tensor).type);
}

Attention Decoder::attention(int index) const {
  const Attention exact = causal_attention_over(model_.config.window_of(index));
  if (options_.rounding == RuntimeRounding::None) return exact;
  const auto in_half = [](const at::Tensor& values) { return values.to(at::kHalf).to(at::kFloat); };
  return [=](const at::Tensor& q, const at::Tensor& k, const at::Tensor& v) {
    return exact(in_half(q), in_half(k), in_half(v));
  };
}

RopeTable Decoder::rope_table(int64_t length) {
  if (!rope_.cosines.defined() || rope_.cosines.size(0) < length)
    rope_ = make_rope_table(model_.config, length, options_.device);
  return {rope_.cosines.narrow(0, 0, length), rope_.sines.narrow(0, 0, length)};
}

// Whole windows are what threads share best on a CPU, once there are enough of them and a window in every
// thread does not take much memory: nothing waits for anything within a layer. Observers see one piece after
// the other.
bool Decoder::spreads_windows(int64_t batch, int64_t length) const {
  const int64_t threads = thread_count();
  return options_.device.is_cpu() && !observer_ && threads > 1 && batch >= threads &&
         threads * length * widest_activation() <= kSpreadElements;
}

int64_t Decoder::widest_activation() const {
  const ModelConfig& config = model_.config;
  return std::max({config.intermediate_size, config.hidden_size, config.num_heads * config.head_dim});
}

int64_t Decoder::windows_per_piece(int64_t length) const {
  const int64_t elements = options_.device.is_cuda() ? kCudaPiece : kCpuPiece;
  return std::max<int64_t>(1, elements / std::max<int64_t>(1, widest_activation() * length));
}

}  // namespace strata
