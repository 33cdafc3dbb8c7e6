#pragma once

#include <any>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <typeindex>
#include <utility>
#include <vector>

#include "strata/core/json.h"

namespace strata {

// An option of a method, a quantizer, ...: declared once, beside the code that it changes, over a member of a
// plain struct. The command line, help texts, JSON and the keys of caches are made from its declaration.
struct Option {
  std::string name;  // "kl-tokens": --kl-tokens on the command line and the key in JSON
  std::string help;  // what it does, for --help
  std::string type;  // of the value, for --help: "INT", "{on,off}", "FILE"; empty for a flag
  // Reads the member from text (a flag's is empty); throws UsageError naming option, text and what was
  // expected. One that takes several values is called for each.
  std::function<void(const std::string& text)> set;
  std::function<Json()> value;  // of the member now
  bool everyday = false;        // among those that --help shows; --help-all shows all
  bool several = false;         // takes any number of values

  bool is_flag() const { return type.empty(); }
};

using Options = std::vector<Option>;

// Declarations over a member: `value` must outlive the option. Bounds are part of the range.
Option number(std::string name, int& value, int lowest, int highest, std::string help);
Option number(std::string name, int64_t& value, int64_t lowest, int64_t highest, std::string help);
Option number(std::string name, uint64_t& value, std::string help);
Option number(std::string name, double& value, double lowest, double highest, std::string help);
Option positive(std::string name, double& value, std::string help);
Option positive(std::string name, std::optional<double>& value, std::string help);
Option numbers(std::string name, std::vector<double>& value, std::string type, std::string help);
Option text(std::string name, std::string& value, std::string type, std::string help);
Option path(std::string name, std::filesystem::path& value, std::string type, std::string help);
Option paths(std::string name, std::vector<std::filesystem::path>& value, std::string type, std::string help);
Option flag(std::string name, bool& value, std::string help, bool when_given = true);
Option word(std::string name, std::string& value, std::vector<std::string> words, std::string help);

// One of several values, each with its name.
template <class Value>
Option choice(std::string name, Value& value, std::vector<std::pair<std::string, Value>> values,
              std::string help);

// The same, shown by --help too.
Option everyday(Option option);

// The values by name: {"kl-tokens": 2048, "kl-precision": "float32"}.
Json values_of(const Options& options);

// Structs of options, one of every type that was asked for, each with its defaults until it is changed.
class OptionValues {
 public:
  template <class Struct>
  Struct& get() {
    std::any& held = structs_[typeid(Struct)];
    if (!held.has_value()) held = Struct();
    return *std::any_cast<Struct>(&held);
  }

  template <class Struct>
  const Struct& get() const {
    static const Struct defaults;
    const auto found = structs_.find(typeid(Struct));
    return found == structs_.end() ? defaults : *std::any_cast<Struct>(&found->second);
  }

 private:
  std::map<std::type_index, std::any> structs_;
};

// How a method, a quantizer, ... declares the options of its struct among these; null where it has none.
using DeclareOptions = Options (*)(OptionValues& values);

// The values that are not the defaults: what tells results apart, now and when further options are added.
Json changed_values(DeclareOptions declare, OptionValues values);

// Throws the UsageError of a value that an option does not take: "--NAME TEXT: EXPECTED was expected".
[[noreturn]] void refuse_value(const std::string& name, const std::string& text, const std::string& expected);

template <class Value>
Option choice(std::string name, Value& value, std::vector<std::pair<std::string, Value>> values,
              std::string help) {
  Option option;
  option.name = name;
  option.help = std::move(help);
  for (const auto& [word, meaning] : values) option.type += (option.type.empty() ? "{" : ",") + word;
  option.type += "}";
  option.value = [&value, values] {
    for (const auto& [word, meaning] : values)
      if (meaning == value) return Json(word);
    return Json();
  };
  option.set = [&value, name = std::move(name), values = std::move(values)](const std::string& text) {
    std::string words;
    for (const auto& [word, meaning] : values) {
      if (word == text) {
        value = meaning;
        return;
      }
      words += (words.empty() ? "" : " or ") + word;
    }
    refuse_value(name, text, words);
  };
  return option;
}

}  // namespace strata
