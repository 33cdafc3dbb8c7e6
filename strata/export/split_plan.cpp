#include "strata/export/split_plan.h"

#include <utility>

#include "strata/core/error.h"
#include "strata/model/layout.h"

namespace strata {
namespace {

// Hands out the matrices of what another quantizer makes as stacks.
class SplitQuantizer : public CalibratedQuantizer {
 public:
  SplitQuantizer(const Model& model, std::shared_ptr<CalibratedQuantizer> stacks)
      : stacks_(std::move(stacks)) {
    for (const Module& module : model.modules)
      for (int64_t expert = 0; expert < module.experts; ++expert)
        stack_of_[expert_name(module.tensor, expert)] = module.tensor;
  }

  void begin(const std::map<std::string, Scheme>& schemes) override {
    std::map<std::string, Scheme> of_stacks;
    for (const auto& [tensor, scheme] : schemes) of_stacks.emplace(stack_of(tensor), scheme);
    stacks_->begin(of_stacks);
    finished_.clear();
  }

  QuantizedMatrix take(const std::string& tensor) override {
    const std::string& stack = stack_of(tensor);
    if (stack == tensor) return stacks_->take(tensor);
    if (finished_.count(tensor) == 0) {
      QuantizedMatrix taken = stacks_->take(stack);
      for (size_t expert = 0; expert < taken.parts.size(); ++expert)
        finished_[expert_name(stack, static_cast<int64_t>(expert))] = std::move(taken.parts[expert]);
    }
    const auto found = finished_.find(tensor);
    if (found == finished_.end()) fail("{} was not made with the other matrices of its stack", tensor);
    QuantizedMatrix matrix = std::move(found->second);
    finished_.erase(found);
    return matrix;
  }

  bool makes(const std::string& tensor) const override { return stacks_->makes(stack_of(tensor)); }

 private:
  const std::string& stack_of(const std::string& tensor) const {
    const auto found = stack_of_.find(tensor);
    return found == stack_of_.end() ? tensor : found->second;
  }

  std::shared_ptr<CalibratedQuantizer> stacks_;
  std::map<std::string, std::string> stack_of_;
  std::map<std::string, QuantizedMatrix> finished_;
};

// Of the values that a stack has one after the other those of one matrix.
void split_values(std::map<std::string, std::vector<float>>& values, const Module& stack) {
  const auto found = values.find(stack.tensor);
  if (found == values.end()) return;
  const std::vector<float> all = std::move(found->second);
  values.erase(found);
  const auto count = static_cast<std::ptrdiff_t>(all.size()) / stack.experts;
  for (int64_t expert = 0; expert < stack.experts; ++expert)
    values[expert_name(stack.tensor, expert)] = {all.begin() + expert * count,
                                                 all.begin() + (expert + 1) * count};
}

}  // namespace

ExportPlan split_plan(const Model& model, const ExportPlan& plan) {
  ExportPlan split = plan;
  for (const Module& module : model.modules) {
    if (module.experts == 0) continue;
    split_values(split.importance, module);
    split_values(split.row_impacts, module);
    const auto found = split.schemes.find(module.tensor);
    if (found == split.schemes.end()) continue;
    const Scheme scheme = found->second;
    split.schemes.erase(found);
    for (int64_t expert = 0; expert < module.experts; ++expert)
      split.schemes[expert_name(module.tensor, expert)] = scheme;
  }
  if (plan.calibrated) split.calibrated = std::make_shared<SplitQuantizer>(model, plan.calibrated);
  return split;
}

}  // namespace strata
