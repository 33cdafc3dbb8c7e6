// Parses the command line, runs one command, turns every error into one sentence and an exit code.
#include "strata/cli/program.h"

#include <fmt/format.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <new>
#include <string>
#include <thread>

#include "strata/core/error.h"
#include "strata/core/interrupt.h"
#include "strata/core/mapped_files.h"
#include "strata/core/progress.h"
#include "strata/core/ranks.h"
#include "strata/core/threads.h"

namespace strata::cli {
namespace {

constexpr const char* kSummary =
    "strata finds out which layers of a trained network suffer from few bits, spends a memory budget where "
    "it\n"
    "matters most, and writes a file that real runtimes load, with proof of what was lost.";

constexpr const char* kFooter =
    "Example:  strata quantize MODEL --bpw 3.0 -o model.gguf --text sample.txt\n"
    "MODEL is a Hugging Face directory, a .safetensors file beside its config.json, a .gguf file, or an "
    ".onnx file.\n"
    "'strata COMMAND --help' shows a command's options of every day, --help-all shows all.\n"
    "Exit codes: 0 done, 1 the work failed, 2 the command line was wrong.";

// LibTorch's messages carry a stack trace behind their first line.
std::string first_line(const std::string& text) {
  return text.substr(0, text.find('\n'));
}

// CLI11 would only say that a command is required.
void refuse_unknown_command(const CLI::App& app, int argc, char** argv) {
  if (argc < 2 || argv[1][0] == '-') return;
  std::string known;
  for (const CLI::App* command : app.get_subcommands({})) {
    if (command->get_name() == argv[1]) return;
    known += (known.empty() ? "" : ", ") + command->get_name();
  }
  fail_usage("'{}' is not a command; known are {}", argv[1], known);
}

// What several ranks stumble over is said once: by rank 0, which ends the others while they wait here.
int report(const std::string& message, int code) {
  if (!is_first_rank()) std::this_thread::sleep_for(std::chrono::seconds(2));
  fmt::print(stderr, "strata: {}{}\n", is_first_rank() ? "" : fmt::format("rank {}: ", rank()), message);
  stop_other_ranks(code);
  return code;
}

// Commands whose work ranks share; all others are done by rank 0.
bool goes_by_ranks(const CLI::App& app) {
  for (const char* name : {"score", "quantize", "compare", "eval"})
    if (app.got_subcommand(name)) return true;
  return false;
}

int run(const std::vector<AddCommand>& commands, int argc, char** argv) {
  if (!is_first_rank() && std::freopen("/dev/null", "w", stdout) == nullptr)
    fail("/dev/null cannot be opened");
  Program program;
  program.app.name("strata");
  program.app.description(kSummary);
  program.app.footer(kFooter);
  program.app.set_version_flag("--version", "strata " STRATA_VERSION);
  program.app.require_subcommand(1);
  program.app.get_formatter()->column_width(34);
  add_commands(program, commands);

  refuse_unknown_command(program.app, argc, argv);
  try {
    program.app.parse(argc, argv);
  } catch (const CLI::Success& request) {  // --help, --help-all, --version
    if (request.get_name() == "CallForHelp")
      for (const auto& command : program.commands) command->hide_rare_options();
    return program.app.exit(request);
  } catch (const CLI::ParseError& error) {
    return report(fmt::format("{}; see 'strata --help'", first_line(error.what())), 2);
  }
  if (!is_first_rank() && !goes_by_ranks(program.app)) return 0;
  set_thread_count(program.common.threads);
  if (program.common.quiet || program.common.json || !is_first_rank())
    set_progress_style(ProgressStyle::Quiet);
  program.run();
  if (std::fflush(stdout) != 0) fail("the results could not be written to standard output");
  return 0;
}

}  // namespace

void add_commands(Program& program, const std::vector<AddCommand>& commands) {
  for (const AddCommand& add : commands) add(program);
  for (const auto& command : program.commands) add_common_options(*command, program.common);
}

int run_program(const std::vector<AddCommand>& commands, int argc, char** argv) {
  catch_interrupts();
  report_lost_pages();
  try {
    return run(commands, argc, argv);
  } catch (const Interrupted& error) {
    if (rank_count() > 1) std::_Exit(1);  // the launcher ends all ranks, and says so
    return report(error.what(), 1);
  } catch (const UsageError& error) {
    return report(error.what(), 2);
  } catch (const Error& error) {
    return report(error.what(), 1);
  } catch (const std::bad_alloc&) {
    return report("out of memory; try a smaller batch or fewer threads", 1);
  } catch (const std::exception& error) {
    return report(first_line(error.what()), 1);
  }
}

}  // namespace strata::cli
