#include "strata/allocation/fields.h"

#include <cmath>
#include <utility>

#include "strata/core/error.h"

namespace strata {
namespace {

// What was found, short enough for a sentence.
std::string shown(const Json& value) {
  std::string text = value.dump(-1, ' ', true, Json::error_handler_t::replace);
  if (text.size() > 40) text = text.substr(0, 37) + "...";
  return text;
}

}  // namespace

Fields::Fields(const Json& object, std::string where) : object_(&object), where_(std::move(where)) {
  if (!object.is_object()) fail("{}: found {}, expected an object", where_, shown(object));
}

bool Fields::has(const char* key) const {
  const auto found = object_->find(key);
  return found != object_->end() && !found->is_null();
}

const Json& Fields::value(const char* key) const {
  const auto found = object_->find(key);
  if (found == object_->end()) fail("{}: the field \"{}\" is missing", where_, key);
  return *found;
}

std::string Fields::text(const char* key) const {
  const Json& found = value(key);
  if (!found.is_string() || found.get_ref<const std::string&>().empty())
    fail("{}: \"{}\" is {}, expected a text that is not empty", where_, key, shown(found));
  return found.get<std::string>();
}

std::string Fields::text_or_empty(const char* key) const {
  if (!has(key)) return {};
  const Json& found = value(key);
  if (!found.is_string()) fail("{}: \"{}\" is {}, expected a text or null", where_, key, shown(found));
  return found.get<std::string>();
}

int64_t Fields::whole(const char* key, int64_t smallest, int64_t largest) const {
  const Json& found = value(key);
  const bool fits_signed = found.is_number_integer() &&
                           (!found.is_number_unsigned() || found.get<uint64_t>() <= uint64_t{INT64_MAX});
  if (!fits_signed || found.get<int64_t>() < smallest || found.get<int64_t>() > largest)
    fail("{}: \"{}\" is {}, expected a whole number from {} to {}", where_, key, shown(found), smallest,
         largest);
  return found.get<int64_t>();
}

double Fields::finite(const char* key) const {
  const Json& found = value(key);
  if (!found.is_number() || !(std::abs(found.get<double>()) <= kLargestNumber))
    fail("{}: \"{}\" is {}, expected a number of at most {:g} in size", where_, key, shown(found),
         kLargestNumber);
  return found.get<double>();
}

const Json& Fields::list(const char* key) const {
  const Json& found = value(key);
  if (!found.is_array()) fail("{}: \"{}\" is {}, expected a list", where_, key, shown(found));
  return found;
}

std::pair<std::string, std::string> Fields::pair(const char* key) const {
  const Json& found = value(key);
  const auto is_text = [](const Json& part) {
    return part.is_string() && !part.get_ref<const std::string&>().empty();
  };
  if (!found.is_array() || found.size() != 2 || !is_text(found[0]) || !is_text(found[1]))
    fail("{}: \"{}\" is {}, expected a list of two texts", where_, key, shown(found));
  return {found[0].get<std::string>(), found[1].get<std::string>()};
}

void Fields::shape(const char* key, int64_t& rows, int64_t& cols) const {
  const Json& found = value(key);
  const auto dimension = [&](size_t i) -> int64_t {
    const Json& size = found[i];
    if (!size.is_number_integer()) return 0;
    if (size.is_number_unsigned() && size.get<uint64_t>() > static_cast<uint64_t>(kMostWeights)) return 0;
    return size.get<int64_t>();
  };
  const bool is_pair = found.is_array() && found.size() == 2;
  rows = is_pair ? dimension(0) : 0;
  cols = is_pair ? dimension(1) : 0;
  if (rows < 1 || cols < 1 || rows > kMostWeights / cols)
    fail("{}: \"{}\" is {}, expected [out_features, in_features] with at most 2^38 weights", where_, key,
         shown(found));
}

Fields open_document(const Json& document, const std::string& where, const std::string& format) {
  if (!document.is_object() || !document.contains("format"))
    fail("{}: this is not a {} file, since it has no \"format\"", where, format);
  const Fields fields(document, where);
  const std::string found = fields.text("format");
  if (found != format) fail("{}: this is a {} file, expected {}", where, found, format);
  fields.whole("version", 1, 1);
  return fields;
}

}  // namespace strata
