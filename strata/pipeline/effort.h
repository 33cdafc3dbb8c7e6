#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace strata {

// How much work a file may cost, and what "auto" stands for then.
struct Effort {
  std::string name;
  std::string summary;            // one line, for --help
  std::string method, quantizer;  // as --method and --quantizer take them
  int64_t tokens = 0;             // that it reads where nobody says how many; 0: none
  bool tunes = false;             // end to end
};

// All efforts, the least first.
const std::vector<Effort>& efforts();

// The effort of this name; throws UsageError listing those there are. "auto" is standard, and quick for a
// model that cannot be run.
const Effort& find_effort(std::string_view name, bool runnable);

// A line each, for --help.
std::string effort_help();

}  // namespace strata
