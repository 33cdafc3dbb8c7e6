#pragma once

#include <CLI/CLI.hpp>
#include <functional>
#include <map>
#include <string>

#include "strata/core/options.h"

namespace strata::cli {

// Which models an option is for.
enum class ModelKind { Any, Language, Onnx };

// A command of the program, and its options by name.
class Command {
 public:
  Command(CLI::App& program, const std::string& name, const std::string& summary);

  // The model, or whatever else the command works on.
  void argument(const std::string& name, std::string& value, const std::string& type,
                const std::string& help);

  // Adds options under a heading of --help-all. Where one of the same name is there, it sets both.
  void add(const std::string& heading, const Options& options, ModelKind kind = ModelKind::Any);

  void require(const std::string& name);

  bool given(const std::string& name) const;  // on the command line

  // Throws UsageError for an option that was given and is for models of the other kind; `model` is named.
  void refuse_foreign_options(ModelKind kind, const std::string& model) const;

  // For --help: leaves the options of every day, and says where the others are.
  void hide_rare_options();

  void run_with(std::function<void()> body);  // when the command is the one that was chosen

 private:
  struct Entry {
    CLI::Option* option;
    ModelKind kind;
    bool everyday;
    std::function<void(const Option&)> join;  // a further option of this name
  };

  CLI::App* app_;
  std::map<std::string, Entry> entries_;
};

}  // namespace strata::cli
