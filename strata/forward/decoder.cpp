#include "strata/forward/decoder.h"

#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <iterator>
#include <mutex>
#include <utility>

#include "strata/core/blas_threads.h"
#include "strata/core/error.h"
#include "strata/core/threads.h"
#include "strata/device/device.h"
#include "strata/device/products.h"
#include "strata/forward/attention.h"
#include "strata/forward/ends.h"
#include "strata/forward/linear.h"
#include "strata/forward/load_tensor.h"
#include "strata/gguf/file.h"
#include "strata/model/gguf_names.h"

namespace strata {
namespace {

// Elements of the largest activation a piece of a batch may have: enough to fill a GPU.
constexpr int64_t kCudaPiece = int64_t{1} << 28;
// Elements of that activation in all threads together when each has a sequence of its own.
constexpr int64_t kSpreadElements = int64_t{1} << 26;
// Rows of the head that are in memory at a time when weights are not kept.
constexpr int64_t kHeadElements = int64_t{1} << 26;

// Features that a token has at most between the matrices of a layer; several experts read it together.
int64_t widest_matrix(const Model& model) {
  int64_t widest = model.config.hidden_size;
  for (const Module& module : model.modules) {
    const int64_t matrices = module.experts > 0 ? model.config.experts.used : 1;
    widest = std::max({widest, matrices * module.rows_of_matrix(), matrices * module.cols});
  }
  return widest;
}

at::Tensor joined(std::vector<at::Tensor> pieces) {
  return pieces.size() == 1 ? pieces.front() : at::cat(pieces);
}

}  // namespace

Decoder::Decoder(const Model& model, DecoderOptions options)
    : model_(model),
      options_(options),
      rope_tables_(model.config, options.device),
      widest_activation_(widest_matrix(model)) {
  require_runnable(model, "the forward pass");
  if (options_.dtype != at::kFloat && options_.dtype != at::kBFloat16)
    fail_usage("a decoder computes in float32 or bfloat16, not in {}", c10::toString(options_.dtype));
  if (options_.rounding != RuntimeRounding::None) {
    if (options_.dtype != at::kFloat) fail_usage("what a runtime rounds can be followed in float32 only");
    if (!is_gguf(model.path))
      fail_usage("{} is no GGUF: what llama.cpp rounds depends on the types of its tensors",
                 model.path.string());
  }
  use_threads();
}

at::Tensor Decoder::embed(const at::Tensor& ids) {
  const at::NoGradGuard no_grad;
  const at::Tensor rows = embedding_rows(ids);
  const LayerEmbedding of_layers = layer_embedding(ids);
  if (!of_layers.rows.defined()) return embedded(model_.config, rows, of_layers);
  at::Tensor stream = at::empty({ids.size(0), ids.size(1), stream_size(model_.config)}, rows.options());
  for_sequences(ids.size(0), ids.size(1), [&](int64_t first, int64_t end) {
    LayerEmbedding some = of_layers;
    some.rows = of_layers.rows.narrow(0, first, end - first);
    stream.narrow(0, first, end - first)
        .copy_(embedded(model_.config, rows.narrow(0, first, end - first), some));
  });
  return stream;
}

at::Tensor Decoder::embedding_rows(const at::Tensor& ids) {
  const int64_t vocab_size = model_.config.vocab_size;
  if (ids.numel() > 0 && (ids.min().item<int64_t>() < 0 || ids.max().item<int64_t>() >= vocab_size))
    fail("{}: a token id lies outside the vocabulary of {} tokens; the tokenizer does not fit the model",
         model_.path.string(), vocab_size);
  return rows_of(model_.embedding, ids, options_.resident);
}

// Its table is never loaded as a whole: it is most of a small model.
LayerEmbedding Decoder::layer_embedding(const at::Tensor& ids) {
  if (model_.layer_embedding.empty()) return {};
  const std::string projection = layer_projection_names(model_.config).name + ".weight";
  at::Tensor rows = rows_of(model_.layer_embedding, ids, false);
  if (change_rows_) {
    rows = rows.to(at::kCPU, at::kFloat).contiguous();
    change_rows_(rows);
    rows = rows.to(options_.device, options_.dtype);
  }
  LayerEmbedding of_layers{rows, weight(projection),
                           weight(layer_projection_norm_names(model_.config).name + ".weight")};
  if (options_.rounding != RuntimeRounding::None)
    of_layers.round_input = [this, projection](const at::Tensor& input) {
      return rounded_input(projection, input);
    };
  return of_layers;
}

// Rows of a matrix [B, T, cols] for ids [B, T]; it is loaded as a whole where that is asked for.
at::Tensor Decoder::rows_of(const std::string& tensor, const at::Tensor& ids, bool whole) {
  if (whole || in_memory(tensor)) return at::embedding(weight(tensor), ids.to(options_.device, at::kLong));
  return gather_rows(*model_.checkpoint, model_.checkpoint->info(tensor), ids, options_.device,
                     options_.dtype);
}

at::Tensor Decoder::layer(int index, const at::Tensor& hidden) {
  const at::NoGradGuard no_grad;
  if (index < 0 || index >= model_.config.num_layers)
    fail("there is no layer {} in a model of {} layers", index, model_.config.num_layers);
  const LayerRun run = layer_run(index, hidden.size(1));
  std::map<int64_t, at::Tensor> outputs;  // by the first sequence of each piece
  std::map<int64_t, Seen> seen;
  std::mutex mutex;
  for_sequences(hidden.size(0), hidden.size(1), [&](int64_t first, int64_t end) {
    Seen inputs;
    const InputObserver note = [&](std::string_view matrix, const at::Tensor& input) {
      inputs.emplace_back(matrix, input);
    };
    at::Tensor output =
        run_layer(run, hidden.narrow(0, first, end - first), observer_ ? note : InputObserver());
    const std::lock_guard<std::mutex> lock(mutex);
    outputs[first] = std::move(output);
    seen[first] = std::move(inputs);
  });
  std::vector<at::Tensor> pieces;
  for (auto& [first, output] : outputs) pieces.push_back(std::move(output));
  const at::Tensor output = joined(std::move(pieces));
  if (observer_) show(index, seen, output);
  return output;
}

// Every input once for the whole batch.
void Decoder::show(int index, std::map<int64_t, Seen>& seen, const at::Tensor& output) {
  const size_t matrices = seen.begin()->second.size();
  for (size_t i = 0; i < matrices; ++i) {
    const std::string matrix = seen.begin()->second[i].first;
    std::vector<at::Tensor> pieces;
    for (auto& [first, inputs] : seen) pieces.push_back(std::move(inputs[i].second));
    observer_(index, matrix, joined(std::move(pieces)));
  }
  observer_(index, "layer", output);
}

void Decoder::for_sequences(int64_t batch, int64_t length, const RunSequences& run) const {
  const int64_t step = sequences_per_piece(length);
  const int64_t pieces = (batch + step - 1) / step;
  const auto run_pieces = [&](int64_t first, int64_t end) {
    const at::NoGradGuard no_grad;  // of this thread
    for (int64_t piece = first; piece < end; ++piece) run(piece * step, std::min(batch, (piece + 1) * step));
  };
  // Whole sequences are what threads share best on a CPU, once there are enough of them and one in every
  // thread does not take much memory: nothing waits for anything within a layer.
  const int64_t threads = thread_count();
  if (options_.device.is_cpu() && threads > 1 && batch >= threads &&
      threads * length * widest_activation_ <= kSpreadElements) {
    const BlasThreads one_thread(1);
    parallel_for(pieces, 1, run_pieces);
  } else if (options_.device.is_cpu()) {
    const OneThread one;
    run_pieces(0, pieces);
  } else {
    run_pieces(0, pieces);
  }
}

int64_t Decoder::sequences_per_piece(int64_t length) const {
  if (options_.device.is_cpu()) return 1;
  return std::max<int64_t>(1, kCudaPiece / std::max<int64_t>(1, widest_activation_ * length));
}

at::Tensor Decoder::logits(const at::Tensor& hidden) {
  const at::NoGradGuard no_grad;
  const at::Tensor normed = rounded_input(model_.head, final_normed(hidden));
  if (options_.resident || in_memory(model_.head))
    return softcap_(strata::linear(normed, weight(model_.head), at::Tensor()).to(at::kFloat),
                    model_.config.final_softcap);
  const int64_t vocab_size = model_.config.vocab_size;
  const int64_t step = std::max<int64_t>(1, kHeadElements / model_.config.hidden_size);
  at::Tensor output =
      at::empty({hidden.size(0), hidden.size(1), vocab_size}, hidden.options().dtype(at::kFloat));
  for (int64_t first = 0; first < vocab_size; first += step) {
    const int64_t count = std::min(step, vocab_size - first);
    output.narrow(2, first, count)
        .copy_(strata::linear(normed, weight_rows(model_.head, first, count), at::Tensor()));
  }
  return softcap_(output, model_.config.final_softcap);
}

at::Tensor Decoder::final_normed(const at::Tensor& hidden) {
  return final_norm(model_.config, hidden, weight(model_.final_norm),
                    model_.config.norm_bias ? weight(model_.final_norm_bias()) : at::Tensor());
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

void Decoder::change_layer_embedding(std::function<void(at::Tensor& rows)> change) {
  change_rows_ = std::move(change);
}

void Decoder::restore_all() {
  replaced_.clear();
  change_rows_ = nullptr;
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

LayerRun Decoder::layer_run(int index, int64_t length) {
  LayerPlan plan = architecture_of(model_.config).plan(model_.config, index);
  std::vector<Stage> stages = stages_of(plan);
  return {model_.config,
          std::move(plan),
          std::move(stages),
          layer_weights(index),
          rope_tables_.of_layer(index, length),
          attention()};
}

LayerWeights Decoder::layer_weights(int index) {
  LayerWeights weights;
  const auto take = [&](const std::string& name) {
    weights.tensors[name] = weight(model_.layer_tensor(index, name));
  };
  for (const LayerTensor& tensor : architecture_of(model_.config).tensors(model_.config, index)) {
    take(tensor.weight());
    if (tensor.bias) take(tensor.name + ".bias");
  }
  if (options_.rounding != RuntimeRounding::None)
    weights.round_input = [this, index](std::string_view matrix, const at::Tensor& input) {
      return rounded_input(model_.layer_tensor(index, std::string(matrix) + ".weight"), input);
    };
  return weights;
}

at::Tensor Decoder::rounded_input(const std::string& tensor, const at::Tensor& input) const {
  if (options_.rounding == RuntimeRounding::None) return input;
  return round_as_llama_cpp(input, model_.checkpoint->info(tensor).type);
}

Attention Decoder::attention() const {
  if (options_.rounding == RuntimeRounding::None) return causal_attention;
  return [](const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, const AttentionScores& scores,
            const at::Tensor& sinks) {
    const auto in_half = [](const at::Tensor& values) { return values.to(at::kHalf).to(at::kFloat); };
    return causal_attention(in_half(q), in_half(k), in_half(v), scores, sinks);
  };
}

}  // namespace strata
