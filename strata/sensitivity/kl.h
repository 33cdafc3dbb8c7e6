#pragma once

#include <ATen/ATen.h>

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>

#include "strata/sensitivity/method.h"

namespace strata {

struct KlOptions {
  int64_t tokens = 1024;              // of the calibration's, in whole blocks
  at::ScalarType dtype = at::kFloat;  // or at::kBFloat16: faster on a GPU, with a floor of noise
  // What is measured where budgets are known: all that they can reach (pipeline/reachable_costs.h), or
  // everything.
  enum class Table { Reachable, Full } table = Table::Reachable;
  // Whose weights in the schemes are measured: those that the quantizer of the plan would leave
  // (SensitivityOptions::trials), or those rounded to nearest.
  enum class Weights { Quantizer, Nearest } weights = Weights::Quantizer;
  // Bytes that weights and hidden states may take where they are kept from layer to layer, on the device;
  // nothing: three quarters of what is free there. Costs do not depend on it.
  std::optional<uint64_t> memory;
};

// The evidence with the first tokens alone, as many as the method kl looks at.
Evidence evidence_of_kl(const SensitivityOptions& options, const Evidence& evidence);

// The mean over calibration positions of KL(p || q), where p is the model's next-token distribution and q
// that of the model with one matrix in one scheme. What an earlier run left in options.cache is found there.
class KlMeasurement {
 public:
  // `evidence` is as evidence_of_kl() gives it. Model and options must outlive this.
  KlMeasurement(const Model& model, const SensitivityOptions& options, const Evidence& evidence);
  ~KlMeasurement();

  // Indices into options.schemes, by tensor.
  using Pairs = std::map<std::string, std::set<size_t>>;

  // Measures these, those that were measured before aside. The model's weights stay in memory until unload().
  void measure(const Pairs& pairs);
  void measure_all();
  void unload();

  const std::vector<Module>& modules() const;              // of the layers, and the options' boundaries
  double cost(const Module& module, size_t scheme) const;  // throws where it was not measured
  Scores scores() const;                                   // of all pairs; throws where one is missing

 private:
  class State;
  std::unique_ptr<State> state_;
};

}  // namespace strata
