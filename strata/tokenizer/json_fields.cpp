#include "strata/tokenizer/json_fields.h"

namespace strata {

const LargeJson& field(const LargeJson& object, const char* name) {
  static const LargeJson missing;
  if (!object.is_object()) return missing;
  const auto found = object.find(name);
  return found == object.end() ? missing : *found;
}

std::string text_of(const LargeJson& object, const char* name) {
  const LargeJson& value = field(object, name);
  return value.is_string() ? value.get<std::string>() : std::string();
}

bool flag_of(const LargeJson& object, const char* name, bool missing) {
  const LargeJson& value = field(object, name);
  return value.is_boolean() ? value.get<bool>() : missing;
}

}  // namespace strata
