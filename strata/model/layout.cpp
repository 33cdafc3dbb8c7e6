#include "strata/model/layout.h"

#include <fmt/format.h>

#include <algorithm>
#include <unordered_map>

#include "strata/core/error.h"
#include "strata/gguf/file.h"
#include "strata/model/gguf_names.h"
#include "strata/model/readers.h"

namespace strata {
namespace {

NamePair in_layer(const ModelConfig& config, int64_t layer, const LayerTensor& tensor) {
  const NamePair layers = layer_names(config);
  return {fmt::format("{}{}.{}", layers.name, layer, tensor.name),
          fmt::format("{}{}.{}", layers.gguf_name, layer, tensor.gguf_name)};
}

void add_tensor(std::vector<ExpectedTensor>& tensors, const NamePair& names, std::vector<int64_t> shape,
                std::vector<RowPart> parts = {}, int64_t experts = 0) {
  tensors.push_back(
      {names.name + ".weight", names.gguf_name + ".weight", std::move(shape), std::move(parts), experts});
}

void add_bias(std::vector<ExpectedTensor>& tensors, const NamePair& names, int64_t size,
              std::vector<RowPart> parts = {}, int64_t experts = 0) {
  tensors.push_back({names.name + ".bias", names.gguf_name + ".bias", {size}, std::move(parts), experts});
}

// The slices that files have in the place of the last tensor.
void add_slices(ExpectedTensor& expected, const ModelConfig& config, int64_t layer, const LayerTensor& tensor,
                const std::string& fused_ending) {
  const NamePair layers = layer_names(config);
  expected.fused_in = tensor.fused_in;
  if (!tensor.fused_in.name.empty())
    expected.fused_in.name = fmt::format("{}{}.{}{}", layers.name, layer, tensor.fused_in.name, fused_ending);
  expected.heads = tensor.heads;
  expected.gguf_slices = tensor.gguf_slices;
  for (MatrixSlice& slice : expected.gguf_slices)
    slice.name = fmt::format("{}{}.{}.weight", layers.gguf_name, layer, slice.name);
}

void add_norm(std::vector<ExpectedTensor>& tensors, const NamePair& names, int64_t size, bool bias,
              StoredForm form) {
  add_tensor(tensors, names, {size});
  tensors.back().form = form;
  if (bias) add_bias(tensors, names, size);
}

}  // namespace

StoredForm form_of(const Architecture& architecture, const LayerTensor& tensor) {
  return tensor.form.value_or(architecture.norm_form);
}

int64_t LayerTensor::rows() const {
  int64_t sum = 0;
  for (const RowPart& part : parts) sum += part.rows;
  return sum * std::max<int64_t>(1, experts);
}

std::vector<ExpectedTensor> expected_tensors(const ModelConfig& config) {
  const Architecture& architecture = architecture_of(config);
  std::vector<ExpectedTensor> tensors;
  add_tensor(tensors, embedding_names(config), {config.vocab_size, config.hidden_size});
  if (const int64_t size = config.layer_embedding_size; size > 0) {
    add_tensor(tensors, layer_embedding_names(config), {config.vocab_size, config.num_layers * size});
    add_tensor(tensors, layer_projection_names(config), {config.num_layers * size, config.hidden_size});
    add_norm(tensors, layer_projection_norm_names(config), size, false, architecture.norm_form);
  }
  for (int layer = 0; layer < config.num_layers; ++layer) {
    for (const LayerTensor& tensor : architecture.tensors(config, layer)) {
      const NamePair names = in_layer(config, layer, tensor);
      if (!tensor.is_matrix()) {
        add_norm(tensors, names, tensor.cols, tensor.bias, form_of(architecture, tensor));
        tensors.back().gguf_shape = tensor.gguf_shape;
        if (tensor.bare) tensors.back().name = names.name;
        if (!tensor.bias) tensors.back().gguf_name = names.gguf_name + tensor.gguf_ending;
        continue;
      }
      add_tensor(tensors, names, {tensor.rows(), tensor.cols}, tensor.parts, tensor.experts);
      tensors.back().kept = tensor.kept;
      if (tensor.convolution) {
        tensors.back().gguf_shape = tensors.back().shape;
        tensors.back().shape = {tensor.rows(), 1, tensor.cols};
      }
      for (const std::string& part : tensor.gguf_parts)
        tensors.back().gguf_parts.push_back(
            fmt::format("{}{}.{}.weight", layer_names(config).gguf_name, layer, part));
      add_slices(tensors.back(), config, layer, tensor, "");
      if (!tensor.bias) continue;
      add_bias(tensors, names, tensor.rows(), tensor.parts, tensor.experts);
      if (tensor.experts > 0) add_slices(tensors.back(), config, layer, tensor, "_bias");
    }
  }
  add_norm(tensors, final_norm_names(config), config.hidden_size, config.norm_bias, architecture.norm_form);
  if (!config.tied_embeddings)
    add_tensor(tensors, head_names(config), {config.vocab_size, config.hidden_size});
  return tensors;
}

std::vector<MatrixStack> expert_stacks(const ModelConfig& config) {
  std::vector<MatrixStack> stacks;
  for (const ExpectedTensor& tensor : expected_tensors(config)) {
    if (tensor.experts == 0) continue;
    const int64_t cols = tensor.shape.size() > 1 ? tensor.shape.back() : 0;
    MatrixStack stack{tensor.name, tensor.shape.front() / tensor.experts, cols, {}};
    for (int64_t expert = 0; expert < tensor.experts; ++expert)
      stack.parts.push_back(expert_name(tensor.name, expert));
    stacks.push_back(std::move(stack));
  }
  return stacks;
}

std::vector<SlicedStack> fused_stacks(const ModelConfig& config) {
  std::vector<SlicedStack> stacks;
  for (const ExpectedTensor& tensor : expected_tensors(config)) {
    if (tensor.fused_in.name.empty()) continue;
    const int64_t cols = tensor.shape.size() > 1 ? tensor.shape.back() : 0;
    stacks.push_back(
        {tensor.name, tensor.experts, tensor.shape.front() / tensor.experts, cols, tensor.fused_in});
    if (cols == 0) stacks.back().slice.columns = stacks.back().slice.transposed = false;
  }
  return stacks;
}

std::vector<SlicedStack> gguf_slices(const ExpectedTensor& tensor) {
  std::vector<SlicedStack> stacks;
  for (MatrixSlice slice : tensor.gguf_slices) {
    SlicedStack stack{slice.name, tensor.heads, slice.count, tensor.shape.back(), slice};
    if (slice.transposed) std::swap(stack.rows, stack.cols);
    stack.slice.name = tensor.name;
    stacks.push_back(std::move(stack));
  }
  return stacks;
}

namespace {

std::vector<ExpectedTensor> with_experts_apart(const std::vector<ExpectedTensor>& tensors) {
  std::vector<ExpectedTensor> apart;
  for (const ExpectedTensor& tensor : tensors) {
    ExpectedTensor own = tensor;
    own.experts = 0;
    if (tensor.experts > 0) own.shape.front() /= tensor.experts;
    for (int64_t expert = 0; expert < std::max<int64_t>(1, tensor.experts); ++expert) {
      if (tensor.experts > 0) own.name = expert_name(tensor.name, expert);
      apart.push_back(own);
    }
  }
  return apart;
}

}  // namespace

std::vector<ExpectedTensor> stored_tensors(const Model& model) {
  if (model.runnable && !model.experts_apart) return expected_tensors(model.config);
  if (model.runnable) return with_experts_apart(expected_tensors(model.config));
  if (is_gguf(model.path)) require_runnable(model, "writing a Hugging Face directory");
  std::vector<std::string> names = {model.embedding};
  for (const Module& module : model.modules) names.push_back(module.tensor);
  if (model.head != model.embedding) names.push_back(model.head);
  std::vector<ExpectedTensor> tensors;
  for (const std::string& name : names) tensors.push_back({name, "", model.checkpoint->info(name).shape, {}});
  return tensors;
}

std::vector<Module> linear_modules(const ModelConfig& config) {
  const Architecture& architecture = architecture_of(config);
  std::vector<Module> modules;
  for (int layer = 0; layer < config.num_layers; ++layer) {
    std::unordered_map<std::string, std::string> input_of;
    for (const std::vector<std::string>& readers : readers_of(architecture.plan(config, layer)))
      for (const std::string& reader : readers) input_of[reader] = readers.front();
    for (const LayerTensor& tensor : architecture.tensors(config, layer)) {
      if (!tensor.is_matrix() || tensor.kept) continue;
      Module module;
      module.layer = layer;
      module.role = tensor.parts.size() == 1 ? tensor.parts.front().role : Role::Other;
      module.name = tensor.name;
      module.tensor = in_layer(config, layer, tensor).name + ".weight";
      module.rows = tensor.rows();
      module.cols = tensor.cols;
      module.experts = tensor.experts;
      module.parts = tensor.parts;
      module.input = input_of.at(tensor.name);
      modules.push_back(std::move(module));
    }
  }
  return modules;
}

std::string expert_name(std::string_view stack, int64_t expert) {
  constexpr std::string_view kExperts = "experts.";
  const size_t at = stack.rfind(kExperts);
  if (at == std::string_view::npos)
    fail("{} is not the name of a stack of experts, such as mlp.experts.up_proj", std::string(stack));
  const size_t behind = at + kExperts.size();
  return fmt::format("{}{}.{}", stack.substr(0, behind), expert, stack.substr(behind));
}

}  // namespace strata
