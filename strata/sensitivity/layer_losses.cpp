#include "strata/sensitivity/layer_losses.h"

#include <algorithm>

#include "strata/core/error.h"

namespace strata {
namespace {

class ChangedLayer {
 public:
  ChangedLayer(const LayerRun& run, const std::vector<std::string>& modules, const LayerOptions& options,
               bool pairs, const SeeOutput& see)
      : run_(run), options_(options), most_changes_(pairs ? 2 : 1), see_(see), choice_(modules.size()) {
    for (const Stage& stage : run.stages) {
      std::vector<size_t>& of_stage = stages_.emplace_back();
      for (const std::string& matrix : stage.matrices) {
        const auto found = std::find(modules.begin(), modules.end(), matrix);
        if (found == modules.end()) fail("{} is not among the modules of its layer", matrix);
        of_stage.push_back(static_cast<size_t>(found - modules.begin()));
      }
    }
  }

  // All choices of the stages from this one on, behind those that were made before.
  void choose_stage(size_t stage, const LayerState& state) {
    if (stage == stages_.size()) return see_(choice_, stream_of(state));
    Products products(stages_[stage].size());
    choose_matrix(stage, 0, state, stage_input(run_, run_.stages[stage], state), products);
  }

 private:
  // Of every matrix of a stage the products of its options, once they are needed.
  using Products = std::vector<std::vector<at::Tensor>>;

  void choose_matrix(size_t stage, size_t matrix, const LayerState& state, const at::Tensor& input,
                     Products& products) {
    if (matrix == stages_[stage].size()) {
      std::vector<at::Tensor> chosen;
      for (size_t m = 0; m < matrix; ++m) chosen.push_back(product(stage, m, state, input, products));
      return choose_stage(stage + 1, finish_stage(run_, run_.stages[stage], state, chosen));
    }
    for_each_option(stages_[stage][matrix],
                    [&] { choose_matrix(stage, matrix + 1, state, input, products); });
  }

  // Calls `next` with the module unchanged, and then with each of its options while changes are left.
  template <class Next>
  void for_each_option(size_t module, const Next& next) {
    const int count = changes_ < most_changes_ ? static_cast<int>(options_[module].size()) : 0;
    for (int option = 0; option <= count; ++option) {
      choice_[module] = option;
      changes_ += option == 1;
      next();
    }
    changes_ -= count > 0;
    choice_[module] = 0;
  }

  const at::Tensor& product(size_t stage, size_t matrix, const LayerState& state, const at::Tensor& input,
                            Products& products) {
    const size_t module = stages_[stage][matrix];
    std::vector<at::Tensor>& of_matrix = products[matrix];
    of_matrix.resize(options_[module].size() + 1);
    at::Tensor& product = of_matrix[static_cast<size_t>(choice_[module])];
    if (!product.defined()) {
      const std::string& name = run_.stages[stage].matrices[matrix];
      const at::Tensor& weight = choice_[module] == 0
                                     ? run_.weights.weight(name)
                                     : options_[module][static_cast<size_t>(choice_[module] - 1)];
      product = stage_product(run_.stages[stage], state, input, weight, run_.weights.bias(name));
    }
    return product;
  }

  const LayerRun& run_;
  const LayerOptions& options_;
  const int most_changes_;
  const SeeOutput& see_;
  std::vector<std::vector<size_t>> stages_;  // modules of each
  LayerChoice choice_;
  int changes_ = 0;
};

}  // namespace

void for_each_change(const LayerRun& run, const std::vector<std::string>& modules,
                     const LayerOptions& options, bool pairs, const at::Tensor& stream,
                     const SeeOutput& see) {
  ChangedLayer(run, modules, options, pairs, see).choose_stage(0, state_of(run, stream));
}

ChangeIndex::ChangeIndex(const LayerOptions& options, bool pairs)
    : counts_(options.size()),
      singles_(options.size()),
      pairs_(options.size(), std::vector<size_t>(options.size())) {
  for (size_t module = 0; module < options.size(); ++module) {
    counts_[module] = options[module].size();
    singles_[module] = size_;
    size_ += counts_[module];
  }
  for (size_t module = 0; pairs && module < options.size(); ++module) {
    for (size_t later = module + 1; later < options.size(); ++later) {
      pairs_[module][later] = size_;
      size_ += counts_[module] * counts_[later];
    }
  }
}

size_t ChangeIndex::of(const LayerChoice& choice) const {
  std::vector<size_t> changed;
  for (size_t module = 0; module < choice.size(); ++module)
    if (choice[module] > 0) changed.push_back(module);
  const auto option = [&](size_t i) { return static_cast<size_t>(choice[changed[i]] - 1); };
  if (changed.size() == 1) return single(changed[0], option(0));
  return pair(changed[0], option(0), changed[1], option(1));
}

}  // namespace strata
