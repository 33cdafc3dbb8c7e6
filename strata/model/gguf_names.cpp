#include "strata/model/gguf_names.h"

#include <algorithm>
#include <string_view>

#include "strata/core/error.h"

namespace strata {
namespace {

bool starts_with(std::string_view text, std::string_view prefix) {
  return text.substr(0, prefix.size()) == prefix;
}

constexpr size_t kDigits = 6, kMostNumbered = 1000000;  // of the number of a layer in a name

bool is_number(std::string_view text) {
  return !text.empty() && text.size() <= kDigits &&
         std::all_of(text.begin(), text.end(), [](char c) { return c >= '0' && c <= '9'; });
}

// Which way names are translated.
enum class Way { ToGguf, FromGguf };

std::string translate(const NamePair& names, std::string_view stem, Way way) {
  if (stem != (way == Way::ToGguf ? names.name : names.gguf_name)) return "";
  return way == Way::ToGguf ? names.gguf_name : names.name;
}

std::string translate_in_layer(const Architecture& architecture, const ModelConfig& config, int layer,
                               std::string_view stem, Way way) {
  for (const LayerTensor& tensor : architecture.tensors(config, layer)) {
    if (std::string name = translate({tensor.name, tensor.gguf_name}, stem, way); !name.empty()) return name;
    for (const std::string& part : tensor.gguf_parts)
      if (way == Way::FromGguf && stem == part) return tensor.name;
  }
  return "";
}

// Splits "<layers>N.<stem>.<weight|bias>", translates layers and stem, and keeps the rest.
std::string translate_name(const Architecture& architecture, const ModelConfig& config, std::string_view name,
                           Way way) {
  const size_t last_dot = name.rfind('.');
  if (last_dot == std::string_view::npos) return "";
  const std::string_view ending = name.substr(last_dot);
  if (ending != ".weight" && ending != ".bias") return "";
  std::string_view stem = name.substr(0, last_dot);

  const NamePair layers = layer_names(config);
  const std::string_view from = way == Way::ToGguf ? layers.name : layers.gguf_name;
  std::string prefix, translated;
  if (starts_with(stem, from)) {
    stem.remove_prefix(from.size());
    const size_t dot = stem.find('.');
    if (dot == std::string_view::npos || !is_number(stem.substr(0, dot))) return "";
    const std::string number(stem.substr(0, dot));
    prefix = (way == Way::ToGguf ? layers.gguf_name : layers.name) + number + ".";
    translated = translate_in_layer(architecture, config, std::stoi(number), stem.substr(dot + 1), way);
  } else {
    for (const NamePair& names :
         {embedding_names(config), layer_embedding_names(config), layer_projection_names(config),
          layer_projection_norm_names(config), final_norm_names(config), head_names(config)})
      if (translated.empty()) translated = translate(names, stem, way);
  }
  return translated.empty() ? "" : prefix + translated + std::string(ending);
}

}  // namespace

NamePair embedding_names(const ModelConfig& config) {
  return {config.prefix + "embed_tokens", "token_embd"};
}

NamePair layer_embedding_names(const ModelConfig& config) {
  return {config.prefix + "embed_tokens_per_layer", "per_layer_token_embd"};
}

NamePair layer_projection_names(const ModelConfig& config) {
  return {config.prefix + "per_layer_model_projection", "per_layer_model_proj"};
}

NamePair layer_projection_norm_names(const ModelConfig& config) {
  return {config.prefix + "per_layer_projection_norm", "per_layer_proj_norm"};
}

NamePair final_norm_names(const ModelConfig& config) {
  const Architecture& architecture = architecture_of(config);
  return {config.prefix + architecture.final_norm, architecture.gguf_final_norm};
}

NamePair head_names(const ModelConfig& config) {
  return {config.head, "output"};
}

NamePair layer_names(const ModelConfig& config) {
  return {config.prefix + "layers.", "blk."};
}

std::string gguf_name(const ModelConfig& config, const std::string& name) {
  return translate_name(architecture_of(config), config, name, Way::ToGguf);
}

std::string name_of_gguf(const ModelConfig& config, const std::string& gguf_name) {
  return translate_name(architecture_of(config), config, gguf_name, Way::FromGguf);
}

std::string name_in_gguf(const Model& model, const std::string& tensor) {
  const std::string name = model.runnable ? gguf_name(model.config, tensor) : "";
  return name.empty() ? tensor : name;
}

std::string matrix_name_in_gguf(const std::string& tensor) {
  ModelConfig config;
  // Behind a prefix of any kind, or none.
  const size_t start = tensor.find("layers.");
  if (start != std::string::npos && (start == 0 || tensor[start - 1] == '.'))
    config.prefix = tensor.substr(0, start);
  // Of layers that attend, and of those that do not.
  for (const bool attend : {true, false}) {
    config.attention_layers.assign(attend ? 0 : kMostNumbered, attend);
    for (const Architecture& architecture : architectures()) {
      config.architecture = architecture.model_type;
      if (std::string name = translate_name(architecture, config, tensor, Way::ToGguf); !name.empty())
        return name;
    }
  }
  return tensor;
}

bool is_permuted(const std::vector<RowPart>& parts) {
  return std::any_of(parts.begin(), parts.end(), [](const RowPart& part) { return part.permuted_heads > 0; });
}

std::vector<int64_t> gguf_row_order(const std::vector<RowPart>& parts) {
  std::vector<int64_t> order;
  for (const RowPart& part : parts) {
    const auto first = static_cast<int64_t>(order.size());
    const int64_t heads = part.permuted_heads;
    if (heads > 0 && part.rows % (2 * heads) != 0)
      fail("{} rows cannot be split into the halves of {} heads", part.rows, heads);
    // W.reshape(heads, 2, rows / heads / 2, cols).swap(1, 2)
    const int64_t half = heads > 0 ? part.rows / heads / 2 : 0;
    for (int64_t row = 0; row < part.rows; ++row) {
      const int64_t in_head = heads > 0 ? row % (2 * half) : 0;
      order.push_back(first + (heads > 0 ? row - in_head + in_head % 2 * half + in_head / 2 : row));
    }
  }
  return order;
}

std::vector<int64_t> source_row_order(const std::vector<RowPart>& parts) {
  const std::vector<int64_t> source = gguf_row_order(parts);
  std::vector<int64_t> stored(source.size());
  for (size_t i = 0; i < source.size(); ++i) stored[static_cast<size_t>(source[i])] = static_cast<int64_t>(i);
  return stored;
}

}  // namespace strata
