#include "strata/core/options.h"

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <cstdlib>
#include <limits>

#include "strata/core/error.h"

namespace strata {
namespace {

Option make_option(std::string name, std::string type, std::string help) {
  Option option;
  option.name = std::move(name);
  option.type = std::move(type);
  option.help = std::move(help);
  return option;
}

// The whole text as a number, if it is one.
std::optional<double> real_number(const std::string& text) {
  char* end = nullptr;
  const double value = std::strtod(text.c_str(), &end);
  if (text.empty() || *end != '\0' || !std::isfinite(value)) return std::nullopt;
  return value;
}

std::optional<int64_t> whole_number(const std::string& text) {
  char* end = nullptr;
  errno = 0;
  const int64_t value = std::strtoll(text.c_str(), &end, 10);
  if (text.empty() || *end != '\0' || errno == ERANGE) return std::nullopt;
  return value;
}

template <class Whole>
Option whole_option(std::string name, Whole& value, Whole lowest, Whole highest, std::string help) {
  Option option = make_option(name, "INT", std::move(help));
  option.value = [&value] { return Json(value); };
  option.set = [=, &value, name = std::move(name)](const std::string& text) {
    const std::optional<int64_t> number = whole_number(text);
    if (!number || *number < lowest || *number > highest)
      refuse_value(name, text, fmt::format("a whole number from {} to {}", lowest, highest));
    value = static_cast<Whole>(*number);
  };
  return option;
}

double positive_number(const std::string& name, const std::string& text) {
  const std::optional<double> number = real_number(text);
  if (!number || !(*number > 0)) refuse_value(name, text, "a number above 0");
  return *number;
}

}  // namespace

Option number(std::string name, int& value, int lowest, int highest, std::string help) {
  return whole_option(std::move(name), value, lowest, highest, std::move(help));
}

Option number(std::string name, int64_t& value, int64_t lowest, int64_t highest, std::string help) {
  return whole_option(std::move(name), value, lowest, highest, std::move(help));
}

Option number(std::string name, uint64_t& value, std::string help) {
  Option option = make_option(name, "UINT", std::move(help));
  option.value = [&value] { return Json(value); };
  option.set = [&value, name = std::move(name)](const std::string& text) {
    char* end = nullptr;
    errno = 0;
    const uint64_t number = std::strtoull(text.c_str(), &end, 10);
    if (text.empty() || text[0] == '-' || *end != '\0' || errno == ERANGE)
      refuse_value(name, text, "a whole number of at least 0");
    value = number;
  };
  return option;
}

Option number(std::string name, double& value, double lowest, double highest, std::string help) {
  Option option = make_option(name, "FLOAT", std::move(help));
  option.value = [&value] { return Json(value); };
  option.set = [=, &value, name = std::move(name)](const std::string& text) {
    const std::optional<double> number = real_number(text);
    if (!number || *number < lowest || *number > highest)
      refuse_value(name, text, fmt::format("a number from {} to {}", lowest, highest));
    value = *number;
  };
  return option;
}

Option positive(std::string name, double& value, std::string help) {
  Option option = make_option(name, "FLOAT", std::move(help));
  option.value = [&value] { return Json(value); };
  option.set = [&value, name = std::move(name)](const std::string& text) {
    value = positive_number(name, text);
  };
  return option;
}

Option positive(std::string name, std::optional<double>& value, std::string help) {
  Option option = make_option(name, "FLOAT", std::move(help));
  option.value = [&value] { return value ? Json(*value) : Json(); };
  option.set = [&value, name = std::move(name)](const std::string& text) {
    value = positive_number(name, text);
  };
  return option;
}

Option numbers(std::string name, std::vector<double>& value, std::string type, std::string help) {
  Option option = make_option(name, std::move(type), std::move(help));
  option.value = [&value] { return Json(value); };
  option.set = [&value, name = std::move(name)](const std::string& text) {
    std::vector<double> list;
    for (size_t begin = 0; begin <= text.size();) {
      const size_t comma = std::min(text.find(',', begin), text.size());
      const std::optional<double> number = real_number(text.substr(begin, comma - begin));
      if (!number) refuse_value(name, text, "a list of numbers, separated by single commas,");
      list.push_back(*number);
      begin = comma + 1;
    }
    value = std::move(list);
  };
  return option;
}

Option text(std::string name, std::string& value, std::string type, std::string help) {
  Option option = make_option(std::move(name), std::move(type), std::move(help));
  option.value = [&value] { return Json(value); };
  option.set = [&value](const std::string& given) { value = given; };
  return option;
}

Option path(std::string name, std::filesystem::path& value, std::string type, std::string help) {
  Option option = make_option(std::move(name), std::move(type), std::move(help));
  option.value = [&value] { return Json(value.string()); };
  option.set = [&value](const std::string& given) { value = given; };
  return option;
}

Option paths(std::string name, std::vector<std::filesystem::path>& value, std::string type,
             std::string help) {
  Option option = make_option(std::move(name), std::move(type), std::move(help));
  option.several = true;
  option.value = [&value] {
    Json list = Json::array();
    for (const std::filesystem::path& one : value) list.push_back(one.string());
    return list;
  };
  option.set = [&value](const std::string& given) { value.emplace_back(given); };
  return option;
}

Option flag(std::string name, bool& value, std::string help, bool when_given) {
  Option option = make_option(std::move(name), "", std::move(help));
  option.value = [&value, when_given] { return Json(value == when_given); };
  option.set = [&value, when_given](const std::string&) { value = when_given; };
  return option;
}

Option word(std::string name, std::string& value, std::vector<std::string> words, std::string help) {
  std::vector<std::pair<std::string, std::string>> values;
  for (const std::string& one : words) values.emplace_back(one, one);
  return choice(std::move(name), value, std::move(values), std::move(help));
}

Option everyday(Option option) {
  option.everyday = true;
  return option;
}

Json values_of(const Options& options) {
  Json values = Json::object();
  for (const Option& option : options) values[option.name] = option.value();
  return values;
}

Json changed_values(DeclareOptions declare, OptionValues values) {
  Json changed = Json::object();
  if (declare == nullptr) return changed;
  OptionValues defaults;
  const Json usual = values_of(declare(defaults)), now = values_of(declare(values));
  for (const auto& [name, value] : now.items())
    if (value != usual.at(name)) changed[name] = value;
  return changed;
}

void refuse_value(const std::string& name, const std::string& text, const std::string& expected) {
  fail_usage("--{} {}: {} was expected", name, text, expected);
}

}  // namespace strata
