#include "strata/cli/budget.h"

#include "strata/cli/common.h"
#include "strata/core/size_option.h"

namespace strata::cli {
namespace {

Option bits(const std::string& name, std::optional<double>& value, const std::string& help) {
  Option option = positive(name, value, help);
  option.set = [name, &value](const std::string& text) {
    char* end = nullptr;
    const double number = std::strtod(text.c_str(), &end);
    if (text.empty() || *end != '\0' || !(number > 0 && number < 1e3))
      refuse_value(name, text, "a number of bits above 0");
    value = number;
  };
  return option;
}

}  // namespace

void add_budget(Command& command, Budget& budget, const std::string& what_size_counts,
                ModelKind kind_of_size) {
  const std::string heading = "Budget (all given limits hold together)";
  command.add(
      heading,
      {everyday(bits("bpw", budget.bits_per_weight, "stored bits a weight, scales and padding included")),
       bits("avg-bits", budget.average_code_bits, "average code bits, as papers count them")},
      ModelKind::Language);
  command.add(heading, {everyday(size("size", budget.bytes, what_size_counts + ", such as 4.2GiB"))},
              kind_of_size);
}

void add_allocation(Command& command, AllocatorOptions& allocator) {
  std::vector<std::string> known;
  for (const Allocator& one : allocators()) known.push_back(one.name);
  command.add(
      "Allocation",
      {word("allocator", allocator.name, known, summaries(allocators())),
       choice("ties", allocator.ties, {{"none", Ties::None}, {"fused", Ties::Fused}, {"layer", Ties::Layer}},
              "modules that share a scheme: none, fused ({q,k,v} and {gate,up}), layer")},
      ModelKind::Language);
  add_declared(command, "Allocator", allocators(), allocator.own);
}

}  // namespace strata::cli
