#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "strata/cli/command.h"
#include "strata/core/json.h"

namespace strata::cli {

// What every command understands.
struct CommonOptions {
  int threads = 0;
  uint64_t seed = 0;
  std::string device = "cpu";
  bool json = false, quiet = false;
};

// A command adds itself to the program and sets `run`, which is called after parsing.
struct Program {
  CLI::App app;
  CommonOptions common;
  std::vector<std::shared_ptr<Command>> commands;
  std::function<void()> run;
};

// What inspect does with an ONNX file, by its path.
using InspectNetwork = std::function<void(const std::string& model, const CommonOptions& common)>;

void add_inspect(Program& program, const InspectNetwork& inspect_network);
void add_score(Program& program);
void add_allocate(Program& program);
void add_frontier(Program& program);
void add_quantize(Program& program);
void add_eval(Program& program);
void add_verify(Program& program);
void add_compare(Program& program);
void add_recipe(Program& program);

// A command with its own values of `Arguments`, on which `body` runs when it is the one that was chosen.
template <class Arguments>
struct NewCommand {
  Command& command;
  Arguments& arguments;
};

template <class Arguments>
NewCommand<Arguments> add_command(Program& program, const std::string& name, const std::string& summary,
                                  void (*body)(Arguments&, const CommonOptions&, const Command&)) {
  const auto command = std::make_shared<Command>(program.app, name, summary);
  const auto arguments = std::make_shared<Arguments>();
  program.commands.push_back(command);
  command->run_with([&program, command = command.get(), arguments, body] {
    program.run = [&program, command, arguments, body] { body(*arguments, program.common, *command); };
  });
  return {*command, *arguments};
}

// The kind of MODEL, by its ending. Throws UsageError for options of the command that are for the other kind.
ModelKind kind_of_model(const Command& command, const std::string& model);

// Adds --device, --threads, --seed, ... under a heading of their own; every command has them.
void add_common_options(Command& command, CommonOptions& options);

// Options that the entries of a registry declare, each under the names of all that have it.
template <class Entry>
void add_declared(Command& command, const std::string& what, const std::vector<Entry>& entries,
                  OptionValues& values) {
  std::vector<std::pair<Option, std::string>> found;  // with the names of its users
  for (const Entry& entry : entries) {
    if (entry.options == nullptr) continue;
    for (const Option& option : entry.options(values)) {
      auto one = found.begin();
      while (one != found.end() && one->first.name != option.name) ++one;
      if (one != found.end())
        one->second += ", " + entry.name;
      else
        found.emplace_back(option, entry.name);
    }
  }
  for (const auto& [option, names] : found) command.add(what + " " + names, {option}, ModelKind::Language);
}

// "name: summary; name: summary" of a registry's entries, and "name, name", for help texts.
template <class Entry>
std::string summaries(const std::vector<Entry>& entries) {
  std::string text;
  for (const Entry& entry : entries)
    text += (text.empty() ? "" : "; ") + std::string(entry.name) + ": " + entry.summary;
  return text;
}

template <class Entry>
std::string names(const std::vector<Entry>& entries) {
  std::string text;
  for (const Entry& entry : entries) text += (text.empty() ? "" : ", ") + std::string(entry.name);
  return text;
}

// Prints the one JSON document of --json, an object, on stdout, with all notes of the command in `notes`.
void print_json(Json document);

// Refuses names of files that a command writes beside its main output (empty ones aside) where they would
// take the place of that output, of each other or of what the command reads.
void require_apart(const std::vector<std::string>& written, const std::string& output,
                   const std::vector<std::string>& read);

// "a,b,c" to its parts; empty parts are refused.
std::vector<std::string> split(const std::string& list);

}  // namespace strata::cli
