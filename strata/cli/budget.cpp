#include "strata/cli/budget.h"

#include "strata/core/error.h"
#include "strata/core/units.h"

namespace strata::cli {

void BudgetOptions::add_to(CLI::App& command, const std::string& what_size_counts) {
  const std::string group = "Budget (all given limits hold together)";
  command.add_option("--bpw", bpw, "stored bits a weight, scales and padding included")->group(group);
  command.add_option("--avg-bits", average_code_bits, "average code bits, as papers count them")
      ->group(group);
  command.add_option("--size", size, what_size_counts + ", such as 4.2GiB")->group(group);
}

Budget BudgetOptions::resolve() const {
  const auto positive = [](const std::optional<double>& value, const char* option) {
    if (value && !(*value > 0 && *value < 1e3))
      fail_usage("{} {} is not a number of bits; give one above 0", option, *value);
  };
  positive(bpw, "--bpw");
  positive(average_code_bits, "--avg-bits");
  Budget budget;
  budget.bits_per_weight = bpw;
  budget.average_code_bits = average_code_bits;
  if (!size.empty()) budget.bytes = parse_bytes(size);
  return budget;
}

void AllocationOptions::add_to(CLI::App& command) {
  const std::string group = "Allocation";
  command
      .add_option(
          "--allocator", allocator,
          "exact: least total cost by an integer program; quadratic: the same with the costs that pairs of "
          "modules have together; rank: two schemes by score; boost: the papers' outlier rule; uniform")
      ->check(CLI::IsMember(allocator_names()))
      ->capture_default_str()
      ->group(group);
  command
      .add_option("--ties", ties, "modules that share a scheme: none, fused ({q,k,v} and {gate,up}), layer")
      ->check(CLI::IsMember({"none", "fused", "layer"}))
      ->capture_default_str()
      ->group(group);
  command
      .add_option("--interactions", interactions,
                  "quadratic: on, or off to leave out what pairs of modules cost together")
      ->check(CLI::IsMember({"on", "off"}))
      ->capture_default_str()
      ->group(group);
  command.add_option("--gap", gap, "exact, quadratic: optimality gap to prove")
      ->check(CLI::Range(0.0, 1.0))
      ->capture_default_str()
      ->group(group);
  command.add_option("--time-limit", seconds, "exact, quadratic: seconds for the solver")
      ->check(CLI::PositiveNumber)
      ->capture_default_str()
      ->group(group);
  command
      .add_option("--differences", differences,
                  "boost: subtract (KurtBoost) or divide (SensiBoost) neighbouring scores")
      ->check(CLI::IsMember({"subtract", "divide"}))
      ->capture_default_str()
      ->group(group);
  command.add_option("--base", base, "boost: rung of the ladder to start from")
      ->capture_default_str()
      ->group(group);
  command.add_option("--stop", stop, "boost: rungs a chosen module climbs")
      ->check(CLI::Range(1, 12))
      ->capture_default_str()
      ->group(group);
  command.add_option("--top", top, "boost: outliers kept a role; 0 = all")
      ->check(CLI::Range(0, 10000))
      ->capture_default_str()
      ->group(group);
  command
      .add_flag("--rebase", rebase, "boost: lower the base so that base and boosts together meet the budget")
      ->group(group);
}

AllocatorOptions AllocationOptions::resolve() const {
  AllocatorOptions options;
  options.name = allocator;
  options.ties = parse_ties(ties);
  options.relative_gap = gap;
  options.seconds = seconds;
  options.interactions = parse_interactions(interactions);
  options.differences = parse_differences(differences);
  options.base = base;
  options.stop = stop;
  options.top = top;
  options.rebase = rebase;
  return options;
}

}  // namespace strata::cli
