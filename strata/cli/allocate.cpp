// strata allocate scores.json --bpw 3.0 -o plan.json: scores to a plan, without the model.
#include "strata/allocation/allocator.h"

#include <fmt/format.h>

#include "strata/cli/budget.h"
#include "strata/cli/common.h"
#include "strata/core/progress.h"
#include "strata/report/plan_chart.h"

namespace strata::cli {
namespace {

struct AllocateArguments {
  std::string scores, output, schemes;
  AllocatorOptions allocator;
};

void run(AllocateArguments& options, const CommonOptions& common, const Command&) {
  require_apart({options.output}, "", {options.scores});
  const Scores scores = read_scores(options.scores);
  AllocatorOptions& allocator = options.allocator;
  if (!options.schemes.empty()) allocator.schemes = parse_schemes(options.schemes);
  if (allocator.budget.bytes && find_allocator(allocator.name).weighs_costs)
    allocator.boundaries = scores.boundaries;
  Plan plan = allocate(modules_of(scores), scores, allocator);
  if (const std::string others = name_stored_schemes(plan); !others.empty()) show_note(others);
  if (!options.output.empty()) write_plan(options.output, plan);
  if (common.json)
    print_json(to_json(plan));
  else
    fmt::print("{}\n{}", plan_chart(scores, plan), plan_summary(plan));
}

}  // namespace

void add_allocate(Program& program) {
  auto [command, options] =
      add_command<AllocateArguments>(program, "allocate", "turn scores into a plan under a budget", run);
  command.argument("scores", options.scores, "FILE", "a file written by strata score");
  command.add(
      "Plan",
      {everyday(text("output", options.output, "FILE", "write the plan here")),
       everyday(text("schemes", options.schemes, "LIST",
                     "schemes to choose from, such as w2g64,w4g64 or gguf, affine, ladder; by default "
                     "those of the file's costs, for boost the papers' ladder"))});
  add_budget(command, options.allocator.budget,
             "stored bytes of the matrices, embedding and head included where the file has costs of "
             "them");
  add_allocation(command, options.allocator);
}

}  // namespace strata::cli
