// GGUF files of architectures whose forward pass is not known here.
#include <algorithm>
#include <array>
#include <string_view>

#include "strata/core/error.h"
#include "strata/core/text.h"
#include "strata/model/config_checks.h"
#include "strata/model/gguf_model.h"

namespace strata {
namespace {

constexpr int64_t kSmallestSide = 32;  // rows and columns of a matrix worth quantizing

std::string text_of(const GgufFile& file, const std::string& key) {
  const GgufValue* value = file.find(key);
  const auto* text = value == nullptr ? nullptr : std::get_if<std::string>(&value->value);
  return text == nullptr ? "" : *text;
}

// Routers, short convolutions, decay and mixing matrices, position tables: small, and sensitive beyond their
// size.
bool is_left_alone(std::string_view name) {
  constexpr std::array<std::string_view, 12> kParts = {
      "_norm",      "ffn_gate_inp", "ssm_conv1d", "shortconv.conv", "time_mix_first", "time_mix_w",
      "time_mix_a", "time_mix_v",   "time_mix_g", "time_mix_decay", "time_mix_lerp",  "attn_rel_b"};
  return std::any_of(kParts.begin(), kParts.end(),
                     [&](std::string_view part) { return name.find(part) != std::string_view::npos; });
}

// "blk.7.attn_q.weight" to 7 and "attn_q"; false for other names.
bool parse_name(const std::string& name, Module& module) {
  const std::string start = "blk.", ending = ".weight";
  const size_t dot = name.find('.', start.size());
  if (name.compare(0, start.size(), start) != 0 || dot == std::string::npos || dot == start.size() ||
      dot > 9 || name.size() <= dot + 1 + ending.size() ||
      name.compare(name.size() - ending.size(), ending.size(), ending) != 0)
    return false;
  const std::string digits = name.substr(start.size(), dot - start.size());
  if (!std::all_of(digits.begin(), digits.end(), [](char c) { return c >= '0' && c <= '9'; })) return false;
  module.layer = std::stoi(digits);
  module.name = name.substr(dot + 1, name.size() - ending.size() - dot - 1);
  module.tensor = name;
  module.role = Role::Other;
  return module.layer < kMostLayers;
}

}  // namespace

bool is_runnable(const GgufFile& file) {
  const std::string architecture = text_of(file, "general.architecture");
  if (architecture.empty())
    fail("{} has no key general.architecture, so the kind of model is not known", file.path().string());
  return find_gguf_architecture(architecture, file) != nullptr;
}

std::vector<Module> sized_modules(const GgufFile& file) {
  std::vector<Module> modules;
  for (const GgufTensor& tensor : file.tensors()) {
    Module module;
    if (tensor.shape.size() < 2 || !parse_name(tensor.name, module) || is_left_alone(module.name)) continue;
    if (!is_coded(tensor.type)) continue;
    module.cols = tensor.shape.back();
    module.rows = 1;
    if (tensor.shape.size() == 3) module.experts = tensor.shape.front();
    for (size_t i = 0; i + 1 < tensor.shape.size(); ++i) module.rows *= tensor.shape[i];
    if (module.rows >= kSmallestSide && module.cols >= kSmallestSide) modules.push_back(std::move(module));
  }
  std::stable_sort(modules.begin(), modules.end(),
                   [](const Module& a, const Module& b) { return a.layer < b.layer; });
  return modules;
}

ModelConfig sized_gguf_config(const GgufFile& file) {
  ModelConfig config;
  config.architecture = printable(text_of(file, "general.architecture"));
  config.num_layers = 0;
  for (const Module& module : sized_modules(file))
    config.num_layers = std::max<int64_t>(config.num_layers, module.layer + 1);
  if (const GgufTensor* embedding = file.find_tensor("token_embd.weight");
      embedding != nullptr && embedding->shape.size() == 2) {
    config.vocab_size = embedding->shape[0];
    config.hidden_size = embedding->shape[1];
  }
  config.tied_embeddings = file.find_tensor("output.weight") == nullptr;
  return config;
}

}  // namespace strata
