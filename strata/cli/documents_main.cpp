// strata_documents FOLDER: writes the man page strata.1 and bash's completion of strata from the declared
// options.
#include <fmt/format.h>

#include <filesystem>
#include <string>
#include <vector>

#include "strata/cli/all_commands.h"
#include "strata/cli/embedded.h"
#include "strata/core/file.h"

namespace strata::cli {
namespace {

struct NamedCommand {
  std::string name, summary;
  std::vector<CommandOption> options;
};

std::vector<NamedCommand> named_commands() {
  Program program;
  add_commands(program, all_commands());
  std::vector<NamedCommand> commands;
  for (const CLI::App* one : program.app.get_subcommands({}))
    commands.push_back({one->get_name(), one->get_description(), options_of_command(one->get_name())});
  return commands;
}

// Text that troff takes for nothing else.
std::string plain(const std::string& text) {
  std::string out;
  for (const char c : text) {
    if (c == '\\') {
      out += "\\e";
    } else if (c == '-') {
      out += "\\-";
    } else if (c == '\'' || c == '.') {
      out += "\\&";
      out += c;
    } else {
      out += c;
    }
  }
  return out;
}

std::string man_page(const std::vector<NamedCommand>& commands) {
  std::string page =
      ".TH STRATA 1 \"\" \"strata " STRATA_VERSION
      "\" \"\"\n.SH NAME\nstrata \\- layer\\-sensitive mixed\\-precision quantization\n.SH SYNOPSIS\n";
  for (const NamedCommand& command : commands) {
    page += ".B strata " + plain(command.name) + "\n";
    for (const CommandOption& option : command.options)
      if (option.is_argument) page += ".I " + plain(option.type) + "\n";
    page += "[options]\n.br\n";
  }
  page +=
      ".SH DESCRIPTION\nstrata finds out which layers of a trained network suffer from few bits, spends a "
      "memory "
      "budget where it matters most, and writes a file that real runtimes load, with proof of what was "
      "lost.\n";
  for (const NamedCommand& command : commands) {
    page += fmt::format(".SH STRATA {}\n{}.\n", plain(command.name), plain(command.summary));
    std::string heading;
    for (const CommandOption& option : command.options) {
      if (option.is_argument) continue;
      if (option.heading != heading) page += ".SS " + plain(heading = option.heading) + "\n";
      page += fmt::format(
          ".TP\n.B \\-\\-{}{}{}\n{}\n", plain(option.name), option.is_flag ? "" : " " + plain(option.type),
          option.default_value.empty() ? "" : " (" + plain(option.default_value) + ")", plain(option.help));
    }
  }
  return page;
}

std::string bash_completion(const std::vector<NamedCommand>& commands) {
  std::string names, cases;
  for (const NamedCommand& command : commands) {
    names += command.name + " ";
    std::string options;
    for (const CommandOption& option : command.options)
      if (!option.is_argument) options += "--" + option.name + " ";
    cases += fmt::format("    {}) options=\"{}--help --help-all\" ;;\n", command.name, options);
  }
  return fmt::format(
      "# Completes the command line of strata in bash: commands, their options, and files.\n_strata() {{\n"
      "  local word=${{COMP_WORDS[COMP_CWORD]}} options=\"\"\n"
      "  if [ \"$COMP_CWORD\" -eq 1 ]; then\n"
      "    COMPREPLY=($(compgen -W \"{}--help --version\" -- \"$word\"))\n    return\n  fi\n"
      "  case ${{COMP_WORDS[1]}} in\n{}  esac\n"
      "  case $word in\n    -*) COMPREPLY=($(compgen -W \"$options\" -- \"$word\")) ;;\n"
      "    *) COMPREPLY=($(compgen -f -- \"$word\")) ;;\n  esac\n}}\ncomplete -o filenames -F _strata "
      "strata\n",
      names, cases);
}

}  // namespace
}  // namespace strata::cli

int main(int, char** argv) {
  using namespace strata;
  const std::filesystem::path folder = argv[1];
  const std::vector<cli::NamedCommand> commands = cli::named_commands();
  write_text(folder / "strata.1", cli::man_page(commands));
  write_text(folder / "strata.bash", cli::bash_completion(commands));
}
