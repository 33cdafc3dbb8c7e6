#include "strata/cli/command.h"

#include <fmt/format.h>

#include <memory>

#include "strata/core/error.h"

namespace strata::cli {
namespace {

std::string default_text(const Option& option) {
  const Json value = option.value();
  if (value.is_string()) return value.get<std::string>();
  return value.is_number() ? value.dump() : "";
}

CLI::Option* add_to(CLI::App& app, const Option& option, const std::string& help,
                    std::function<void(const std::string&)> set) {
  const std::string name = (option.name == "output" ? "-o,--" : "--") + option.name;
  if (option.is_flag())
    return app.add_flag_function(
        name, [set](int64_t) { set(""); }, help);
  CLI::Option* added = option.several ? app.add_option_function<std::vector<std::string>>(
                                            name,
                                            [set](const auto& values) {
                                              for (const auto& value : values) set(value);
                                            },
                                            help)
                                      : app.add_option_function<std::string>(name, set, help);
  return added->type_name(option.type)->default_str(default_text(option));
}

const char* plural(ModelKind kind) {
  return kind == ModelKind::Onnx ? "ONNX models" : "language models";
}

}  // namespace

Command::Command(CLI::App& program, const std::string& name, const std::string& summary)
    : app_(program.add_subcommand(name, summary)) {
  app_->set_help_all_flag("--help-all", "show all options");
}

void Command::argument(const std::string& name, std::string& value, const std::string& type,
                       const std::string& help) {
  app_->add_option(name, value, help)->required()->type_name(type);
}

void Command::add(const std::string& heading, const Options& options, ModelKind kind) {
  for (const Option& option : options) {
    if (const auto found = entries_.find(option.name); found != entries_.end()) {
      found->second.join(option);
      if (found->second.kind != kind) found->second.kind = ModelKind::Any;
      continue;
    }
    const auto same = std::make_shared<Options>(1, option);
    CLI::Option* added = add_to(*app_, option, option.help, [same](const std::string& text) {
      for (const Option& one : *same) one.set(text);
    });
    added->group(kind == ModelKind::Onnx ? fmt::format("{}: {}", plural(kind), heading) : heading);
    entries_[option.name] = {added, kind, option.everyday,
                             [same](const Option& further) { same->push_back(further); }};
  }
}

void Command::require(const std::string& name) {
  entries_.at(name).option->required();
}

bool Command::given(const std::string& name) const {
  return entries_.at(name).option->count() > 0;
}

void Command::refuse_foreign_options(ModelKind kind, const std::string& model) const {
  for (const auto& [name, entry] : entries_)
    if (entry.option->count() > 0 && entry.kind != ModelKind::Any && entry.kind != kind)
      fail_usage("--{} is for {}, but {} is {}; leave it out ('strata {} --help-all' says what is for which)",
                 name, plural(entry.kind), model,
                 kind == ModelKind::Onnx ? "an ONNX model" : "a language model", app_->get_name());
}

void Command::hide_rare_options() {
  size_t hidden = 0;
  for (auto& [name, entry] : entries_) {
    entry.option->group(entry.everyday ? "Options" : "");
    hidden += entry.everyday ? 0 : 1;
    if (entry.everyday && entry.kind == ModelKind::Onnx)
      entry.option->description(entry.option->get_description() + " (ONNX models)");
  }
  if (hidden > 0)
    app_->footer(fmt::format("{} more options: strata {} --help-all", hidden, app_->get_name()));
}

void Command::run_with(std::function<void()> body) {
  app_->callback(std::move(body));
}

}  // namespace strata::cli
