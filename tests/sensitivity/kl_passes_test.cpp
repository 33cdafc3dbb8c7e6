#include <gtest/gtest.h>

#include <atomic>
#include <map>

#include "strata/checkpoint/checkpoint_view.h"
#include "strata/model/boundary_modules.h"
#include "strata/sensitivity/kl.h"
#include "strata/sensitivity/method.h"
#include "tests/support/random_ids.h"
#include "tests/support/random_model.h"
#include "tests/support/three_layer_model.h"

namespace strata {
namespace {

// Counts how often the first row of every tensor is read.
class CountingCheckpoint : public CheckpointView {
 public:
  explicit CountingCheckpoint(std::shared_ptr<const Checkpoint> base) : CheckpointView(std::move(base)) {
    for (const TensorInfo& tensor : tensors()) reads_[tensor.name] = 0;
  }

  void read_rows(const TensorInfo& tensor, int64_t first, int64_t count, float* target) const override {
    if (first == 0) ++reads_.at(tensor.name);
    CheckpointView::read_rows(tensor, first, count, target);
  }

  int reads(const std::string& tensor) const { return reads_.at(tensor); }

 private:
  mutable std::map<std::string, std::atomic<int>> reads_;
};

class KlPasses : public ThreeLayerModel {
 protected:
  void SetUp() override {
    evidence_.calibration = std::make_shared<const Calibration>(make_calibration(random_ids(2, 5), "test"));
    options_.schemes = parse_schemes("w4g32,w2g32");
    for (const Module& module : model_.modules) weights_ += module.params() * 4;
    state_ = evidence_.calibration->tokens() * model_.config.hidden_size * 4;
  }

  SensitivityOptions within(uint64_t memory) const {
    SensitivityOptions options = options_;
    options.methods.get<KlOptions>().memory = memory;
    return options;
  }

  SensitivityOptions options_;
  Evidence evidence_;
  uint64_t weights_ = 0, state_ = 0;  // bytes of the layers' matrices and of the states of one trial
};

// With all weights in memory; with one trial a pass; with the states of five, which end within a matrix.
TEST_F(KlPasses, CostsAreTheSameForAnyMemory) {
  for (const bool tied : {false, true}) {
    SCOPED_TRACE(tied);
    Json config = small_config("llama");
    config["tie_word_embeddings"] = tied;
    const std::filesystem::path path = directory_ / (tied ? "tied" : "untied");
    write_random_model(path, config, DType::F32);
    const Model model = open_model(path);
    options_.boundaries = boundary_modules(model);
    uint64_t layer = 0;
    for (const Module* module : model.layer_modules(0)) layer += module->params() * 4;
    const uint64_t state = evidence_.calibration->tokens() * model.config.hidden_size * 4;
    const Json all = to_json(score(model, "kl", within(uint64_t{1} << 32), evidence_));
    for (const uint64_t memory : {uint64_t{1}, layer + 5 * state, layer + 9 * state})
      EXPECT_EQ(to_json(score(model, "kl", within(memory), evidence_)), all) << memory;
  }
}

// The weights do not fit, but all states do: a matrix is read to be quantized, and once with its layer.
TEST_F(KlPasses, ALayerIsReadOnceAPass) {
  const auto checkpoint = std::make_shared<CountingCheckpoint>(model_.checkpoint);
  Model model = model_;
  model.checkpoint = checkpoint;
  const uint64_t memory = 2 * weights_ - 1;
  ASSERT_GT(memory, weights_ / 3 + model.modules.size() * 2 * state_);
  score(model, "kl", within(memory), evidence_);
  for (const Module& module : model.modules) EXPECT_EQ(checkpoint->reads(module.tensor), 2) << module.tensor;
}

// With as many passes as trials, the layers behind a trial's are read for each.
TEST_F(KlPasses, APassBeginsAtTheLayerOfItsFirstTrial) {
  const auto checkpoint = std::make_shared<CountingCheckpoint>(model_.checkpoint);
  Model model = model_;
  model.checkpoint = checkpoint;
  score(model, "kl", within(1), evidence_);
  const int schemes = 2, of_layer = static_cast<int>(model.layer_modules(0).size());
  for (const Module& module : model.modules)
    EXPECT_EQ(checkpoint->reads(module.tensor), schemes + schemes * of_layer * (module.layer + 1))
        << module.tensor;
}

}  // namespace
}  // namespace strata
