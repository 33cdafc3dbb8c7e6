#include "strata/evaluation/kl_base.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <fstream>

#include "strata/core/error.h"
#include "strata/core/progress.h"
#include "tests/support/temporary_directory.h"
#include "tests/support/tiny_model.h"

namespace strata {
namespace {

constexpr int64_t kWindow = 20, kVocabulary = 64;

class KlBaseTest : public ::testing::Test {
 protected:
  KlBaseTest() {
    set_progress_style(ProgressStyle::Quiet);
    TinyModel tiny;
    write_tiny_model(directory_ / "model", tiny);
    tiny.seed = 2;
    write_tiny_model(directory_ / "base", tiny);
    model_ = open_model(directory_ / "model");
    base_ = open_model(directory_ / "base");
    Random random(5);
    for (int i = 0; i < 107; ++i) ids_.push_back(static_cast<int32_t>(random.below(kVocabulary)));
    options_.window = kWindow;
  }

  std::filesystem::path written(std::optional<int32_t> bos = std::nullopt) {
    Decoder decoder(base_, {});
    write_kl_base(decoder, ids_, options_, bos, directory_ / "base.bin");
    return directory_ / "base.bin";
  }

  // Log probabilities behind every token of a window [T, V], in double precision.
  at::Tensor log_probabilities(const Model& model, int64_t window, std::optional<int32_t> bos) {
    std::vector<int64_t> ids(ids_.begin() + window * kWindow, ids_.begin() + (window + 1) * kWindow);
    if (bos) ids.front() = *bos;
    Decoder decoder(model, {});
    return at::log_softmax(decoder.forward(at::tensor(ids, at::kLong).unsqueeze(0))[0].to(at::kDouble), -1);
  }

  static std::string error_of(const std::filesystem::path& path) {
    try {
      KlBase base(path);
    } catch (const Error& error) {
      return error.what();
    }
    return "";
  }

  TemporaryDirectory directory_;
  Model model_, base_;
  std::vector<int32_t> ids_;
  EvaluationOptions options_;
};

// Positions 10 to 18 of five windows of 20, each to half a step of its own scale.
TEST_F(KlBaseTest, HoldsTheSecondHalvesOfWindows) {
  const KlBase base(written());
  EXPECT_EQ(base.window(), kWindow);
  EXPECT_EQ(base.vocabulary(), kVocabulary);
  EXPECT_EQ(base.tokens(), std::vector<int32_t>(ids_.begin(), ids_.begin() + 100));
  ASSERT_EQ(base.rows(), 5 * 9);
  for (int64_t row = 0; row < base.rows(); ++row) {
    const at::Tensor exact = log_probabilities(base_, row / 9, {})[10 + row % 9];
    for (int64_t token = 0; token < kVocabulary; ++token)
      EXPECT_NEAR(base.row(row).log_probability(token), exact[token].item<double>(),
                  0.51 * base.row(row).scale + 1e-5);
  }
}

// Of a trained model, some of whose tokens are far less probable than others.
TEST_F(KlBaseTest, CutsOffImprobableTokens) {
  const Model model = open_model(STRATA_SOURCE_DIR "/models/tiny-llama");
  Decoder decoder(model, {});
  write_kl_base(decoder, ids_, options_, {}, directory_ / "real.bin");
  const KlBase base(directory_ / "real.bin");
  at::Tensor ids = at::tensor(std::vector<int64_t>(ids_.begin(), ids_.begin() + kWindow), at::kLong);
  const at::Tensor exact = at::log_softmax(decoder.forward(ids.unsqueeze(0))[0].to(at::kDouble), -1);
  int64_t cut_off = 0;
  for (int64_t row = 0; row < 9; ++row) {
    const at::Tensor own = exact[10 + row];
    const double lowest = own.max().item<double>() - 16;
    for (int64_t token = 0; token < base.vocabulary(); ++token) {
      const double value = own.data_ptr<double>()[token];
      cut_off += value < lowest;
      EXPECT_NEAR(base.row(row).log_probability(token), std::max(value, lowest), 2e-4);
    }
  }
  EXPECT_GT(cut_off, 0);
}

// With `bos` in the place of every window's first token, which the file does not say.
TEST_F(KlBaseTest, ComparesAsBruteForceDoes) {
  for (const std::optional<int32_t> bos : {std::optional<int32_t>(), std::optional<int32_t>(3)}) {
    const KlBase base(written(bos));
    EXPECT_EQ(base.tokens().front(), ids_.front());
    Decoder decoder(model_, {});
    const BaseComparison found = compare_with_base(decoder, base, bos);
    std::vector<double> klds, changes, nlls, base_nlls;
    double same = 0;
    for (int64_t window = 0; window < 5; ++window) {
      const at::Tensor q = log_probabilities(model_, window, bos), p = log_probabilities(base_, window, bos);
      for (int64_t t = 10; t + 1 < kWindow; ++t) {
        const int64_t next = ids_[static_cast<size_t>(window * kWindow + t + 1)];
        klds.push_back((p[t].exp() * (p[t] - q[t])).sum().item<double>());
        nlls.push_back(-q[t][next].item<double>());
        base_nlls.push_back(-p[t][next].item<double>());
        changes.push_back(std::exp(-nlls.back()) - std::exp(-base_nlls.back()));
        same += q[t].argmax().item<int64_t>() == p[t].argmax().item<int64_t>();
      }
    }
    const double n = static_cast<double>(klds.size());
    const auto mean = [&](const std::vector<double>& values) {
      double sum = 0;
      for (const double value : values) sum += value;
      return sum / n;
    };
    const auto covariance = [&](const std::vector<double>& a, const std::vector<double>& b) {
      double sum = 0;
      for (size_t i = 0; i < a.size(); ++i) sum += (a[i] - mean(a)) * (b[i] - mean(b));
      return sum / n / (n - 1);  // of the means, as llama-perplexity divides
    };
    EXPECT_EQ(found.tokens, 45);
    EXPECT_NEAR(found.kld.value, mean(klds), 1e-4);
    EXPECT_NEAR(found.kld.error, std::sqrt(covariance(klds, klds)), 1e-4);
    EXPECT_NEAR(found.ppl.value, std::exp(mean(nlls)), 1e-3 * found.ppl.value);
    EXPECT_NEAR(found.base_ppl.value, std::exp(mean(base_nlls)), 1e-3 * found.base_ppl.value);
    EXPECT_NEAR(found.log_ppl_ratio.value, mean(nlls) - mean(base_nlls), 1e-3);
    EXPECT_NEAR(found.log_ppl_ratio.error,
                std::sqrt(covariance(nlls, nlls) + covariance(base_nlls, base_nlls) -
                          2 * covariance(nlls, base_nlls)),
                1e-3);
    EXPECT_NEAR(
        found.log_ppl_correlation,
        covariance(nlls, base_nlls) / std::sqrt(covariance(nlls, nlls) * covariance(base_nlls, base_nlls)),
        1e-2);
    EXPECT_NEAR(found.ppl_difference.value, found.ppl.value - found.base_ppl.value, 1e-9);
    EXPECT_NEAR(found.probability_change.value, mean(changes), 1e-5);
    EXPECT_NEAR(found.same_top.value, same / n, 1e-9);
    for (size_t i = 0; i < klds.size(); ++i) EXPECT_NEAR(found.klds[i], klds[i], 1e-3);
    double squares = 0;
    for (const double change : changes) squares += change * change;
    EXPECT_NEAR(found.rms_change.value, std::sqrt(squares / n), 1e-5);
    const std::string text = text_of(found);
    for (const char* line : {"Mean    KLD", "99.9 %  KLD", "Median  Δp", "RMS     Δp", "Same top p"})
      EXPECT_NE(text.find(line), std::string::npos) << line;
  }
}

TEST_F(KlBaseTest, FilesThatAreNone) {
  const auto path = written();
  const auto rewritten = [&](size_t offset, int32_t value) {
    std::fstream stream(path, std::ios::binary | std::ios::in | std::ios::out);
    stream.seekp(static_cast<std::streamoff>(offset));
    stream.write(reinterpret_cast<const char*>(&value), sizeof value);
  };
  rewritten(20, 99);
  EXPECT_NE(error_of(path).find("has token 99, but its vocabulary has 64"), std::string::npos);
  rewritten(16, 1 << 30);
  EXPECT_NE(error_of(path).find("is cut short"), std::string::npos) << error_of(path);
  rewritten(16, -1);
  EXPECT_NE(error_of(path).find("which cannot be"), std::string::npos);
  rewritten(0, 0);
  EXPECT_NE(error_of(path).find("is no file of log probabilities"), std::string::npos);
  std::filesystem::resize_file(written(), 2000);
  EXPECT_NE(error_of(path).find("is cut short"), std::string::npos);

  TinyModel other;
  other.vocab = 65;
  write_tiny_model(directory_ / "other", other);
  const Model model = open_model(directory_ / "other");
  Decoder decoder(model, {});
  EXPECT_THROW(compare_with_base(decoder, KlBase(written()), {}), Error);
  options_.window = 3;
  EXPECT_THROW(written(), Error);
}

}  // namespace
}  // namespace strata
