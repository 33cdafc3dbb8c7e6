#include "strata/cli/embedded.h"

#include <algorithm>

#include "strata/cli/all_commands.h"
#include "strata/core/error.h"
#include "strata/core/threads.h"

namespace strata::cli {

Json run_command(std::vector<std::string> arguments) {
  Program program;
  add_commands(program, all_commands());
  program.app.require_subcommand(1);
  std::reverse(arguments.begin(), arguments.end());  // as CLI11 takes them
  try {
    program.app.parse(arguments);
  } catch (const CLI::ParseError& error) {
    fail_usage("{}", error.what());
  }
  program.common.json = true;
  set_thread_count(program.common.threads);
  Json document;
  const JsonReceiver receiver(document);
  program.run();
  return document;
}

std::vector<CommandOption> options_of_command(const std::string& command) {
  Program program;
  add_commands(program, all_commands());
  std::vector<CommandOption> options;
  for (const CLI::Option* one : program.app.get_subcommand(command)->get_options()) {
    CommandOption option;
    option.is_argument = one->get_positional();
    option.name = option.is_argument ? one->get_name() : one->get_lnames().front();
    if (option.name.rfind("help", 0) == 0) continue;
    option.type = one->get_type_name();
    option.help = one->get_description();
    option.default_value = one->get_default_str();
    option.heading = one->get_group();
    option.is_flag = one->get_expected_max() == 0;
    option.several = one->get_expected_max() > 1;
    option.required = one->get_required();
    options.push_back(std::move(option));
  }
  return options;
}

}  // namespace strata::cli
