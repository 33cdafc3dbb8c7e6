#include "strata/model/layout.h"

#include <fmt/format.h>

#include <unordered_map>

#include "strata/model/gguf_names.h"

namespace strata {
namespace {

std::string in_layer(int64_t layer, const std::string& name) {
  return fmt::format("{}{}.{}", kLayers, layer, name);
}

std::string in_block(int64_t layer, const std::string& name) {
  return fmt::format("{}{}.{}", kGgufLayers, layer, name);
}

void add_tensor(std::vector<ExpectedTensor>& tensors, const NamePair& names, std::vector<int64_t> shape,
                std::vector<RowPart> parts = {}) {
  tensors.push_back(
      {names.name + ".weight", names.gguf_name + ".weight", std::move(shape), std::move(parts)});
}

}  // namespace

int64_t LayerTensor::rows() const {
  int64_t sum = 0;
  for (const RowPart& part : parts) sum += part.rows;
  return sum;
}

std::vector<ExpectedTensor> expected_tensors(const ModelConfig& config) {
  const Architecture& architecture = architecture_of(config);
  std::vector<ExpectedTensor> tensors;
  add_tensor(tensors, kEmbedding, {config.vocab_size, config.hidden_size});
  for (int layer = 0; layer < config.num_layers; ++layer) {
    for (const LayerTensor& tensor : architecture.tensors(config, layer)) {
      const NamePair names{in_layer(layer, tensor.name), in_block(layer, tensor.gguf_name)};
      add_tensor(tensors, names,
                 tensor.is_matrix() ? std::vector<int64_t>{tensor.rows(), tensor.cols}
                                    : std::vector<int64_t>{tensor.cols},
                 tensor.parts);
      if (tensor.bias)
        tensors.push_back({names.name + ".bias", names.gguf_name + ".bias", {tensor.rows()}, tensor.parts});
    }
  }
  add_tensor(tensors, kFinalNorm, {config.hidden_size});
  if (!config.tied_embeddings) add_tensor(tensors, kHead, {config.vocab_size, config.hidden_size});
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
      if (!tensor.is_matrix()) continue;
      Module module;
      module.layer = layer;
      module.role = tensor.parts.size() == 1 ? tensor.parts.front().role : Role::Other;
      module.name = tensor.name;
      module.tensor = in_layer(layer, tensor.name + ".weight");
      module.rows = tensor.rows();
      module.cols = tensor.cols;
      module.parts = tensor.parts;
      module.input = input_of.at(tensor.name);
      modules.push_back(std::move(module));
    }
  }
  return modules;
}

std::vector<std::vector<std::string>> readers_of(const LayerPlan& plan) {
  std::vector<std::vector<std::string>> readers;
  for (const BlockPlan& block : plan.blocks)
    std::visit(
        [&](const auto& of_block) {
          readers.push_back(of_block.inputs);
          readers.push_back({of_block.output});
        },
        block.block);
  return readers;
}

}  // namespace strata
