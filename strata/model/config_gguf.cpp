#include "strata/model/config_gguf.h"

#include <algorithm>

#include "strata/core/dtype.h"
#include "strata/core/error.h"
#include "strata/core/text.h"
#include "strata/model/architecture.h"
#include "strata/model/config_checks.h"
#include "strata/model/config_json.h"
#include "strata/model/rope_scaling.h"

namespace strata {
namespace {

const Architecture& named_architecture(const GgufFile& file) {
  const GgufValue* value = file.find("general.architecture");
  const auto* name = value == nullptr ? nullptr : std::get_if<std::string>(&value->value);
  if (name == nullptr)
    fail("{} has no key general.architecture, so the kind of model is not known", file.path().string());
  if (const Architecture* found = find_gguf_architecture(*name, file)) return *found;
  fail("{}: the architecture '{}' is not supported; known are {}", file.path().string(), printable(*name),
       known_architectures());
}

const GgufTensor& require_tensor(const GgufFile& file, const std::string& name) {
  const GgufTensor* tensor = file.find_tensor(name);
  if (tensor == nullptr) fail("{} has no tensor {}", file.path().string(), name);
  return *tensor;
}

// Of the layers that have any; where files list them the most that a layer has.
int64_t kv_heads(const Architecture& architecture, const GgufKeys& keys, const ModelConfig& config) {
  if (!architecture.sizes_by_layer || config.num_layers < 1 || config.num_layers > kMostLayers)
    return keys.integer("attention.head_count_kv", config.num_heads);
  const std::vector<int64_t> of_layers = keys.by_layer("attention.head_count_kv", config.num_layers);
  return *std::max_element(of_layers.begin(), of_layers.end());
}

bool has_experts(const Architecture& architecture, const GgufKeys& keys) {
  return architecture.experts.value_or(keys.integer("expert_count", 0) > 0);
}

// The least that a layer has, where files list them.
int64_t feed_forward_length(const Architecture& architecture, const GgufKeys& keys,
                            const ModelConfig& config) {
  if (has_experts(architecture, keys))
    return keys.integer("feed_forward_length", keys.integer("expert_feed_forward_length", 0));
  if (!architecture.sizes_by_layer || config.num_layers < 1 || config.num_layers > kMostLayers)
    return keys.integer("feed_forward_length");
  const std::vector<int64_t> of_layers = keys.by_layer("feed_forward_length", config.num_layers);
  return *std::min_element(of_layers.begin(), of_layers.end());
}

void check_feed_forward_lengths(const GgufKeys& keys, const ModelConfig& config) {
  const std::vector<int64_t> of_layers = keys.by_layer("feed_forward_length", config.num_layers);
  for (int layer = 0; layer < config.num_layers; ++layer)
    if (const int64_t length = of_layers[static_cast<size_t>(layer)];
        length != config.intermediate_size_of(layer))
      throw NotRunnable(
          fmt::format("{}: layer {} has a feed_forward_length of {}, and {} is what it would have if it were "
                      "like the others; models whose layers differ so are not supported",
                      keys.file().path().string(), layer, length, config.intermediate_size_of(layer)));
}

void read_sizes(const GgufFile& file, const Architecture& architecture, const GgufKeys& keys,
                ModelConfig& config) {
  const std::string where = file.path().string();
  config.hidden_size = keys.integer("embedding_length");
  config.num_layers = keys.integer("block_count");
  config.intermediate_size = feed_forward_length(architecture, keys, config);
  config.num_heads = keys.integer("attention.head_count");
  config.num_kv_heads = kv_heads(architecture, keys, config);
  config.max_position_embeddings = keys.integer("context_length", 2048);
  const std::vector<int64_t>& embedding = require_tensor(file, "token_embd.weight").shape;
  if (embedding.size() != 2)
    fail("{}: token_embd.weight has {} dimensions, expected 2", where, embedding.size());
  config.vocab_size = embedding[0];
  if (config.num_heads < 1) fail("{}: the key attention.head_count is {}", where, config.num_heads);
  config.head_dim = keys.integer("attention.key_length", config.hidden_size / config.num_heads);
  if (const int64_t values = keys.integer("attention.value_length", config.head_dim);
      values != config.head_dim && !architecture.latent_attention)
    throw NotRunnable(
        fmt::format("{}: values have {} features a head and keys {}; only equal sizes are supported", where,
                    values, config.head_dim));
  config.rope.rotary_dim = keys.integer("rope.dimension_count", config.head_dim);
  if (config.rope.rotary_dim != config.head_dim && !architecture.partial_rotary)
    throw NotRunnable(fmt::format("{}: {} of {} features a head are rotated; only whole heads are supported",
                                  where, config.rope.rotary_dim, config.head_dim));
}

// llama.cpp's graphs renormalize the gates unless they say so.
void read_experts(const GgufKeys& keys, ModelConfig& config) {
  ExpertSizes& experts = config.experts;
  experts.count = keys.integer("expert_count");
  experts.used = keys.integer("expert_used_count");
  experts.width = keys.integer("expert_feed_forward_length", config.intermediate_size);
  experts.scale = keys.real("expert_weights_scale", 1);
  if (experts.scale == 0) experts.scale = 1;  // as llama.cpp takes it
}

// F32 values of a tensor, one for each pair of rotated features.
std::vector<float> read_divisors(const GgufFile& file, const GgufTensor& tensor, int64_t count) {
  if (tensor.type != GgufType::F32 || tensor.shape != std::vector<int64_t>{count})
    fail("{}: {} does not hold {} F32 values, one for each pair of a head's features", file.path().string(),
         tensor.name, count);
  std::vector<float> divisors(static_cast<size_t>(count));
  to_float(DType::F32, file.data(tensor), divisors.data(), count);
  return divisors;
}

// Divisors of the rotary frequencies stored as tensors: one (Llama 3), together with linear scaling if there
// is any, or two (longrope).
void read_rope(const GgufFile& file, const GgufKeys& keys, ModelConfig& config) {
  config.rope.theta = keys.real("rope.freq_base", 10000);
  RopeScaling& scaling = config.rope.scaling;
  const std::string type = keys.text("rope.scaling.type");
  const double factor = keys.real("rope.scaling.factor", keys.real("rope.scale_linear", 1));
  const GgufTensor* of_long = file.find_tensor("rope_factors_long.weight");
  const GgufTensor* of_short = file.find_tensor("rope_factors_short.weight");
  if (type == "linear" || (type.empty() && factor != 1)) {
    scaling.type = RopeScaling::Type::Linear;
    scaling.factor = factor;
  } else if (type == "yarn") {
    scaling.type = RopeScaling::Type::Yarn;
    scaling.factor = factor;
    scaling.original_max_position_embeddings =
        keys.integer("rope.scaling.original_context_length", config.max_position_embeddings);
    scaling.attention_factor = keys.real("rope.scaling.attn_factor", 1) * usual_yarn_attention_factor(factor);
    scaling.beta_fast = keys.real("rope.scaling.yarn_beta_fast", 32);
    scaling.beta_slow = keys.real("rope.scaling.yarn_beta_slow", 1);
  } else if (!type.empty() && type != "none" && !(type == "longrope" && of_long && of_short)) {
    throw NotRunnable(fmt::format(
        "{}: the rope type '{}' is not supported; known are none, linear and yarn, llama3 through "
        "rope_freqs.weight, and longrope with rope_factors_long.weight and rope_factors_short.weight",
        file.path().string(), printable(type)));
  }

  const int64_t pairs = config.rope.rotary_dim / 2;
  if (of_long && of_short) {
    scaling.type = RopeScaling::Type::Long;
    scaling.divisors = read_divisors(file, *of_short, pairs);
    scaling.long_divisors = read_divisors(file, *of_long, pairs);
    scaling.original_max_position_embeddings =
        keys.integer("rope.scaling.original_context_length", config.max_position_embeddings);
    scaling.factor = static_cast<double>(config.max_position_embeddings) /
                     static_cast<double>(std::max<int64_t>(1, scaling.original_max_position_embeddings));
    scaling.attention_factor = keys.real("rope.scaling.attn_factor", 1);
    return;
  }
  const GgufTensor* divisors = file.find_tensor("rope_freqs.weight");
  if (divisors == nullptr) return;
  scaling.divisors = read_divisors(file, *divisors, pairs);
  if (scaling.type == RopeScaling::Type::Linear)
    for (float& divisor : scaling.divisors) divisor *= static_cast<float>(scaling.factor);
  scaling.type = RopeScaling::Type::Divisors;
}

std::optional<int32_t> token_id(const GgufKeys& keys, const std::string& key, int64_t vocab_size) {
  const auto id = keys.optional_integer(key);
  if (!id || *id < 0 || *id >= vocab_size) return std::nullopt;
  return static_cast<int32_t>(*id);
}

}  // namespace

int64_t GgufKeys::integer(const std::string& key) const {
  if (const auto value = optional_integer(prefix_ + key)) return *value;
  fail("{} has no key {}{}", file_.path().string(), prefix_, key);
}

int64_t GgufKeys::integer(const std::string& key, int64_t otherwise) const {
  return optional_integer(prefix_ + key).value_or(otherwise);
}

std::vector<int64_t> GgufKeys::integers(const std::string& key) const {
  const GgufValue* value = file_.find(prefix_ + key);
  if (value == nullptr) return {};
  const auto* list = std::get_if<std::vector<int64_t>>(&value->value);
  if (list == nullptr)
    fail("{}: the key {}{} is not a list of integers", file_.path().string(), prefix_, key);
  return *list;
}

std::vector<int64_t> GgufKeys::by_layer(const std::string& key, int64_t layers) const {
  const GgufValue* value = file_.find(prefix_ + key);
  const auto* list = value == nullptr ? nullptr : std::get_if<std::vector<int64_t>>(&value->value);
  if (list == nullptr) return std::vector<int64_t>(static_cast<size_t>(layers), integer(key));
  if (static_cast<int64_t>(list->size()) != layers)
    fail("{}: the key {}{} has {} entries, expected {}, one a layer", file_.path().string(), prefix_, key,
         list->size(), layers);
  return *list;
}

double GgufKeys::real(const std::string& key, double otherwise) const {
  const GgufValue* value = file_.find(prefix_ + key);
  if (value == nullptr) return otherwise;
  const auto number = gguf_number(*value);
  if (!number) fail("{}: the key {}{} is not a number", file_.path().string(), prefix_, key);
  return *number;
}

bool GgufKeys::flag(const std::string& key, bool otherwise) const {
  const GgufValue* value = file_.find(prefix_ + key);
  if (value == nullptr) return otherwise;
  const auto* flag = std::get_if<bool>(&value->value);
  if (flag == nullptr) fail("{}: the key {}{} is not true or false", file_.path().string(), prefix_, key);
  return *flag;
}

std::string GgufKeys::text(const std::string& key) const {
  const GgufValue* value = file_.find(prefix_ + key);
  if (value == nullptr) return "";
  const auto* string = std::get_if<std::string>(&value->value);
  if (string == nullptr) fail("{}: the key {}{} is not a string", file_.path().string(), prefix_, key);
  return *string;
}

std::optional<int64_t> GgufKeys::optional_integer(const std::string& full_key) const {
  const GgufValue* value = file_.find(full_key);
  if (value == nullptr) return std::nullopt;
  const auto number = gguf_integer(*value);
  if (!number)
    throw NotRunnable(fmt::format(
        "{}: the key {} is not one integer (models whose layers differ in size are not supported)",
        file_.path().string(), full_key));
  return number;
}

ModelConfig read_gguf_config(const GgufFile& file) {
  const std::string where = file.path().string();
  ModelConfig config;
  const Architecture& architecture = named_architecture(file);
  config.architecture = architecture.model_type;
  const GgufKeys keys(file, architecture.gguf_name);

  read_sizes(file, architecture, keys, config);
  check_config(config, where);
  config.rms_norm_eps =
      keys.real("attention.layer_norm_rms_epsilon", keys.real("attention.layer_norm_epsilon", 1e-5));
  read_rope(file, keys, config);
  config.tied_embeddings = file.find_tensor("output.weight") == nullptr;
  config.attention_bias = file.find_tensor("blk.0.attn_q.bias") != nullptr;
  config.output_bias = file.find_tensor("blk.0.attn_output.bias") != nullptr;
  config.mlp_bias = file.find_tensor("blk.0.ffn_gate.bias") != nullptr;
  if (has_experts(architecture, keys)) read_experts(keys, config);
  if (architecture.read_gguf != nullptr) architecture.read_gguf(keys, config);
  if (architecture.complete != nullptr) architecture.complete(config);
  config.bos = token_id(keys, "tokenizer.ggml.bos_token_id", config.vocab_size);
  config.eos = token_id(keys, "tokenizer.ggml.eos_token_id", config.vocab_size);
  check_config(config, where);
  if (architecture.sizes_by_layer && config.experts.count == 0) check_feed_forward_lengths(keys, config);
  return config;
}

}  // namespace strata
