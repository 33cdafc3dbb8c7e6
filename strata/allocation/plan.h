#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "strata/core/json.h"
#include "strata/quantization/scheme.h"

namespace strata {

struct Assignment {
  std::string tensor;
  int64_t rows = 0, cols = 0;
  Scheme scheme;
};

// The file contract `plan.json`: a scheme for every module.
struct Plan {
  std::string model, method, allocator;
  std::string budget;          // as asked for: "3.0 bpw", "12.0 MiB"
  double bits_per_weight = 0;  // stored bits of the assigned matrices over their weights
  double average_code_bits = 0;
  uint64_t bytes = 0;  // stored bytes of the assigned matrices
  double cost = 0;
  std::optional<double> gap;  // relative optimality gap that the solver proved
  std::vector<Assignment> assignments;

  void sum_up();  // fills bits_per_weight, average_code_bits and bytes from the assignments
};

Json to_json(const Plan& plan);
Plan plan_from_json(const Json& document, const std::string& where);
Plan read_plan(const std::filesystem::path& path);
void write_plan(const std::filesystem::path& path, const Plan& plan);

}  // namespace strata
