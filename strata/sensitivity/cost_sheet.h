#pragma once

#include <ATen/ATen.h>

#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "strata/calibration/result_cache.h"
#include "strata/sensitivity/method.h"

namespace strata {

// The costs of every (module, scheme) as a method measures them, one after the other; modules are those of
// the model's layers and the options' boundaries. What an earlier run left in options.cache is there from the
// start.
class CostSheet {
 public:
  // `settings` are whatever else the costs depend on, besides model, evidence, quantizer and seed: the values
  // of the method's own options. The evidence is copied.
  CostSheet(const Model& model, std::string method, const SensitivityOptions& options, Evidence evidence,
            const Json& settings = Json::object());

  const std::vector<Scheme>& schemes() const { return schemes_; }
  const std::vector<Module>& modules() const { return modules_; }  // the boundaries last

  // What is to be measured from now on, a module in a scheme (an index into schemes()); null for everything.
  using Wanted = std::function<bool(const Module& module, size_t scheme)>;
  void want(Wanted wanted) { wanted_ = std::move(wanted); }

  std::vector<size_t> missing(const Module& module) const;  // wanted indices into schemes() without a cost
  bool is_complete(int layer) const;
  bool is_complete() const;
  void set(const Module& module, size_t scheme, double cost);
  double cost(const Module& module, size_t scheme) const;  // throws where there is none

  // What is wanted and known, as JSON of bytes to hand to other ranks; and what those know and this one not.
  std::string known() const;
  void take(const std::string& known);

  // A module's weights, exact and in the schemes that are missing, or in these, one by one: [out, in] float
  // on the options' device.
  using SeeQuantized =
      std::function<void(size_t scheme, const at::Tensor& exact, const at::Tensor& quantized)>;
  void for_each_missing(const Module& module, const SeeQuantized& see) const;
  void for_each(const Module& module, const std::vector<size_t>& schemes, const SeeQuantized& see) const;

  // A score a module of the layers: its cost in the scheme with the fewest bits. Costs of the options'
  // schemes. Throws where a cost is missing.
  Scores scores() const;

 private:
  static std::string key(const Module& module, const Scheme& scheme);
  double cost(const Module& module, const Scheme& scheme) const;

  const Model& model_;
  std::string method_;
  const SensitivityOptions& options_;
  Evidence evidence_;
  std::vector<Scheme> schemes_;
  std::vector<Module> modules_;
  Wanted wanted_;
  ResultCache cache_;
};

// Whose weights in the schemes costs are measured on: that of the trials, or else the options' quantizer.
std::string quantizer_of_costs(const SensitivityOptions& options);

// A module's weight in a scheme, [out, in] float on the CPU.
at::Tensor quantized_weight(const at::Tensor& weight, const Scheme& scheme,
                            const QuantizerOptions& quantizer);

}  // namespace strata
