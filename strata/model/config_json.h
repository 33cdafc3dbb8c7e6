#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "strata/core/error.h"
#include "strata/core/json.h"
#include "strata/model/config.h"

namespace strata {

// The values of one JSON object, each checked for its kind; absent and null keys count as not given. Errors
// name the key, what it is and what was expected.
class ConfigFields {
 public:
  ConfigFields(const Json& object, std::string where) : object_(object), where_(std::move(where)) {}

  const Json* find(const char* key) const;  // null where it is not given
  bool has(const char* key) const { return find(key) != nullptr; }
  int64_t integer(const char* key) const;  // throws where it is not given
  int64_t integer(const char* key, int64_t otherwise) const;
  double real(const char* key, double otherwise) const;
  bool flag(const char* key, bool otherwise) const;
  std::string text(const char* key, std::string otherwise) const;
  std::vector<float> reals(const char* key) const;       // a list of numbers; throws where it is not given
  std::vector<int64_t> integers(const char* key) const;  // a list; empty where it is not given

  const std::string& where() const { return where_; }

 private:
  std::optional<int64_t> optional_integer(const char* key) const;
  [[noreturn]] void unexpected(const char* key, const Json& value, const char* expected) const;

  const Json& object_;
  std::string where_;
};

// Of a model that cannot be run here, since its architecture, its rope or its activation is not known. What
// its tensors are called and how large they are can be seen all the same.
class NotRunnable : public Error {
 public:
  explicit NotRunnable(const std::string& message) : Error(one_line(message)) {}
};

// A config.json. Throws NotRunnable, or another error where a value is not possible.
ModelConfig read_config(const std::filesystem::path& config_json);

// Whether each layer is of this type, of two that the list under `key` names; empty where there is no list.
// Throws where it has another length or names a type that is neither.
std::vector<bool> layers_of_type(const ConfigFields& fields, const ModelConfig& config, const char* type,
                                 const char* other, const char* key = "layer_types");

// For architectures whose layers all slide, or those that layer_types names.
void read_sliding_window(const ConfigFields& fields, ModelConfig& config);

// For those that slide but for every last layer of `period` (sliding_window_pattern), or as layer_types names
// them.
void read_sliding_pattern(const ConfigFields& fields, ModelConfig& config, int64_t period);

// For those that slide only where use_sliding_window is set, and then from layer max_window_layers on, or in
// the layers that layer_types names.
void read_late_sliding_window(const ConfigFields& fields, ModelConfig& config);

}  // namespace strata
