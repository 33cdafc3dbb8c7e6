#pragma once

#include <CLI/CLI.hpp>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "strata/core/json.h"

namespace strata::cli {

// What every command understands.
struct CommonOptions {
  int threads = 0;
  uint64_t seed = 0;
  std::string device = "cpu";
  bool json = false, quiet = false;
};

// A command adds its options to the program and sets `run`, which main calls after parsing.
struct Program {
  CLI::App app;
  CommonOptions common;
  std::function<void()> run;
};

void add_inspect(Program& program);
void add_score(Program& program);
void add_allocate(Program& program);
void add_quantize(Program& program);
void add_eval(Program& program);
void add_compare(Program& program);
void add_recipe(Program& program);

// A subcommand with the common options; `body` runs when it is the one chosen.
CLI::App* add_command(Program& program, const std::string& name, const std::string& summary,
                      std::function<void()> body);

// Adds --device, --threads, --seed, ... in a group of their own.
void add_common_options(CLI::App& command, CommonOptions& options);

// Prints the one JSON document of --json on stdout.
void print_json(const Json& document);

// Refuses names of files that a command writes beside its main output (empty ones aside) where they would
// take the place of that output, of each other or of what the command reads.
void require_apart(const std::vector<std::string>& written, const std::string& output,
                   const std::vector<std::string>& read);

// "a,b,c" to its parts; empty parts are refused.
std::vector<std::string> split(const std::string& list);

}  // namespace strata::cli
