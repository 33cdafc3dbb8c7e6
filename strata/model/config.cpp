#include <algorithm>
#include <cmath>
#include <limits>

#include "strata/core/error.h"
#include "strata/core/json.h"
#include "strata/model/config_checks.h"
#include "strata/model/model.h"

namespace strata {
namespace {

namespace fs = std::filesystem;

constexpr const char* kKnownRopeTypes = "default, linear and llama3";

// The values of one JSON object, each checked for its kind; absent and null keys count as not given.
class Fields {
 public:
  Fields(const Json& object, std::string where) : object_(object), where_(std::move(where)) {}

  const Json* find(const char* key) const {
    const auto found = object_.find(key);
    return found == object_.end() || found->is_null() ? nullptr : &*found;
  }

  int64_t integer(const char* key) const {
    if (const auto value = optional_integer(key)) return *value;
    fail("{} has no {}", where_, key);
  }

  int64_t integer(const char* key, int64_t otherwise) const {
    return optional_integer(key).value_or(otherwise);
  }

  double real(const char* key, double otherwise) const {
    const Json* value = find(key);
    if (value == nullptr) return otherwise;
    if (!value->is_number()) unexpected(key, *value, "a number");
    return value->get<double>();
  }

  bool flag(const char* key, bool otherwise) const {
    const Json* value = find(key);
    if (value == nullptr) return otherwise;
    if (!value->is_boolean()) unexpected(key, *value, "true or false");
    return value->get<bool>();
  }

  std::string text(const char* key, std::string otherwise) const {
    const Json* value = find(key);
    if (value == nullptr) return otherwise;
    if (!value->is_string()) unexpected(key, *value, "a string");
    return value->get<std::string>();
  }

  const std::string& where() const { return where_; }

 private:
  std::optional<int64_t> optional_integer(const char* key) const {
    const Json* value = find(key);
    if (value == nullptr) return std::nullopt;
    const bool too_large =
        value->is_number_unsigned() &&
        value->get<uint64_t>() > static_cast<uint64_t>(std::numeric_limits<int64_t>::max());
    if (value->is_number_integer() && !too_large) return value->get<int64_t>();
    // Some writers store sizes as 4096.0.
    if (value->is_number_float()) {
      const double number = value->get<double>();
      if (std::abs(number) < 1e15 && number == std::floor(number)) return static_cast<int64_t>(number);
    }
    unexpected(key, *value, "an integer");
  }

  [[noreturn]] void unexpected(const char* key, const Json& value, const char* expected) const {
    std::string shown = value.dump(-1, ' ', true, Json::error_handler_t::replace);
    if (shown.size() > 60) shown = shown.substr(0, 57) + "...";
    fail("{}: {} is {}, but must be {}", where_, key, shown, expected);
  }

  const Json& object_;
  std::string where_;
};

std::string list_known() {
  std::string list;
  for (const std::string& name : known_architectures()) list += (list.empty() ? "" : ", ") + name;
  return list;
}

// From model_type or, where that is missing, from the class name in `architectures`.
std::string architecture_of(const Fields& fields) {
  std::string name = fields.text("model_type", "");
  if (name.empty()) {
    const Json* classes = fields.find("architectures");
    if (classes == nullptr || !classes->is_array() || classes->empty() || !classes->front().is_string())
      fail("{} has neither model_type nor architectures, so the kind of model is not known; known are {}",
           fields.where(), list_known());
    name = classes->front().get<std::string>();
    for (const auto& [class_name, model_type] :
         {std::pair("LlamaForCausalLM", "llama"), std::pair("MistralForCausalLM", "mistral"),
          std::pair("Qwen2ForCausalLM", "qwen2"), std::pair("Qwen3ForCausalLM", "qwen3")})
      if (name == class_name) return model_type;
  }
  const auto& known = known_architectures();
  if (std::find(known.begin(), known.end(), name) == known.end())
    fail("{}: the architecture '{}' is not supported; known are {}", fields.where(), name, list_known());
  return name;
}

// transformers up to 4: rope_theta and rope_scaling {type | rope_type, factor, ...}. From 5 on:
// rope_parameters {rope_type, rope_theta, factor, ...}.
void read_rope(const Fields& fields, ModelConfig& config) {
  config.rope_theta = fields.real("rope_theta", 10000);
  const bool is_new = fields.find("rope_parameters") != nullptr;
  const char* key = is_new ? "rope_parameters" : "rope_scaling";
  const Json* found = fields.find(key);
  if (found == nullptr) return;
  if (!found->is_object()) fail("{}: {} is not an object", fields.where(), key);
  const Fields rope(*found, fields.where() + ": " + key);
  config.rope_theta = rope.real("rope_theta", config.rope_theta);
  if (rope.real("partial_rotary_factor", 1) != 1)
    fail("{}: partial_rotary_factor is {}, but only whole heads (1) are supported", rope.where(),
         rope.real("partial_rotary_factor", 1));

  const std::string type = rope.text("rope_type", rope.text("type", is_new ? "default" : ""));
  RopeScaling& scaling = config.rope_scaling;
  if (type == "default") return;
  if (type == "linear") {
    scaling.type = RopeScaling::Type::Linear;
  } else if (type == "llama3") {
    scaling.type = RopeScaling::Type::Llama3;
    scaling.low_freq_factor = rope.real("low_freq_factor", 1);
    scaling.high_freq_factor = rope.real("high_freq_factor", 4);
    scaling.original_max_position_embeddings =
        rope.integer("original_max_position_embeddings",
                     fields.integer("original_max_position_embeddings", config.max_position_embeddings));
  } else if (type.empty()) {
    fail("{} has neither rope_type nor type; known are {}", rope.where(), kKnownRopeTypes);
  } else {
    fail("{}: the rope type '{}' is not supported; known are {}", rope.where(), type, kKnownRopeTypes);
  }
  if (rope.find("factor") == nullptr) fail("{} has no factor", rope.where());
  scaling.factor = rope.real("factor", 1);
}

// Mistral slides in every layer, Qwen only with use_sliding_window and from layer max_window_layers on;
// transformers 5 lists the kind of every layer in layer_types.
void read_sliding_window(const Fields& fields, ModelConfig& config) {
  const bool is_qwen = config.architecture == "qwen2" || config.architecture == "qwen3";
  if (config.architecture == "llama" || (is_qwen && !fields.flag("use_sliding_window", false))) return;
  config.sliding_window = fields.integer("sliding_window", 0);
  if (config.sliding_window == 0) return;

  if (const Json* types = fields.find("layer_types")) {
    if (!types->is_array() || static_cast<int64_t>(types->size()) != config.num_layers)
      fail("{}: layer_types is not a list of {} names, one a layer", fields.where(), config.num_layers);
    for (const Json& type : *types) {
      if (type != "sliding_attention" && type != "full_attention")
        fail("{}: layer_types has {}; known are full_attention and sliding_attention", fields.where(),
             type.dump(-1, ' ', true, Json::error_handler_t::replace));
      config.sliding_layers.push_back(type == "sliding_attention");
    }
  } else if (is_qwen) {
    const int64_t first = fields.integer("max_window_layers", 28);
    for (int64_t layer = 0; layer < config.num_layers; ++layer)
      config.sliding_layers.push_back(layer >= first);
  }
}

// A single id, or the first of a list; ids outside the vocabulary mean "none", as -1 does in old configs.
std::optional<int32_t> token_id(const Fields& fields, const char* key, int64_t vocab_size) {
  const Json* value = fields.find(key);
  if (value != nullptr && value->is_array() && !value->empty()) value = &value->front();
  if (value == nullptr || !value->is_number_integer()) return std::nullopt;
  const int64_t id = value->get<int64_t>();
  if (id < 0 || id >= vocab_size) return std::nullopt;
  return static_cast<int32_t>(id);
}

void read_biases(const Fields& fields, ModelConfig& config) {
  const bool attention_bias = fields.flag("attention_bias", false);
  if (config.architecture == "llama") {
    config.attention_bias = config.output_bias = attention_bias;
    config.mlp_bias = fields.flag("mlp_bias", false);
  } else if (config.architecture == "qwen2") {
    config.attention_bias = true;
  } else if (config.architecture == "qwen3") {
    config.attention_bias = config.output_bias = attention_bias;
    config.qk_norm = true;
  }
}

void read_sizes(const Fields& fields, ModelConfig& config) {
  config.hidden_size = fields.integer("hidden_size");
  config.intermediate_size = fields.integer("intermediate_size");
  config.num_layers = fields.integer("num_hidden_layers");
  config.num_heads = fields.integer("num_attention_heads");
  config.num_kv_heads = fields.integer("num_key_value_heads", config.num_heads);
  config.vocab_size = fields.integer("vocab_size");
  config.max_position_embeddings = fields.integer("max_position_embeddings", 2048);
  if (fields.find("head_dim") != nullptr) {
    config.head_dim = fields.integer("head_dim");
  } else if (config.architecture == "qwen3") {
    config.head_dim = 128;  // Qwen3Config's own default
  } else {
    if (config.num_heads < 1 || config.hidden_size % config.num_heads != 0)
      fail("{}: hidden_size is {}, which num_attention_heads {} does not divide, and head_dim is not given",
           fields.where(), config.hidden_size, config.num_heads);
    config.head_dim = config.hidden_size / config.num_heads;
  }
}

}  // namespace

const std::vector<std::string>& known_architectures() {
  static const std::vector<std::string> names = {"llama", "mistral", "qwen2", "qwen3"};
  return names;
}

int64_t ModelConfig::window_of(int layer) const {
  if (!sliding_layers.empty() && !sliding_layers.at(layer)) return 0;
  return sliding_window;
}

ModelConfig read_config(const fs::path& config_json) {
  const Json document = read_json(config_json);
  const std::string where = config_json.string();
  if (!document.is_object()) fail("{} is not a JSON object, so it is not a model's config", where);
  const Fields fields(document, where);

  ModelConfig config;
  config.architecture = architecture_of(fields);
  if (const std::string act = fields.text("hidden_act", "silu"); act != "silu")
    fail("{}: hidden_act is '{}', but only silu is supported", where, act);
  if (fields.real("partial_rotary_factor", 1) != 1)
    fail("{}: partial_rotary_factor is {}, but only whole heads (1) are supported", where,
         fields.real("partial_rotary_factor", 1));

  read_sizes(fields, config);
  config.rms_norm_eps = fields.real("rms_norm_eps", 1e-6);
  config.tied_embeddings = fields.flag("tie_word_embeddings", false);
  read_biases(fields, config);
  read_rope(fields, config);
  check_config(config, where);
  read_sliding_window(fields, config);
  check_config(config, where);
  config.bos = token_id(fields, "bos_token_id", config.vocab_size);
  config.eos = token_id(fields, "eos_token_id", config.vocab_size);
  return config;
}

}  // namespace strata
