#include "strata/quantizers/student.h"

#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <utility>

#include "strata/core/blas_threads.h"
#include "strata/core/error.h"
#include "strata/core/interrupt.h"
#include "strata/core/threads.h"
#include "strata/device/products.h"
#include "strata/forward/attention.h"
#include "strata/forward/load_tensor.h"
#include "strata/model/gguf_names.h"
#include "strata/model/layout.h"
#include "strata/quantizers/divergence_loss.h"

namespace strata {
namespace {

constexpr int64_t kCudaTokens = 8192;  // that run through a layer together

constexpr int64_t kGradients = int64_t{1} << 29;  // floats, of pieces that run at once

// Calls run(piece) for all pieces, `together` at once, and in_order(piece) one after the other: what is
// summed there does not depend on the threads.
void for_pieces(int64_t count, int64_t together, const std::function<void(int64_t piece)>& run,
                const std::function<void(int64_t piece)>& in_order) {
  const bool with_gradients = at::GradMode::is_enabled();
  for (int64_t first = 0; first < count; first += together) {
    const int64_t end = std::min(count, first + together);
    if (end - first == 1) {
      run(first);
    } else {
      parallel_for(end - first, 1, [&](int64_t piece, int64_t) {
        const at::AutoGradMode of_this_thread(with_gradients);
        run(first + piece);
      });
    }
    for (int64_t piece = first; piece < end; ++piece) in_order(piece);
  }
}

at::Tensor leaf_of(const at::Tensor& value) {
  return value.detach().set_requires_grad(true);
}

void add(at::Tensor& sum, const at::Tensor& gradient) {
  const at::NoGradGuard no_grad;
  if (!gradient.defined()) return;
  if (sum.defined())
    sum.add_(gradient);
  else
    sum = gradient;
}

at::Tensor rounded(const at::Tensor& values, DType type) {
  if (type == DType::F16) return values.to(at::kHalf).to(at::kFloat);
  if (type == DType::BF16) return values.to(at::kBFloat16).to(at::kFloat);
  return values;
}

at::Tensor in_form(const at::Tensor& values, StoredForm form, float (*convert)(StoredForm, float)) {
  if (form == StoredForm::Plain) return values;
  at::Tensor converted = values.cpu().clone();
  for (float *value = converted.data_ptr<float>(), *end = value + converted.numel(); value < end; ++value)
    *value = convert(form, *value);
  return converted.to(values.device());
}

at::Tensor dequantized_matrix(const QuantizedMatrix& matrix) {
  at::Tensor weights = at::empty({matrix.rows, matrix.cols}, at::kFloat);
  matrix.dequantize(weights.data_ptr<float>());
  return weights;
}

}  // namespace

at::Tensor Student::Pieces::of(const at::Tensor& batch, int64_t piece) const {
  const int64_t first = piece * size;
  return batch.narrow(0, first, std::min(size, windows - first));
}

Student::Student(const Model& model, std::map<std::string, QuantizedMatrix> matrices,
                 const StudentOptions& options)
    : model_(model), options_(options), rope_tables_(model.config, options.device) {
  require_runnable(model, "tuning end to end");
  if (matrices.empty())
    fail("{}: tuning makes up for what quantizing loses, and the plan keeps all matrices as they are",
         model.path.string());
  for (auto& [tensor, matrix] : matrices) {
    if (options_.form.matrix) for_each_part(matrix, options_.form.matrix);
    if (has_grid(matrix.scheme, matrix.cols))
      matrices_[tensor] = std::make_unique<StoredFloats>(std::move(matrix), options_.device);
    else
      fixed_[tensor] = std::move(matrix);
  }
  std::vector<std::string> order = {model.embedding};
  for (int layer = 0; layer < model.config.num_layers; ++layer) {
    for (const LayerTensor& tensor : architecture_of(model.config).tensors(model.config, layer)) {
      if (!tensor.is_matrix())
        open_vector(model.layer_tensor(layer, tensor.weight()), true,
                    form_of(architecture_of(model.config), tensor));
      if (tensor.bias) open_vector(model.layer_tensor(layer, tensor.name + ".bias"), false);
    }
    for (const std::string& tensor : tensors_of_layer(layer))
      order.push_back(model.layer_tensor(layer, tensor));
  }
  open_vector(model.final_norm, true, architecture_of(model.config).norm_form);
  order.push_back(model.final_norm);
  if (model.head != model.embedding) order.push_back(model.head);
  gather_parameters(order);
  most_gradients_ = most_gradients();
}

// Floats of the gradients by the values of one layer, or of the head.
int64_t Student::most_gradients() const {
  int64_t most = is_learned(model_.head) ? model_.config.vocab_size * model_.config.hidden_size : 1;
  for (int layer = 0; layer < model_.config.num_layers; ++layer) {
    int64_t of_layer = 0;
    for (const Module* module : model_.layer_modules(layer)) of_layer += module->params();
    most = std::max(most, of_layer);
  }
  return most;
}

// The names inside the layer of all its tensors.
std::vector<std::string> Student::tensors_of_layer(int layer) const {
  std::vector<std::string> names;
  for (const LayerTensor& tensor : architecture_of(model_.config).tensors(model_.config, layer)) {
    names.push_back(tensor.weight());
    if (tensor.bias) names.push_back(tensor.name + ".bias");
  }
  return names;
}

void Student::open_vector(const std::string& tensor, bool is_norm, StoredForm form) {
  Vector vector;
  vector.start = load_tensor(*model_.checkpoint, tensor, options_.device, at::kFloat);
  vector.factor = at::ones_like(vector.start).set_requires_grad(true);
  vector.type = options_.form.vector ? options_.form.vector(model_.checkpoint->info(tensor)) : DType::F32;
  vector.is_norm = is_norm;
  vector.form = form;
  vectors_.emplace(tensor, std::move(vector));
}

// Moves all parameters into one tensor, and lets autograd add their gradients in another.
void Student::gather_parameters(const std::vector<std::string>& order) {
  const at::NoGradGuard no_grad;
  std::vector<at::Tensor> leaves;
  for (const std::string& tensor : order)
    for (const at::Tensor& leaf : parameters_of(tensor)) leaves.push_back(leaf);
  std::vector<at::Tensor> flat;
  for (const at::Tensor& leaf : leaves) flat.push_back(leaf.detach().reshape({-1}));
  parameters_ = at::cat(flat);
  gradients_ = at::zeros_like(parameters_);
  int64_t first = 0;
  for (at::Tensor& leaf : leaves) {
    const int64_t count = leaf.numel();
    leaf.set_data(parameters_.narrow(0, first, count).view(leaf.sizes()));
    leaf.mutable_grad() = gradients_.narrow(0, first, count).view(leaf.sizes());
    first += count;
  }
}

std::vector<at::Tensor> Student::parameters_of(const std::string& tensor) const {
  if (const auto found = matrices_.find(tensor); found != matrices_.end()) return found->second->parameters();
  if (const auto found = vectors_.find(tensor); found != vectors_.end()) return {found->second.factor};
  return {};
}

at::Tensor Student::value(const std::string& tensor, Form form) const {
  return form == Form::Learned ? learned_value(tensor) : stored_value(tensor, form);
}

// In the type that products have; gains stay in float32, whose changes 16 bits would not hold.
at::Tensor Student::learned_value(const std::string& tensor) const {
  if (const auto found = matrices_.find(tensor); found != matrices_.end())
    return found->second->weights().to(options_.dtype);
  if (const auto found = vectors_.find(tensor); found != vectors_.end()) {
    const at::Tensor values = found->second.start * found->second.factor;
    return found->second.is_norm ? values : values.to(options_.dtype);
  }
  if (const auto found = fixed_.find(tensor); found != fixed_.end()) {
    at::Tensor& constant = constants_[tensor];
    if (!constant.defined()) constant = dequantized_matrix(found->second).to(options_.device, options_.dtype);
    return constant;
  }
  return constant(tensor).to(options_.dtype);
}

// A tensor of the checkpoint that stays, without loss in 16 bits where it is stored so.
at::Tensor Student::constant(const std::string& tensor) const {
  at::Tensor& constant = constants_[tensor];
  if (!constant.defined()) {
    const bool is_exact = model_.checkpoint->info(tensor).type == "BF16";
    constant =
        load_tensor(*model_.checkpoint, tensor, options_.device, is_exact ? options_.dtype : at::kFloat);
  }
  return constant;
}

// It stays; undefined where there is none.
at::Tensor Student::final_bias() const {
  return model_.config.norm_bias ? constant(model_.final_norm_bias()) : at::Tensor();
}

// It does not learn.
LayerEmbedding Student::layer_embedding(const at::Tensor& ids, at::ScalarType dtype) const {
  if (model_.layer_embedding.empty()) return {};
  at::Tensor rows = gather_rows(*model_.checkpoint, model_.checkpoint->info(model_.layer_embedding), ids,
                                at::kCPU, at::kFloat);
  if (options_.form.layer_embedding)
    fake_quantize({rows.data_ptr<float>(), rows.size(0) * rows.size(1), rows.size(2)},
                  *options_.form.layer_embedding, options_.form.quantizer);
  const auto whole = [&](const NamePair& names) { return constant(names.name + ".weight").to(dtype); };
  return {rows.to(options_.device, dtype), whole(layer_projection_names(model_.config)),
          whole(layer_projection_norm_names(model_.config))};
}

at::Tensor Student::stored_value(const std::string& tensor, Form form) const {
  const at::NoGradGuard no_grad;
  if (const auto found = matrices_.find(tensor); found != matrices_.end())
    return form == Form::Written && options_.form.matrix
               ? dequantized_matrix(written(*found->second)).to(options_.device)
               : found->second->stored_weights();
  if (const auto found = vectors_.find(tensor); found != vectors_.end()) {
    const at::Tensor values = found->second.start * found->second.factor;
    // In 16 bits stand vectors of directories, in their own form.
    const StoredForm own = found->second.type == DType::F32 ? StoredForm::Plain : found->second.form;
    return in_form(rounded(in_form(values, own, stored_from_plain), found->second.type), own,
                   plain_from_stored);
  }
  if (const auto found = fixed_.find(tensor); found != fixed_.end())
    return dequantized_matrix(found->second).to(options_.device);
  return constant(tensor).to(at::kFloat);
}

QuantizedMatrix Student::written(const StoredFloats& matrix) const {
  QuantizedMatrix stored = matrix.stored();
  if (options_.form.matrix) for_each_part(stored, options_.form.matrix);
  return stored;
}

LayerRun Student::run_of(int layer, int64_t length, Form form) const {
  LayerPlan plan = architecture_of(model_.config).plan(model_.config, layer);
  std::vector<Stage> stages = stages_of(plan);
  LayerWeights weights;
  for (const std::string& name : tensors_of_layer(layer))
    weights.tensors[name] = value(model_.layer_tensor(layer, name), form);
  return {model_.config,
          std::move(plan),
          std::move(stages),
          std::move(weights),
          rope_tables_.of_layer(layer, length),
          causal_attention};
}

Student::Pieces Student::pieces_of(const at::Tensor& ids) const {
  const int64_t windows = ids.size(0), threads = thread_count();
  if (options_.device.is_cuda()) return {windows, std::max<int64_t>(1, kCudaTokens / ids.size(1)), 1};
  // One window after the other, each with all threads, where there are fewer windows than threads.
  return {windows, 1, windows < threads ? 1 : std::clamp<int64_t>(kGradients / most_gradients_, 1, threads)};
}

at::Tensor Student::run_pieces(const LayerRun& run, const Pieces& pieces, const at::Tensor& hidden) const {
  at::Tensor output = at::empty_like(hidden);
  for_pieces(
      pieces.count(), pieces.together,
      [&](int64_t piece) { pieces.of(output, piece).copy_(run_layer(run, pieces.of(hidden, piece))); },
      [](int64_t) {});
  return output;
}

at::Tensor Student::learn(const at::Tensor& ids, const at::Tensor& teacher, const at::Tensor& teacher_head) {
  const OneThread one;  // but for products and pieces, which are dealt out
  const auto layers = static_cast<int>(model_.config.num_layers);
  const Pieces pieces = pieces_of(ids);
  const at::Tensor on_device = ids.to(options_.device);
  const LayerEmbedding of_layers = layer_embedding(ids, options_.dtype);
  at::Tensor rows, first;           // of the embedding, and the stream before the first layer
  std::vector<at::Tensor> changed;  // what layers change of it, before every layer and behind the last
  const auto stream = [&] { return with_changing_part(model_.config, changed.back(), first); };
  {
    const at::NoGradGuard no_grad;
    rows = at::embedding(value(model_.embedding, Form::Learned), on_device);
    first = embedded(model_.config, rows, of_layers);
    changed.push_back(changing_part(model_.config, first));
    for (int layer = 0; layer < layers; ++layer) {
      check_interrupted();
      const LayerRun run = run_of(layer, ids.size(1), Form::Learned);
      changed.push_back(changing_part(model_.config, run_pieces(run, pieces, stream())));
    }
  }
  const at::AutoGradMode with_gradients(true);
  at::Tensor gradient = at::empty_like(first);  // by the stream that was left last
  GradientSums sums;
  at::Tensor loss = learn_head(pieces, stream(), teacher, teacher_head, gradient, sums);
  for (int layer = layers - 1; layer >= 0; --layer) {
    changed.pop_back();
    check_interrupted();
    learn_layer(layer, pieces, stream(), gradient);
  }
  if (is_learned(model_.embedding))
    add(sums[model_.embedding],
        at::embedding_dense_backward(gradient_by_rows(model_.config, rows, of_layers, gradient), on_device,
                                     model_.config.vocab_size, -1, false));
  for (const auto& [tensor, sum] : sums)
    if (sum.defined()) value(tensor, Form::Learned).backward(sum);
  return loss;
}

// Final norm, head and loss: leaves the gradient by the hidden states, and those by the two tensors as sums.
at::Tensor Student::learn_head(const Pieces& pieces, const at::Tensor& hidden, const at::Tensor& teacher,
                               const at::Tensor& teacher_head, at::Tensor& gradient,
                               GradientSums& sums) const {
  const at::Tensor gains = learned_value(model_.final_norm).detach();
  const at::Tensor head = learned_value(model_.head).detach();
  struct Result {
    at::Tensor loss, gains, head;
  };
  std::vector<Result> results(static_cast<size_t>(pieces.count()));
  at::Tensor loss = at::zeros({}, hidden.options().dtype(at::kDouble));
  for_pieces(
      pieces.count(), pieces.together,
      [&](int64_t piece) {
        const at::Tensor before = leaf_of(pieces.of(hidden, piece)), own_gains = leaf_of(gains);
        const at::Tensor own_head = is_learned(model_.head) ? leaf_of(head) : head;
        const at::Tensor normed = final_norm(model_.config, before, own_gains, final_bias());
        const auto rows = [](const at::Tensor& batch) { return batch.reshape({-1, batch.size(-1)}); };
        const at::Tensor of_piece =
            divergence_loss(rows(normed), own_head, rows(pieces.of(teacher, piece)), teacher_head,
                            static_cast<double>(before.size(0)) / static_cast<double>(pieces.windows),
                            model_.config.final_softcap);
        of_piece.backward();
        const at::NoGradGuard no_grad;
        pieces.of(gradient, piece).copy_(before.grad());
        results[static_cast<size_t>(piece)] = {of_piece.detach(), own_gains.grad(), own_head.grad()};
      },
      [&](int64_t piece) {
        const Result result = std::exchange(results[static_cast<size_t>(piece)], {});
        add(loss, result.loss);
        add(sums[model_.final_norm], result.gains);
        add(sums[model_.head], result.head);
      });
  return loss;
}

// Turns the gradient by a layer's output into that by its input, and adds those by its parameters.
void Student::learn_layer(int layer, const Pieces& pieces, const at::Tensor& hidden,
                          at::Tensor& gradient) const {
  const LayerRun run = run_of(layer, hidden.size(1), Form::Learned);  // values that know their parameters
  std::vector<std::string> learned;
  for (const auto& [name, values] : run.weights.tensors)
    if (values.requires_grad()) learned.push_back(name);
  std::vector<std::vector<at::Tensor>> results(static_cast<size_t>(pieces.count()));
  std::vector<at::Tensor> sums(learned.size());
  for_pieces(
      pieces.count(), pieces.together,
      [&](int64_t piece) {
        LayerRun own = run;
        for (const std::string& name : learned)
          own.weights.tensors[name] = leaf_of(run.weights.tensors.at(name));
        const at::Tensor before = leaf_of(pieces.of(hidden, piece));
        run_layer(own, before).backward(pieces.of(gradient, piece));
        const at::NoGradGuard no_grad;
        pieces.of(gradient, piece).copy_(before.grad());
        for (const std::string& name : learned)
          results[static_cast<size_t>(piece)].push_back(own.weights.tensors.at(name).grad());
      },
      [&](int64_t piece) {
        const std::vector<at::Tensor> of_piece = std::exchange(results[static_cast<size_t>(piece)], {});
        for (size_t i = 0; i < learned.size(); ++i) add(sums[i], of_piece[i]);
      });
  for (size_t i = 0; i < learned.size(); ++i)
    if (sums[i].defined()) run.weights.tensors.at(learned[i]).backward(sums[i]);
}

double Student::stored_divergence(const at::Tensor& ids, const ReadTeacher& teacher,
                                  const at::Tensor& teacher_head, bool written) const {
  const at::NoGradGuard no_grad;
  const OneThread one;  // but for products and pieces, which are dealt out
  const Form form = written ? Form::Written : Form::Stored;
  const Pieces pieces = pieces_of(ids);
  at::Tensor hidden =
      embedded(model_.config, at::embedding(value(model_.embedding, form), ids.to(options_.device)),
               layer_embedding(ids, at::kFloat));
  for (int layer = 0; layer < model_.config.num_layers; ++layer) {
    check_interrupted();
    hidden = run_pieces(run_of(layer, ids.size(1), form), pieces, hidden);
  }
  const at::Tensor gains = value(model_.final_norm, form), head = value(model_.head, form);
  std::vector<at::Tensor> sums(static_cast<size_t>(pieces.count()));
  at::Tensor sum = at::zeros({}, hidden.options().dtype(at::kDouble));
  for_pieces(
      pieces.count(), pieces.together,
      [&](int64_t piece) {
        const at::Tensor normed = final_norm(model_.config, pieces.of(hidden, piece), gains, final_bias());
        const auto rows = [](const at::Tensor& batch) { return batch.reshape({-1, batch.size(-1)}); };
        const at::Tensor reference = teacher(piece * pieces.size, normed.size(0));
        sums[static_cast<size_t>(piece)] =
            divergence_sum(rows(normed), head, rows(reference), teacher_head, model_.config.final_softcap);
      },
      [&](int64_t piece) { sum.add_(sums[static_cast<size_t>(piece)]); });
  return sum.item<double>() / static_cast<double>(ids.numel());
}

std::map<std::string, std::vector<float>> Student::vectors() const {
  std::map<std::string, std::vector<float>> vectors;
  for (const auto& [tensor, vector] : vectors_) {
    const at::Tensor values = stored_value(tensor, Form::Written).cpu().contiguous();
    vectors[tensor] = {values.data_ptr<float>(), values.data_ptr<float>() + values.numel()};
  }
  return vectors;
}

std::map<std::string, QuantizedMatrix> Student::take_matrices() {
  std::map<std::string, QuantizedMatrix> matrices = std::move(fixed_);
  for (auto& [tensor, matrix] : matrices_) {
    matrices[tensor] = written(*matrix);
    matrix.reset();
  }
  return matrices;
}

}  // namespace strata
