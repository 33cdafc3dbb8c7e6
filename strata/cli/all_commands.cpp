#include "strata/cli/all_commands.h"

#include "strata/cli/vision.h"

namespace strata::cli {

std::vector<AddCommand> all_commands() {
  return {[](Program& program) { add_inspect(program, inspect_vision); },
          add_score,
          add_allocate,
          add_frontier,
          add_quantize,
          add_eval,
          add_verify,
          add_compare,
          add_recipe};
}

}  // namespace strata::cli
