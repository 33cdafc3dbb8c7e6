#include "strata/model/sized_directory.h"

#include <algorithm>
#include <array>
#include <map>
#include <string_view>

#include "strata/core/error.h"
#include "strata/core/text.h"
#include "strata/model/config_checks.h"

namespace strata {
namespace {

constexpr int64_t kWorthQuantizing = 32;  // rows and columns of a matrix worth quantizing

bool ends_with(std::string_view text, std::string_view ending) {
  return text.size() >= ending.size() && text.substr(text.size() - ending.size()) == ending;
}

bool is_kept(std::string_view name) {
  constexpr std::array<std::string_view, 6> kParts = {"norm",   "conv",  "router",
                                                      "rotary", "a_log", "relative_attention"};
  return ends_with(name, ".gate") || ends_with(name, "_gate") ||
         std::any_of(kParts.begin(), kParts.end(),
                     [&](std::string_view part) { return name.find(part) != std::string_view::npos; });
}

// Packed matrices have types of their own.
bool is_integer(const std::string& type) {
  constexpr std::array<DType, 6> kIntegers = {DType::I64, DType::I32, DType::U32,
                                              DType::I16, DType::I8,  DType::U8};
  return type == name_of(DType::Bool) || std::any_of(kIntegers.begin(), kIntegers.end(),
                                                     [&](DType integer) { return type == name_of(integer); });
}

// "model.layers.7.mlp.up_proj.weight" to "model.", 7 and "mlp.up_proj"; false for other names.
bool parse_layer_tensor(const std::string& tensor, std::string& prefix, Module& module) {
  const std::string_view layers = "layers.", ending = ".weight";
  const size_t start = tensor.find(layers);
  if (start == std::string::npos || (start > 0 && tensor[start - 1] != '.') || !ends_with(tensor, ending))
    return false;
  const size_t digits = start + layers.size(), dot = tensor.find('.', digits);
  if (dot == std::string::npos || dot == digits || dot - digits > 4 ||
      dot + 1 + ending.size() >= tensor.size() ||
      !std::all_of(tensor.begin() + static_cast<int64_t>(digits), tensor.begin() + static_cast<int64_t>(dot),
                   [](char c) { return c >= '0' && c <= '9'; }))
    return false;
  prefix = tensor.substr(0, start);
  module.layer = std::stoi(tensor.substr(digits, dot - digits));
  module.name = tensor.substr(dot + 1, tensor.size() - ending.size() - dot - 1);
  module.tensor = tensor;
  return module.layer < kMostLayers;
}

// The matrix with this ending that has the most rows; empty where there is none.
std::string largest_named(const Checkpoint& checkpoint, std::initializer_list<std::string_view> endings) {
  const TensorInfo* largest = nullptr;
  for (const TensorInfo& tensor : checkpoint.tensors())
    for (const std::string_view ending : endings)
      if (tensor.shape.size() == 2 && ends_with(tensor.name, ending) &&
          (largest == nullptr || tensor.rows() > largest->rows()))
        largest = &tensor;
  return largest == nullptr ? "" : largest->name;
}

}  // namespace

std::vector<Module> sized_modules(const Checkpoint& checkpoint) {
  std::map<std::string, std::vector<Module>> towers;
  std::map<std::string, int64_t> params;
  for (const TensorInfo& tensor : checkpoint.tensors()) {
    Module module;
    std::string prefix;
    if (tensor.shape.size() != 2 || !parse_layer_tensor(tensor.name, prefix, module) ||
        is_kept(module.name) || is_integer(tensor.type) || tensor.rows() < kWorthQuantizing ||
        tensor.cols() < kWorthQuantizing)
      continue;
    module.rows = tensor.rows();
    module.cols = tensor.cols();
    params[prefix] += module.params();
    towers[prefix].push_back(std::move(module));
  }
  const auto largest = std::max_element(params.begin(), params.end(),
                                        [](const auto& a, const auto& b) { return a.second < b.second; });
  if (largest == params.end()) return {};
  std::vector<Module> modules = std::move(towers[largest->first]);
  std::stable_sort(modules.begin(), modules.end(),
                   [](const Module& a, const Module& b) { return a.layer < b.layer; });
  return modules;
}

void describe_sized(Model& model, const Json& config) {
  if (model.modules.empty())
    fail("{} has no matrices in its layers (….layers.N.….weight), so there is nothing to quantize",
         model.path.string());
  const auto type = config.find("model_type");
  model.config.architecture =
      type != config.end() && type->is_string() ? printable(type->get<std::string>()) : "unknown";
  model.config.num_layers = model.modules.back().layer + 1;
  model.embedding =
      largest_named(*model.checkpoint, {"embed_tokens.weight", "wte.weight", "word_embeddings.weight"});
  if (model.embedding.empty())
    fail("{} has no embedding (embed_tokens.weight), so its size is not known", model.path.string());
  const std::string head = largest_named(*model.checkpoint, {"lm_head.weight", "embed_out.weight"});
  model.config.tied_embeddings = head.empty();
  model.head = head.empty() ? model.embedding : head;
  model.config.vocab_size = model.checkpoint->info(model.embedding).rows();
  model.config.hidden_size = model.checkpoint->info(model.embedding).cols();
}

}  // namespace strata
