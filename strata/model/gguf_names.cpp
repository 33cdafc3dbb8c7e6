#include "strata/model/gguf_names.h"

#include <algorithm>
#include <array>
#include <utility>

#include "strata/core/error.h"

namespace strata {
namespace {

using Names = std::pair<std::string_view, std::string_view>;  // Hugging Face, GGUF

constexpr std::array<Names, 3> kModelTensors = {{
    {"model.embed_tokens", "token_embd"},
    {"model.norm", "output_norm"},
    {"lm_head", "output"},
}};

constexpr std::array<Names, 11> kLayerTensors = {{
    {"input_layernorm", "attn_norm"},
    {"self_attn.q_proj", "attn_q"},
    {"self_attn.k_proj", "attn_k"},
    {"self_attn.v_proj", "attn_v"},
    {"self_attn.o_proj", "attn_output"},
    {"self_attn.q_norm", "attn_q_norm"},
    {"self_attn.k_norm", "attn_k_norm"},
    {"post_attention_layernorm", "ffn_norm"},
    {"mlp.gate_proj", "ffn_gate"},
    {"mlp.up_proj", "ffn_up"},
    {"mlp.down_proj", "ffn_down"},
}};

constexpr std::string_view kHfLayers = "model.layers.";
constexpr std::string_view kGgufLayers = "blk.";

bool starts_with(std::string_view text, std::string_view prefix) {
  return text.substr(0, prefix.size()) == prefix;
}

bool is_number(std::string_view text) {
  return !text.empty() && std::all_of(text.begin(), text.end(), [](char c) { return c >= '0' && c <= '9'; });
}

template <size_t N>
std::string_view translate(const std::array<Names, N>& table, std::string_view stem, bool to_gguf) {
  for (const auto& [hf, gguf] : table)
    if (stem == (to_gguf ? hf : gguf)) return to_gguf ? gguf : hf;
  return {};
}

// Splits "<layers prefix>N.<stem>.<weight|bias>", translates prefix and stem, and keeps the rest.
std::string translate_name(std::string_view name, bool to_gguf) {
  const size_t last_dot = name.rfind('.');
  if (last_dot == std::string_view::npos) return {};
  const std::string_view ending = name.substr(last_dot);
  if (ending != ".weight" && ending != ".bias") return {};
  std::string_view stem = name.substr(0, last_dot);

  const std::string_view from = to_gguf ? kHfLayers : kGgufLayers;
  const std::string_view to = to_gguf ? kGgufLayers : kHfLayers;
  std::string prefix;
  std::string_view translated;
  if (starts_with(stem, from)) {
    stem.remove_prefix(from.size());
    const size_t dot = stem.find('.');
    if (dot == std::string_view::npos || !is_number(stem.substr(0, dot))) return {};
    prefix = std::string(to) + std::string(stem.substr(0, dot)) + ".";
    translated = translate(kLayerTensors, stem.substr(dot + 1), to_gguf);
  } else {
    translated = translate(kModelTensors, stem, to_gguf);
  }
  if (translated.empty()) return {};
  return prefix + std::string(translated) + std::string(ending);
}

}  // namespace

std::string gguf_name(const std::string& hf_name) {
  return translate_name(hf_name, true);
}

std::string hf_name(const std::string& gguf_name) {
  return translate_name(gguf_name, false);
}

std::string name_in_gguf(const std::string& tensor) {
  const std::string name = gguf_name(tensor);
  return name.empty() ? tensor : name;
}

std::string gguf_architecture(const std::string& model_type) {
  if (model_type == "llama" || model_type == "mistral") return "llama";
  if (model_type == "qwen2" || model_type == "qwen3") return model_type;
  fail("GGUF has no known architecture for model type '{}'; known are llama, mistral, qwen2 and qwen3",
       model_type);
}

bool permutes_qk(std::string_view gguf_architecture) {
  return gguf_architecture == "llama";
}

std::vector<int64_t> gguf_row_order(int64_t rows, int64_t heads) {
  if (heads < 1 || rows % (2 * heads) != 0)
    fail("{} rows cannot be split into the halves of {} heads", rows, heads);
  const int64_t head_dim = rows / heads;
  const int64_t half = head_dim / 2;
  std::vector<int64_t> order(static_cast<size_t>(rows));
  for (int64_t head = 0; head < heads; ++head)
    for (int64_t pair = 0; pair < half; ++pair)
      for (int64_t side = 0; side < 2; ++side)
        order[head * head_dim + 2 * pair + side] = head * head_dim + side * half + pair;
  return order;
}

std::vector<int64_t> hf_row_order(int64_t rows, int64_t heads) {
  const std::vector<int64_t> source = gguf_row_order(rows, heads);
  std::vector<int64_t> stored(source.size());
  for (size_t i = 0; i < source.size(); ++i) stored[source[i]] = static_cast<int64_t>(i);
  return stored;
}

}  // namespace strata
