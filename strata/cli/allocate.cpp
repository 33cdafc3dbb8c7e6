// strata allocate scores.json --bpw 3.0 -o plan.json: scores to a plan, without the model.
#include "strata/allocation/allocator.h"

#include <fmt/format.h>

#include "strata/cli/budget.h"
#include "strata/cli/common.h"
#include "strata/core/error.h"
#include "strata/core/units.h"
#include "strata/report/plan_chart.h"

namespace strata::cli {
namespace {

struct AllocateArguments {
  std::string scores, output, schemes;
  BudgetOptions budget;
  AllocationOptions allocation;
};

void run(const AllocateArguments& options, const CommonOptions& common) {
  require_apart({options.output}, "", {options.scores});
  const Scores scores = read_scores(options.scores);
  AllocatorOptions allocator = options.allocation.resolve();
  if (!options.schemes.empty()) allocator.schemes = parse_schemes(options.schemes);
  allocator.budget = options.budget.resolve();
  const Plan plan = allocate(modules_of(scores), scores, allocator);
  if (!options.output.empty()) write_plan(options.output, plan);
  if (common.json)
    print_json(to_json(plan));
  else
    fmt::print("{}\n{}", plan_chart(scores, plan), plan_summary(plan));
}

}  // namespace

void add_allocate(Program& program) {
  auto options = std::make_shared<AllocateArguments>();
  CLI::App* command = add_command(program, "allocate", "turn scores into a plan under a budget",
                                  [&program, options] { run(*options, program.common); });
  command->add_option("scores", options->scores, "a file written by strata score")
      ->required()
      ->type_name("FILE");
  command->add_option("-o,--output", options->output, "write the plan here")->type_name("FILE");
  command->add_option("--schemes", options->schemes,
                      "schemes to choose from, such as w2g64,w4g64 or gguf, affine, ladder; by default those "
                      "of the file's costs, for boost the papers' ladder");
  options->budget.add_to(*command, "stored bytes of the matrices");
  options->allocation.add_to(*command);
}

}  // namespace strata::cli
