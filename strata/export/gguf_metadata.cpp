#include "strata/export/gguf_metadata.h"

#include <algorithm>
#include <limits>
#include <map>

#include "strata/core/error.h"
#include "strata/model/architecture.h"
#include "strata/model/rope_scaling.h"
#include "strata/tokenizer/gguf_vocabulary.h"

namespace strata {
namespace {

constexpr uint32_t kQuantizationVersion = 2;  // of ggml's block layouts

bool starts_with(const std::string& text, std::string_view prefix) {
  return text.compare(0, prefix.size(), prefix) == 0;
}

// Collects keys under an architecture's prefix.
class KeyList {
 public:
  KeyList(std::vector<GgufKey>& keys, std::string prefix) : keys_(keys), prefix_(std::move(prefix)) {}

  void integer(const std::string& name, int64_t value) {
    if (value < 0 || value > std::numeric_limits<int32_t>::max())
      fail("{}.{} would be {}, which llama.cpp cannot read as a 32-bit number", prefix_, name, value);
    keys_.push_back({prefix_ + "." + name, gguf_u32(static_cast<uint32_t>(value))});
  }
  void real(const std::string& name, double value) {
    keys_.push_back({prefix_ + "." + name, gguf_f32(static_cast<float>(value))});
  }
  void text(const std::string& name, const std::string& value) {
    keys_.push_back({prefix_ + "." + name, gguf_string(value)});
  }

 private:
  std::vector<GgufKey>& keys_;
  std::string prefix_;
};

// An architecture may say otherwise what all have.
void set_key(std::vector<GgufKey>& keys, GgufKey key) {
  const auto same =
      std::find_if(keys.begin(), keys.end(), [&](const GgufKey& k) { return k.name == key.name; });
  if (same == keys.end())
    keys.push_back(std::move(key));
  else
    *same = std::move(key);
}

std::string model_name(const std::filesystem::path& path) {
  const std::filesystem::path whole = std::filesystem::absolute(path).lexically_normal();
  const std::filesystem::path named = whole.has_filename() ? whole : whole.parent_path();
  return std::filesystem::is_directory(named) ? named.filename().string() : named.stem().string();
}

void add_dimensions(KeyList& keys, const ModelConfig& config) {
  keys.integer("context_length", config.max_position_embeddings);
  keys.integer("embedding_length", config.hidden_size);
  keys.integer("block_count", config.num_layers);
  keys.integer("feed_forward_length", config.intermediate_size);
  keys.integer("vocab_size", config.vocab_size);
  keys.integer("attention.head_count", config.num_heads);
  keys.integer("attention.head_count_kv", config.num_kv_heads);
  keys.integer("attention.key_length", config.head_dim);
  keys.integer("attention.value_length", config.head_dim);
  keys.real(config.norm == ModelConfig::Norm::Rms ? "attention.layer_norm_rms_epsilon"
                                                  : "attention.layer_norm_epsilon",
            config.rms_norm_eps);
  if (config.sliding_window > 0) keys.integer("attention.sliding_window", config.sliding_window);
}

void add_experts(KeyList& keys, const ExpertSizes& experts) {
  keys.integer("expert_count", experts.count);
  keys.integer("expert_used_count", experts.used);
  keys.integer("expert_feed_forward_length", experts.width);
  if (experts.scale != 1) keys.real("expert_weights_scale", experts.scale);
}

void add_rope(KeyList& keys, const ModelConfig& config) {
  keys.integer("rope.dimension_count", config.rope.rotary_dim);
  keys.real("rope.freq_base", config.rope.theta);
  if (config.rope.scaling.type == RopeScaling::Type::Linear) {
    keys.text("rope.scaling.type", "linear");
    keys.real("rope.scaling.factor", config.rope.scaling.factor);
  }
  if (config.rope.scaling.type == RopeScaling::Type::Yarn) {
    const RopeScaling& yarn = config.rope.scaling;
    keys.text("rope.scaling.type", "yarn");
    keys.real("rope.scaling.factor", yarn.factor);
    keys.integer("rope.scaling.original_context_length", yarn.original_max_position_embeddings);
    keys.real("rope.scaling.attn_factor", yarn.attention_factor / usual_yarn_attention_factor(yarn.factor));
    keys.real("rope.scaling.yarn_beta_fast", yarn.beta_fast);
    keys.real("rope.scaling.yarn_beta_slow", yarn.beta_slow);
  }
  if (config.rope.scaling.type == RopeScaling::Type::Long) {
    keys.integer("rope.scaling.original_context_length",
                 config.rope.scaling.original_max_position_embeddings);
    keys.real("rope.scaling.attn_factor", config.rope.scaling.attention_factor);
  }
}

// Rows of the embedding beyond the tokenizer's tokens (some models round the vocabulary up) get names of
// their own, since llama.cpp wants one token a row.
Vocabulary padded_vocabulary(const Model& model) {
  Vocabulary vocabulary = model.vocabulary();
  const size_t rows = static_cast<size_t>(model.config.vocab_size);
  if (vocabulary.tokens.size() > rows)
    fail("the tokenizer of {} has {} tokens, but the embedding has only {} rows", model.path.string(),
         vocabulary.tokens.size(), rows);
  const bool scored = !vocabulary.scores.empty();
  while (vocabulary.tokens.size() < rows) {
    vocabulary.tokens.push_back(fmt::format("[PAD{}]", vocabulary.tokens.size()));
    vocabulary.types.push_back(Vocabulary::TokenType::Unused);
    if (scored) vocabulary.scores.push_back(-1000.0f);
  }
  return vocabulary;
}

// The type that most matrices have, as llama.cpp numbers kinds of files; F32 without matrices.
GgufKey file_type_key(const std::vector<GgufTensor>& tensors) {
  const std::map<GgufType, int> counts = matrices_by_type(tensors);
  const auto most = std::max_element(counts.begin(), counts.end(),
                                     [](const auto& a, const auto& b) { return a.second < b.second; });
  const GgufTypeTraits& type = traits_of(most == counts.end() ? GgufType::F32 : most->first);
  return {"general.file_type", gguf_u32(static_cast<uint32_t>(type.file_type))};
}

}  // namespace

std::map<GgufType, int> matrices_by_type(const std::vector<GgufTensor>& tensors) {
  std::map<GgufType, int> counts;
  for (const GgufTensor& tensor : tensors)
    if (tensor.shape.size() > 1 && is_coded(tensor.type)) ++counts[tensor.type];
  return counts;
}

std::vector<GgufKey> gguf_keys(const Model& model, const std::vector<GgufTensor>& tensors) {
  const Architecture& architecture = architecture_of(model.config);
  std::vector<GgufKey> keys;
  keys.push_back({"general.architecture", gguf_string(architecture.gguf_name)});
  keys.push_back({"general.type", gguf_string("model")});
  keys.push_back({"general.name", gguf_string(model_name(model.path))});
  keys.push_back({"general.quantization_version", gguf_u32(kQuantizationVersion)});
  keys.push_back(file_type_key(tensors));
  KeyList list(keys, architecture.gguf_name);
  add_dimensions(list, model.config);
  if (model.config.experts.count > 0) add_experts(list, model.config.experts);
  add_rope(list, model.config);
  if (architecture.gguf_keys != nullptr)
    for (GgufKey& key : architecture.gguf_keys(model.config))
      set_key(keys, {architecture.gguf_name + "." + key.name, std::move(key.value)});
  for (GgufKey& key : vocabulary_keys(padded_vocabulary(model))) keys.push_back(std::move(key));
  return keys;
}

std::vector<GgufKey> requantized_keys(const GgufFile& input, const std::vector<GgufTensor>& tensors) {
  std::vector<GgufKey> keys;
  for (const GgufKey& key : input.keys()) {
    const bool describes_quantization = key.name == "general.file_type" ||
                                        key.name == "general.quantization_version" ||
                                        starts_with(key.name, "quantize.") || starts_with(key.name, "split.");
    if (!describes_quantization) keys.push_back(key);
  }
  keys.push_back({"general.quantization_version", gguf_u32(kQuantizationVersion)});
  keys.push_back(file_type_key(tensors));
  return keys;
}

}  // namespace strata
