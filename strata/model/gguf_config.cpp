#include <algorithm>

#include "strata/core/dtype.h"
#include "strata/core/error.h"
#include "strata/core/text.h"
#include "strata/model/config_checks.h"
#include "strata/model/gguf_model.h"

namespace strata {
namespace {

// Keys of a file, those of its architecture without their prefix.
class Keys {
 public:
  Keys(const GgufFile& file, std::string architecture)
      : file_(file), prefix_(std::move(architecture) + ".") {}

  int64_t integer(const std::string& key) const {
    if (const auto value = optional_integer(prefix_ + key)) return *value;
    fail("{} has no key {}{}", file_.path().string(), prefix_, key);
  }
  int64_t integer(const std::string& key, int64_t otherwise) const {
    return optional_integer(prefix_ + key).value_or(otherwise);
  }
  double real(const std::string& key, double otherwise) const {
    const GgufValue* value = file_.find(prefix_ + key);
    if (value == nullptr) return otherwise;
    const auto number = gguf_number(*value);
    if (!number) fail("{}: the key {}{} is not a number", file_.path().string(), prefix_, key);
    return *number;
  }
  std::string text(const std::string& key) const {
    const GgufValue* value = file_.find(prefix_ + key);
    if (value == nullptr) return "";
    const auto* string = std::get_if<std::string>(&value->value);
    if (string == nullptr) fail("{}: the key {}{} is not a string", file_.path().string(), prefix_, key);
    return *string;
  }
  // Of a key given with its prefix.
  std::optional<int64_t> optional_integer(const std::string& full_key) const {
    const GgufValue* value = file_.find(full_key);
    if (value == nullptr) return std::nullopt;
    const auto number = gguf_integer(*value);
    if (!number)
      fail("{}: the key {} is not one integer (models whose layers differ in size are not supported)",
           file_.path().string(), full_key);
    return number;
  }

 private:
  const GgufFile& file_;
  std::string prefix_;
};

std::string architecture_of(const GgufFile& file) {
  const GgufValue* value = file.find("general.architecture");
  const auto* name = value == nullptr ? nullptr : std::get_if<std::string>(&value->value);
  if (name == nullptr)
    fail("{} has no key general.architecture, so the kind of model is not known", file.path().string());
  return printable(*name);
}

const GgufTensor& require_tensor(const GgufFile& file, const std::string& name) {
  const GgufTensor* tensor = file.find_tensor(name);
  if (tensor == nullptr) fail("{} has no tensor {}", file.path().string(), name);
  return *tensor;
}

void read_sizes(const GgufFile& file, const Keys& keys, ModelConfig& config) {
  const std::string where = file.path().string();
  config.hidden_size = keys.integer("embedding_length");
  config.intermediate_size = keys.integer("feed_forward_length");
  config.num_layers = keys.integer("block_count");
  config.num_heads = keys.integer("attention.head_count");
  config.num_kv_heads = keys.integer("attention.head_count_kv", config.num_heads);
  config.max_position_embeddings = keys.integer("context_length", 2048);
  const std::vector<int64_t>& embedding = require_tensor(file, "token_embd.weight").shape;
  if (embedding.size() != 2)
    fail("{}: token_embd.weight has {} dimensions, expected 2", where, embedding.size());
  config.vocab_size = embedding[0];
  if (config.num_heads < 1) fail("{}: the key attention.head_count is {}", where, config.num_heads);
  config.head_dim = keys.integer("attention.key_length", config.hidden_size / config.num_heads);
  if (const int64_t values = keys.integer("attention.value_length", config.head_dim);
      values != config.head_dim)
    fail("{}: values have {} features a head and keys {}; only equal sizes are supported", where, values,
         config.head_dim);
  if (const int64_t rotated = keys.integer("rope.dimension_count", config.head_dim);
      rotated != config.head_dim)
    fail("{}: {} of {} features a head are rotated; only whole heads are supported", where, rotated,
         config.head_dim);
}

// Divisors of the rotary frequencies stored as a tensor (Llama 3), together with linear scaling if there is
// any.
void read_rope(const GgufFile& file, const Keys& keys, ModelConfig& config) {
  config.rope_theta = keys.real("rope.freq_base", 10000);
  RopeScaling& scaling = config.rope_scaling;
  const std::string type = keys.text("rope.scaling.type");
  const double factor = keys.real("rope.scaling.factor", keys.real("rope.scale_linear", 1));
  if (type == "linear" || (type.empty() && factor != 1)) {
    scaling.type = RopeScaling::Type::Linear;
    scaling.factor = factor;
  } else if (!type.empty() && type != "none") {
    fail(
        "{}: the rope type '{}' is not supported; known are none and linear, and llama3 through "
        "rope_freqs.weight",
        file.path().string(), printable(type));
  }

  const GgufTensor* divisors = file.find_tensor("rope_freqs.weight");
  if (divisors == nullptr) return;
  if (divisors->type != GgufType::F32 || divisors->shape != std::vector<int64_t>{config.head_dim / 2})
    fail("{}: rope_freqs.weight does not hold {} F32 values, one for each pair of a head's features",
         file.path().string(), config.head_dim / 2);
  scaling.divisors.resize(static_cast<size_t>(config.head_dim / 2));
  to_float(DType::F32, file.data(*divisors), scaling.divisors.data(), config.head_dim / 2);
  if (scaling.type == RopeScaling::Type::Linear)
    for (float& divisor : scaling.divisors) divisor *= static_cast<float>(scaling.factor);
  scaling.type = RopeScaling::Type::Divisors;
}

std::optional<int32_t> token_id(const Keys& keys, const std::string& key, int64_t vocab_size) {
  const auto id = keys.optional_integer(key);
  if (!id || *id < 0 || *id >= vocab_size) return std::nullopt;
  return static_cast<int32_t>(*id);
}

}  // namespace

ModelConfig read_gguf_config(const GgufFile& file) {
  const std::string where = file.path().string();
  ModelConfig config;
  config.architecture = architecture_of(file);
  const Keys keys(file, config.architecture);

  read_sizes(file, keys, config);
  check_config(config, where);
  config.rms_norm_eps = keys.real("attention.layer_norm_rms_epsilon", 1e-5);
  read_rope(file, keys, config);
  config.tied_embeddings = file.find_tensor("output.weight") == nullptr;
  config.attention_bias = file.find_tensor("blk.0.attn_q.bias") != nullptr;
  config.output_bias = file.find_tensor("blk.0.attn_output.bias") != nullptr;
  config.mlp_bias = file.find_tensor("blk.0.ffn_gate.bias") != nullptr;
  config.qk_norm = config.architecture == "qwen3";
  config.bos = token_id(keys, "tokenizer.ggml.bos_token_id", config.vocab_size);
  config.eos = token_id(keys, "tokenizer.ggml.eos_token_id", config.vocab_size);
  check_config(config, where);
  return config;
}

}  // namespace strata
