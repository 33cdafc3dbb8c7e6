#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <set>

#include "strata/core/error.h"
#include "strata/core/random.h"
#include "strata/forward/decoder.h"
#include "strata/information/samples.h"
#include "strata/information/sliced.h"
#include "strata/sensitivity/infoq.h"
#include "strata/sensitivity/method.h"
#include "tests/support/error_of.h"
#include "tests/support/ross_by_pairs.h"
#include "tests/support/three_layer_model.h"

namespace strata {
namespace {

constexpr int64_t kWindows = 8, kWindow = 31;

class InfoqOfLanguageModels : public ThreeLayerModel {
 protected:
  void SetUp() override {
    Random random(5);  // of tokens that mostly follow from the one before
    ids_ = at::empty({kWindows, kWindow}, at::kLong);
    int64_t token = 1;
    for (int64_t i = 0; i < ids_.numel(); ++i) {
      token = (3 * token + 1 + (random.below(4) == 0 ? 5 : 0)) % 14;
      ids_.data_ptr<int64_t>()[i] = token;
    }
    evidence_.calibration = std::make_shared<const Calibration>(make_calibration(ids_, "test"));
    options_.schemes = parse_schemes("w2g32,w4g32");
    options_.methods.get<InfoqOptions>().buckets = 4;
    options_.methods.get<InfoqOptions>().directions = 6;
    options_.methods.get<InfoqOptions>().observers = 2;
    options_.seed = 3;
  }

  // Four buckets of next tokens: those before which, in order of falling frequency, lie 0, 1, 2 and 3
  // quarters.
  std::vector<int64_t> labels() const {
    std::vector<int64_t> next, result;
    for (int64_t w = 0; w < kWindows; ++w)
      for (int64_t t = 1; t < kWindow; ++t) next.push_back(ids_[w][t].item<int64_t>());
    const auto count = [&](int64_t token) { return std::count(next.begin(), next.end(), token); };
    const std::set<int64_t> tokens(next.begin(), next.end());
    for (int64_t token : next) {
      int64_t before = 0;
      for (int64_t other : tokens)
        if (count(other) > count(token) || (count(other) == count(token) && other < token))
          before += count(other);
      result.push_back(before * 4 / static_cast<int64_t>(next.size()));
    }
    return result;
  }

  // Behind layers 0 and 2, which two observers of three layers read.
  std::vector<double> information(Decoder& decoder) const {
    const at::Tensor directions = random_directions(32, 6, 3).to(at::kDouble);
    const std::vector<int64_t> next = labels();
    std::vector<double> result;
    at::Tensor hidden = decoder.embed(ids_);
    for (int layer = 0; layer < 3; ++layer) {
      hidden = decoder.layer(layer, hidden);
      if (layer == 1) continue;
      const at::Tensor rows = hidden.to(at::kDouble).narrow(1, 0, kWindow - 1).reshape({-1, 32});
      double mean = 0;
      for (int64_t d = 0; d < 6; ++d) {
        const at::Tensor projected = at::mv(rows, directions.select(1, d)).to(at::kFloat).contiguous();
        // Windows that begin alike give the same values: the estimator's noise decides between them.
        const std::vector<float> values = standardised(projected.data_ptr<float>(), projected.numel(), 3, 1);
        mean += ross_by_pairs(values, next, 3) / 6;
      }
      result.push_back(std::max(0.0, mean));
    }
    return result;
  }

  at::Tensor ids_;
  SensitivityOptions options_;
  Evidence evidence_;
};

TEST_F(InfoqOfLanguageModels, IsTheRelativeLossOfInformationOverItsBits) {
  Decoder decoder(model_, {});
  const std::vector<double> reference = information(decoder);
  ASSERT_GT(std::min(reference[0], reference[1]), 0.01);
  const Scores scores = score(model_, "infoq", options_, evidence_);
  ASSERT_EQ(scores.costs.size(), 2 * model_.modules.size());
  double largest = 0;
  for (size_t m = 0; m < model_.modules.size(); m += 3) {
    const Module& module = model_.modules[m];
    for (size_t s = 0; s < 2; ++s) {
      at::Tensor weight = decoder.weight(module.tensor).clone();
      fake_quantize({weight.data_ptr<float>(), module.rows, module.cols}, options_.schemes[s],
                    options_.quantizer);
      decoder.replace(module.tensor, weight);
      const std::vector<double> probed = information(decoder);
      decoder.restore(module.tensor);
      double lost = 0, known = 0;
      for (size_t o = 0; o < 2; ++o) {
        if (o == 0 && module.layer > 0) continue;  // reads what lies before
        lost += std::abs(reference[o] - probed[o]);
        known += reference[o];
      }
      const double expected = lost / known / (s == 0 ? 2 : 4);
      EXPECT_NEAR(scores.costs[2 * m + s].cost, expected, 0.02 * expected + 2e-4)
          << module.tensor << " " << s;
      largest = std::max(largest, expected);
    }
  }
  EXPECT_GT(largest, 0.02);
}

TEST_F(InfoqOfLanguageModels, LeavesTheFactorOutAndTokensToo) {
  const Scores with = score(model_, "infoq", options_, evidence_);
  options_.methods.get<InfoqOptions>().inverse_width = false;
  const Scores without = score(model_, "infoq", options_, evidence_);
  for (size_t c = 0; c < with.costs.size(); ++c)
    EXPECT_NEAR(without.costs[c].cost, with.costs[c].cost * (c % 2 == 0 ? 2 : 4), 1e-9);
  options_.methods.get<InfoqOptions>().tokens = 100;  // four windows of 31
  EXPECT_EQ(score(model_, "infoq", options_, evidence_).details["calibration"]["tokens"], 4 * kWindow);
}

TEST_F(InfoqOfLanguageModels, NeedsTokensForItsBuckets) {
  options_.methods.get<InfoqOptions>().buckets = 64;
  const std::string error = error_of([&] { score(model_, "infoq", options_, evidence_); });
  EXPECT_NE(error.find("240 next tokens of test, but for 64 buckets of them it needs at least 512"),
            std::string::npos)
      << error;
}

}  // namespace
}  // namespace strata
