#include <gtest/gtest.h>

#include "strata/calibration/reference_distribution.h"
#include "strata/calibration/second_moments.h"
#include "tests/support/temporary_directory.h"
#include "tests/support/tiny_model.h"

namespace strata {
namespace {

TEST(InputMoments, AreTheSumsOverAllPieces) {
  InputMoments moments;
  const at::Tensor x = at::sin(at::arange(40 * 6, at::kFloat)).view({40, 6});
  moments.add(x.narrow(0, 0, 15), true);
  moments.add(x.narrow(0, 15, 25), true);
  const at::Tensor wide = x.to(at::kDouble);
  EXPECT_EQ(moments.count, 40);
  EXPECT_TRUE(at::allclose(moments.squares, wide.square().sum(0), 1e-6));
  EXPECT_TRUE(at::allclose(moments.sums, wide.sum(0), 1e-6, 1e-6));
  EXPECT_TRUE(at::allclose(moments.products.to(at::kDouble), at::mm(wide.t(), wide), 1e-5, 1e-5));
  const at::Tensor weight = at::cos(at::arange(3 * 6, at::kFloat)).view({3, 6});
  const at::Tensor outputs = at::mm(wide, weight.to(at::kDouble).t());
  EXPECT_TRUE(at::allclose(output_squares(weight, moments), outputs.square().sum(0), 1e-5, 1e-5));
}

// Divergences far below float's resolution of the log likelihoods keep their digits.
TEST(RowDivergences, AreExactForTinyAndLargeDifferences) {
  const at::Tensor reference = 4 * at::sin(at::arange(3 * 50, at::kFloat)).view({3, 50});
  const at::Tensor change = at::cos(1.7 * at::arange(3 * 50, at::kFloat)).view({3, 50});
  const at::Tensor log_p = at::log_softmax(reference.to(at::kDouble), -1).to(at::kFloat);
  for (const double scale : {1e-4, 1e-2, 1.0, 5.0}) {
    const at::Tensor logits = log_p + scale * change + 3;
    const at::Tensor log_q = at::log_softmax(logits.to(at::kDouble), -1);
    const at::Tensor exact_log_p = at::log_softmax(log_p.to(at::kDouble), -1);
    const at::Tensor expected = (exact_log_p.exp() * (exact_log_p - log_q)).sum(-1);
    const at::Tensor found = row_divergences(log_p, log_p.exp(), logits.clone()).to(at::kDouble);
    EXPECT_TRUE(at::allclose(found, expected, 1e-3, 0)) << scale << found << expected;
  }
}

TEST(ReferenceDistribution, GivesTheSameWithAndWithoutKeptProbabilities) {
  TemporaryDirectory directory;
  write_tiny_model(directory.path(), {});
  const Model model = open_model(directory.path());
  Decoder decoder(model, {});
  const at::Tensor hidden = at::sin(at::arange(2 * 7 * 32, at::kFloat)).view({2, 7, 32});
  const at::Tensor other = hidden + 0.1 * hidden.roll({3}, {2});
  ReferenceDistribution kept(decoder, hidden, 1 << 20), computed(decoder, hidden, 0);
  const at::Tensor log_p = at::log_softmax(decoder.logits(hidden).to(at::kDouble), -1);
  const at::Tensor log_q = at::log_softmax(decoder.logits(other).to(at::kDouble), -1);
  const double expected = (log_p.exp() * (log_p - log_q)).sum(-1).mean().item<double>();
  EXPECT_NEAR(kept.divergence(other), expected, 1e-4 * expected);
  EXPECT_EQ(kept.divergence(other), computed.divergence(other));
  EXPECT_NEAR(kept.divergence(hidden), 0, 1e-9);
}

}  // namespace
}  // namespace strata
