#pragma once

#include <string>
#include <vector>

#include "strata/core/json.h"
#include "strata/core/progress.h"

// Commands inside another program, such as Python, which has no command line of its own for them.
namespace strata::cli {

// While this is there, the document that a command prints with --json goes into `document`, in this thread,
// with the notes of that time.
class JsonReceiver {
 public:
  explicit JsonReceiver(Json& document);
  ~JsonReceiver();
  JsonReceiver(const JsonReceiver&) = delete;
  JsonReceiver& operator=(const JsonReceiver&) = delete;

  void take(Json document);
  const Notes& notes() const { return notes_; }

 private:
  Json& document_;
  Notes notes_;
};

// Runs a command, such as {"allocate", "scores.json", "--bpw", "3"}: the document of --json. Throws what the
// command throws, and UsageError for arguments that it does not take.
Json run_command(std::vector<std::string> arguments);

// An option of a command as it was declared, or one of its arguments, which have a place and no dashes.
struct CommandOption {
  std::string name, type, help, default_value, heading;
  bool is_argument = false, is_flag = false, several = false, required = false;
};

std::vector<CommandOption> options_of_command(const std::string& command);

}  // namespace strata::cli
