#include "strata/model/config_json.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "strata/core/error.h"
#include "strata/model/architecture.h"
#include "strata/model/config_checks.h"
#include "strata/model/rope_scaling.h"

namespace strata {
namespace {

namespace fs = std::filesystem;

constexpr const char* kKnownRopeTypes = "default, linear, dynamic, llama3, yarn and longrope";

// From model_type or, where that is missing, from the class name in `architectures`.
const Architecture& named_architecture(const ConfigFields& fields) {
  std::string name = fields.text("model_type", "");
  const Architecture* found = find_architecture(name);
  if (name.empty()) {
    const Json* classes = fields.find("architectures");
    if (classes == nullptr || !classes->is_array() || classes->empty() || !classes->front().is_string())
      fail("{} has neither model_type nor architectures, so the kind of model is not known; known are {}",
           fields.where(), known_architectures());
    name = classes->front().get<std::string>();
    found = find_architecture_of_class(name);
  }
  if (found == nullptr)
    throw NotRunnable(fmt::format("{}: the architecture '{}' is not supported; known are {}", fields.where(),
                                  name, known_architectures()));
  return *found;
}

void read_sizes(const ConfigFields& fields, ModelConfig& config) {
  config.hidden_size = fields.integer("hidden_size");
  config.intermediate_size = fields.integer("intermediate_size");
  config.num_layers = fields.integer("num_hidden_layers");
  config.num_heads = fields.integer("num_attention_heads");
  config.num_kv_heads = fields.integer("num_key_value_heads", config.num_heads);
  config.vocab_size = fields.integer("vocab_size");
  config.max_position_embeddings = fields.integer("max_position_embeddings", 2048);
  if (fields.has("head_dim")) {
    config.head_dim = fields.integer("head_dim");
  } else {
    if (config.num_heads < 1 || config.hidden_size % config.num_heads != 0)
      fail("{}: hidden_size is {}, which num_attention_heads {} does not divide, and head_dim is not given",
           fields.where(), config.hidden_size, config.num_heads);
    config.head_dim = config.hidden_size / config.num_heads;
  }
}

void read_partial_rotary(const ConfigFields& fields, const Architecture& architecture, ModelConfig& config) {
  if (!fields.has("partial_rotary_factor")) return;
  const double factor = fields.real("partial_rotary_factor", 1);
  config.rope.rotary_dim = config.head_dim;
  if (factor == 1) return;
  if (!architecture.partial_rotary || !(factor > 0 && factor < 1))
    fail("{}: partial_rotary_factor is {}, but only {} supported", fields.where(), factor,
         architecture.partial_rotary ? "parts between 0 and 1 are" : "whole heads (1) are");
  config.rope.rotary_dim = static_cast<int64_t>(static_cast<double>(config.head_dim) * factor);
}

// longrope divides each frequency by one of two factors, and stretches cosines and sines by
// sqrt(1 + ln s / ln L) for a context s times the original L (transformers' modeling_rope_utils.py).
void read_longrope(const ConfigFields& rope, const ConfigFields& fields, ModelConfig& config) {
  RopeScaling& scaling = config.rope.scaling;
  scaling.type = RopeScaling::Type::Long;
  scaling.divisors = rope.reals("short_factor");
  scaling.long_divisors = rope.reals("long_factor");
  scaling.original_max_position_embeddings =
      rope.integer("original_max_position_embeddings",
                   fields.integer("original_max_position_embeddings", config.max_position_embeddings));
  const double original = static_cast<double>(scaling.original_max_position_embeddings);
  scaling.factor = rope.real("factor", static_cast<double>(config.max_position_embeddings) / original);
  const double stretch =
      scaling.factor <= 1 || original <= 1 ? 1 : std::sqrt(1 + std::log(scaling.factor) / std::log(original));
  scaling.attention_factor = rope.real("attention_factor", stretch);
}

// transformers' _compute_yarn_parameters (modeling_rope_utils.py).
void read_yarn(const ConfigFields& rope, const ConfigFields& fields, ModelConfig& config) {
  RopeScaling& yarn = config.rope.scaling;
  yarn.type = RopeScaling::Type::Yarn;
  yarn.original_max_position_embeddings =
      rope.integer("original_max_position_embeddings",
                   fields.integer("original_max_position_embeddings", config.max_position_embeddings));
  const double context = static_cast<double>(config.max_position_embeddings);
  const double original = static_cast<double>(std::max<int64_t>(1, yarn.original_max_position_embeddings));
  yarn.factor = rope.real("factor", context / original);
  const double of_query = rope.real("mscale", 0), of_all = rope.real("mscale_all_dim", 0);
  const auto stretch = [&](double scale) {
    return 1 + scale * (usual_yarn_attention_factor(yarn.factor) - 1);
  };
  yarn.attention_factor = rope.real(
      "attention_factor", of_query != 0 && of_all != 0 ? stretch(of_query) / stretch(of_all) : stretch(1));
  yarn.beta_fast = rope.real("beta_fast", 32);
  yarn.beta_slow = rope.real("beta_slow", 1);
  yarn.truncate = rope.flag("truncate", true);
}

// rope_scaling or rope_parameters {rope_type | type, rope_theta, factor, ...} over what `config` has.
void read_rope_entries(const ConfigFields& rope, const ConfigFields& fields, const Architecture& architecture,
                       const std::string& default_type, ModelConfig& config) {
  config.rope.theta = rope.real("rope_theta", config.rope.theta);
  const std::string type = rope.text("rope_type", rope.text("type", default_type));
  RopeScaling& scaling = config.rope.scaling;
  if (type == "proportional") {
    scaling.type = RopeScaling::Type::Proportional;
    scaling.turning_part = rope.real("partial_rotary_factor", 1);
    return;
  }
  read_partial_rotary(rope, architecture, config);
  if (type == "default") return;
  if (type == "longrope" || type == "su") return read_longrope(rope, fields, config);
  if (type == "yarn") return read_yarn(rope, fields, config);
  if (type == "linear") {
    scaling.type = RopeScaling::Type::Linear;
  } else if (type == "dynamic") {
    scaling.type = RopeScaling::Type::Dynamic;
    scaling.original_max_position_embeddings = config.max_position_embeddings;
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
    throw NotRunnable(fmt::format("{}: the rope type '{}' is not supported; known are {}", rope.where(), type,
                                  kKnownRopeTypes));
  }
  if (!rope.has("factor")) fail("{} has no factor", rope.where());
  scaling.factor = rope.real("factor", 1);
}

// transformers up to 4: rope_theta, rope_scaling {type | rope_type, factor, ...}, and rope_local_base_freq of
// layers that slide. From 5 on: rope_parameters {rope_type, rope_theta, factor, ...}, or one of these for
// each kind of layer.
void read_rope(const ConfigFields& fields, const Architecture& architecture, ModelConfig& config) {
  config.rope.theta = fields.real("rope_theta", 10000);
  config.rope.rotary_dim = config.head_dim;
  read_partial_rotary(fields, architecture, config);
  if (fields.has("rope_local_base_freq"))
    config.sliding_rope = Rope{fields.real("rope_local_base_freq", 10000), config.head_dim, {}};
  const bool is_new = fields.has("rope_parameters");
  const char* key = is_new ? "rope_parameters" : "rope_scaling";
  const Json* found = fields.find(key);
  if (found == nullptr) return;
  if (!found->is_object()) fail("{}: {} is not an object", fields.where(), key);
  const ConfigFields rope(*found, fields.where() + ": " + key);
  const std::string default_type = is_new ? "default" : "";
  const auto read_kind = [&](const char* kind) {
    const Json* of_kind = rope.find(kind);
    if (of_kind == nullptr || !of_kind->is_object())
      fail("{} has no object {}, which it needs for layers of that kind", rope.where(), kind);
    ModelConfig read = config;
    read_rope_entries({*of_kind, rope.where() + "." + kind}, fields, architecture, default_type, read);
    return read.rope;
  };
  if (!rope.has("full_attention") && !rope.has("sliding_attention"))
    return read_rope_entries(rope, fields, architecture, default_type, config);
  config.sliding_rope = read_kind("sliding_attention");
  config.rope = read_kind("full_attention");
}

// Whether each layer slides, as transformers 5 lists it; false where it does not.
bool read_layer_types(const ConfigFields& fields, ModelConfig& config) {
  config.sliding_layers = layers_of_type(fields, config, "sliding_attention", "full_attention");
  return !config.sliding_layers.empty();
}

// hidden_activation (of the Gemmas) comes before hidden_act.
void check_activation(const ConfigFields& fields, const Architecture& architecture) {
  const std::vector<std::string>& known = architecture.activations;
  const char* key = fields.has("hidden_activation") ? "hidden_activation" : "hidden_act";
  const std::string found = fields.text(key, known.front());
  if (std::find(known.begin(), known.end(), found) == known.end())
    throw NotRunnable(fmt::format("{}: {} is '{}', but of a {} model only {} is supported", fields.where(),
                                  key, found, architecture.model_type, known.front()));
}

// The text model's part of a multimodal config, with what the whole says of it; other configs as they are.
Json text_part(Json document) {
  const auto text = document.find("text_config");
  const auto type = document.find("model_type");
  const bool known =
      type != document.end() && type->is_string() && find_architecture(type->get<std::string>());
  if (known || text == document.end() || !text->is_object()) return document;
  Json part = *text;
  for (const char* key : {"tie_word_embeddings", "bos_token_id", "eos_token_id"})
    if (!part.contains(key) && document.contains(key)) part[key] = document[key];
  return part;
}

// A single id, or the first of a list; ids outside the vocabulary mean "none", as -1 does in old configs.
std::optional<int32_t> token_id(const ConfigFields& fields, const char* key, int64_t vocab_size) {
  const Json* value = fields.find(key);
  if (value != nullptr && value->is_array() && !value->empty()) value = &value->front();
  if (value == nullptr || !value->is_number_integer()) return std::nullopt;
  const int64_t id = value->get<int64_t>();
  if (id < 0 || id >= vocab_size) return std::nullopt;
  return static_cast<int32_t>(id);
}

}  // namespace

const Json* ConfigFields::find(const char* key) const {
  const auto found = object_.find(key);
  return found == object_.end() || found->is_null() ? nullptr : &*found;
}

int64_t ConfigFields::integer(const char* key) const {
  if (const auto value = optional_integer(key)) return *value;
  fail("{} has no {}", where_, key);
}

int64_t ConfigFields::integer(const char* key, int64_t otherwise) const {
  return optional_integer(key).value_or(otherwise);
}

double ConfigFields::real(const char* key, double otherwise) const {
  const Json* value = find(key);
  if (value == nullptr) return otherwise;
  if (!value->is_number()) unexpected(key, *value, "a number");
  return value->get<double>();
}

bool ConfigFields::flag(const char* key, bool otherwise) const {
  const Json* value = find(key);
  if (value == nullptr) return otherwise;
  if (!value->is_boolean()) unexpected(key, *value, "true or false");
  return value->get<bool>();
}

std::string ConfigFields::text(const char* key, std::string otherwise) const {
  const Json* value = find(key);
  if (value == nullptr) return otherwise;
  if (!value->is_string()) unexpected(key, *value, "a string");
  return value->get<std::string>();
}

std::vector<float> ConfigFields::reals(const char* key) const {
  const Json* value = find(key);
  if (value == nullptr) fail("{} has no {}", where_, key);
  const bool numbers = value->is_array() && std::all_of(value->begin(), value->end(),
                                                        [](const Json& entry) { return entry.is_number(); });
  if (!numbers) unexpected(key, *value, "a list of numbers");
  return value->get<std::vector<float>>();
}

std::optional<int64_t> ConfigFields::optional_integer(const char* key) const {
  const Json* value = find(key);
  if (value == nullptr) return std::nullopt;
  const bool too_large = value->is_number_unsigned() &&
                         value->get<uint64_t>() > static_cast<uint64_t>(std::numeric_limits<int64_t>::max());
  if (value->is_number_integer() && !too_large) return value->get<int64_t>();
  // Some writers store sizes as 4096.0.
  if (value->is_number_float()) {
    const double number = value->get<double>();
    if (std::abs(number) < 1e15 && number == std::floor(number)) return static_cast<int64_t>(number);
  }
  unexpected(key, *value, "an integer");
}

void ConfigFields::unexpected(const char* key, const Json& value, const char* expected) const {
  std::string shown = value.dump(-1, ' ', true, Json::error_handler_t::replace);
  if (shown.size() > 60) shown = shown.substr(0, 57) + "...";
  fail("{}: {} is {}, but must be {}", where_, key, shown, expected);
}

std::vector<bool> layers_of_type(const ConfigFields& fields, const ModelConfig& config, const char* type,
                                 const char* other, const char* key) {
  const Json* types = fields.find(key);
  if (types == nullptr) return {};
  if (!types->is_array() || static_cast<int64_t>(types->size()) != config.num_layers)
    fail("{}: {} is not a list of {} names, one a layer", fields.where(), key, config.num_layers);
  std::vector<bool> layers;
  for (const Json& found : *types) {
    if (found != type && found != other)
      fail("{}: {} has {}; known are {} and {}", fields.where(), key,
           found.dump(-1, ' ', true, Json::error_handler_t::replace), other, type);
    layers.push_back(found == type);
  }
  return layers;
}

void read_sliding_window(const ConfigFields& fields, ModelConfig& config) {
  config.sliding_window = fields.integer("sliding_window", 0);
  if (config.sliding_window != 0) read_layer_types(fields, config);
}

void read_sliding_pattern(const ConfigFields& fields, ModelConfig& config, int64_t period) {
  config.sliding_window = fields.integer("sliding_window", 0);
  if (config.sliding_window == 0 || read_layer_types(fields, config)) return;
  slide_by_period(config, fields.integer("sliding_window_pattern", period));
}

void read_late_sliding_window(const ConfigFields& fields, ModelConfig& config) {
  if (!fields.flag("use_sliding_window", false)) return;
  config.sliding_window = fields.integer("sliding_window", 0);
  if (config.sliding_window == 0 || read_layer_types(fields, config)) return;
  const int64_t first = fields.integer("max_window_layers", 28);
  for (int64_t layer = 0; layer < config.num_layers; ++layer) config.sliding_layers.push_back(layer >= first);
}

ModelConfig read_config(const fs::path& config_json) {
  Json document = read_json(config_json);
  const std::string where = config_json.string();
  if (!document.is_object()) fail("{} is not a JSON object, so it is not a model's config", where);
  document = text_part(std::move(document));
  const ConfigFields fields(document, where);

  ModelConfig config;
  const Architecture& architecture = named_architecture(fields);
  for (const auto& [key, value] : architecture.defaults.items())
    if (!document.contains(key)) document[key] = value;
  config.architecture = architecture.model_type;
  check_activation(fields, architecture);
  read_sizes(fields, config);
  config.rms_norm_eps = fields.real("rms_norm_eps", 1e-6);
  config.tied_embeddings = fields.flag("tie_word_embeddings", false);
  read_rope(fields, architecture, config);
  check_config(config, where);
  if (architecture.read_json != nullptr) architecture.read_json(fields, config);
  if (architecture.complete != nullptr) architecture.complete(config);
  check_config(config, where);
  config.bos = token_id(fields, "bos_token_id", config.vocab_size);
  config.eos = token_id(fields, "eos_token_id", config.vocab_size);
  return config;
}

}  // namespace strata
