#include "strata/core/size_option.h"

#include <utility>

#include "strata/core/units.h"

namespace strata {

Option size(std::string name, std::optional<uint64_t>& value, std::string help) {
  Option option;
  option.name = std::move(name);
  option.type = "SIZE";
  option.help = std::move(help);
  option.set = [&value](const std::string& text) { value = parse_bytes(text); };
  option.value = [&value] { return value ? Json(format_bytes(*value)) : Json(); };
  return option;
}

}  // namespace strata
