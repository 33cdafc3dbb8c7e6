#include "strata/sensitivity/nsds_components.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <vector>

#include "strata/core/random.h"
#include "strata/sensitivity/spectrum.h"
#include "tests/sensitivity/brute_force.h"

namespace strata {
namespace {

// Every reading of the open choices that a component depends on.
std::vector<NsdsOptions> readings() {
  std::vector<NsdsOptions> all;
  for (double tau : {0.90, 0.99})
    for (bool multiply : {true, false}) {
      NsdsOptions options;
      options.tau = tau;
      options.multiply_entropy = multiply;
      all.push_back(options);
    }
  return all;
}

// Heavy-tailed weights whose columns differ in strength, so that the spectrum decays as in trained matrices.
at::Tensor random_weight(Random& random, int64_t rows, int64_t cols) {
  at::Tensor weight = at::empty({rows, cols}, at::kFloat);
  std::vector<double> strength;
  for (int64_t c = 0; c < cols; ++c) strength.push_back(std::exp(0.8 * random.normal()));
  float* values = weight.data_ptr<float>();
  for (int64_t r = 0; r < rows; ++r)
    for (int64_t c = 0; c < cols; ++c)
      values[r * cols + c] =
          static_cast<float>(0.02 * strength[c] * random.normal() * std::exp(0.5 * random.normal()));
  return weight;
}

void expect_close(const ComponentValues& fast, const ComponentValues& exact, const char* what) {
  EXPECT_NEAR(fast.numerical_vulnerability, exact.numerical_vulnerability,
              1e-3 * std::abs(exact.numerical_vulnerability))
      << what;
  EXPECT_NEAR(fast.structural_expressiveness, exact.structural_expressiveness,
              1e-3 * std::abs(exact.structural_expressiveness))
      << what;
}

at::Tensor fast_basis(const at::Tensor& unembedding, const NsdsOptions& options) {
  at::Tensor gram = at::zeros({unembedding.size(1), unembedding.size(1)});
  const int64_t half = unembedding.size(0) / 2;
  add_gram(gram, unembedding.narrow(0, 0, half));
  add_gram(gram, unembedding.narrow(0, half, unembedding.size(0) - half));
  return unembedding_basis(gram, options);
}

struct Shape {
  int64_t hidden, ffn, heads, kv_heads, head_size, vocab;
};

class NsdsComponents : public testing::TestWithParam<Shape> {};

TEST_P(NsdsComponents, AgreeWithTheDefinitionInDoublePrecision) {
  const Shape s = GetParam();
  Random random(static_cast<uint64_t>(s.hidden + s.head_size));
  const at::Tensor q = random_weight(random, s.heads * s.head_size, s.hidden);
  const at::Tensor k = random_weight(random, s.kv_heads * s.head_size, s.hidden);
  const at::Tensor v = random_weight(random, s.kv_heads * s.head_size, s.hidden);
  const at::Tensor o = random_weight(random, s.hidden, s.heads * s.head_size);
  const at::Tensor up = random_weight(random, s.ffn, s.hidden);
  const at::Tensor down = random_weight(random, s.hidden, s.ffn);
  const at::Tensor unembedding = random_weight(random, s.vocab, s.hidden);
  for (const NsdsOptions& options : readings()) {
    SCOPED_TRACE(testing::Message() << "tau " << options.tau << " multiply " << options.multiply_entropy);
    const at::Tensor p = brute_force::basis(unembedding, options);
    const at::Tensor fast_p = fast_basis(unembedding, options);
    EXPECT_EQ(fast_p.size(0), p.size(1));
    expect_close(nsds_detector_circuit(query_key_circuit(q, k, s.heads, s.kv_heads), options),
                 brute_force::query_key(q, k, s.heads, s.kv_heads, options), "qk");
    expect_close(nsds_writer_circuit(output_value_circuit(o, v, s.heads, s.kv_heads), fast_p, options),
                 brute_force::output_value(o, v, s.heads, s.kv_heads, p, options), "ov");
    expect_close(nsds_detector_matrix(up, options), brute_force::detector_matrix(up, options), "up");
    expect_close(nsds_writer_matrix(down, fast_p, options), brute_force::writer_matrix(down, p, options),
                 "down");
  }
}

INSTANTIATE_TEST_SUITE_P(Shapes, NsdsComponents,
                         testing::Values(Shape{32, 48, 4, 2, 8, 100},  // grouped queries
                                         Shape{40, 24, 3, 1, 20,
                                               64},  // head size beyond hidden / heads, f < d
                                         Shape{64, 176, 4, 4, 16, 50},    // vocabulary below the hidden size
                                         Shape{130, 260, 2, 1, 65, 300},  // nothing a multiple of a vector
                                         Shape{8, 12, 2, 1, 12, 20}));    // head size beyond the hidden size

TEST(NsdsComponents, HoldAtASizeWhereEigenvaluesCrowd) {
  Random random(5);
  const at::Tensor up = random_weight(random, 1400, 600), unembedding = random_weight(random, 900, 600);
  const at::Tensor q = random_weight(random, 96, 600), k = random_weight(random, 96, 600);
  const NsdsOptions options;
  expect_close(nsds_detector_matrix(up, options), brute_force::detector_matrix(up, options), "up");
  expect_close(nsds_writer_matrix(up.t().contiguous(), fast_basis(unembedding, options), options),
               brute_force::writer_matrix(up.t(), brute_force::basis(unembedding, options), options), "down");
  expect_close(nsds_detector_circuit(query_key_circuit(q, k, 1, 1), options),
               brute_force::query_key(q, k, 1, 1, options), "qk");
}

TEST(NsdsComponents, HeadsWithDependentRowsAgreeToo) {
  Random random(7);
  at::Tensor q = random_weight(random, 32, 48), k = random_weight(random, 16, 48);
  q[3].copy_(q[5]);
  k[1].copy_(k[0]);
  k[9].zero_();
  for (const NsdsOptions& options : readings()) {
    expect_close(nsds_detector_circuit(query_key_circuit(q, k, 4, 2), options),
                 brute_force::query_key(q, k, 4, 2, options), "dependent right rows");
    const at::Tensor wide_q = q.narrow(0, 0, 16), narrow_k = k;
    expect_close(nsds_detector_circuit(query_key_circuit(narrow_k, wide_q, 2, 2), options),
                 brute_force::query_key(narrow_k, wide_q, 2, 2, options), "dependent left rows");
  }
}

TEST(NsdsComponents, AnEmptyHeadCountsAsZero) {
  Random random(8);
  at::Tensor q = random_weight(random, 16, 32), k = random_weight(random, 16, 32);
  const ComponentValues both = nsds_detector_circuit(query_key_circuit(q, k, 2, 2), {});
  const ComponentValues first =
      nsds_detector_circuit(query_key_circuit(q.narrow(0, 0, 8), k.narrow(0, 0, 8), 1, 1), {});
  k.narrow(0, 8, 8).zero_();
  const ComponentValues pruned = nsds_detector_circuit(query_key_circuit(q, k, 2, 2), {});
  EXPECT_NEAR(pruned.numerical_vulnerability, first.numerical_vulnerability / 2, 1e-6);
  EXPECT_NEAR(pruned.structural_expressiveness, first.structural_expressiveness / 2, 1e-6);
  EXPECT_GT(both.structural_expressiveness, pruned.structural_expressiveness);
  q.narrow(0, 8, 8).zero_();
  const ComponentValues left_too = nsds_detector_circuit(query_key_circuit(q, k, 2, 2), {});
  EXPECT_NEAR(left_too.structural_expressiveness, first.structural_expressiveness / 2, 1e-6);
}

TEST(NsdsComponents, AMatrixOfEqualWeightsIsNotPeakedAndOneOfZerosNotSensitive) {
  const auto up = [](double value) { return nsds_detector_matrix(at::full({24, 16}, value), {}); };
  const auto qk = [](double value) {
    return nsds_detector_circuit(query_key_circuit(at::full({8, 16}, value), at::full({8, 16}, value), 1, 1),
                                 {});
  };
  EXPECT_EQ(up(0.5).numerical_vulnerability, 0);
  EXPECT_EQ(qk(0.5).numerical_vulnerability, 0);
  for (const ComponentValues& none : {up(0), qk(0)}) {
    EXPECT_EQ(none.numerical_vulnerability, 0);
    EXPECT_EQ(none.structural_expressiveness, 0);
  }
}

// NV is free of scale; SE grows with it. Holds far outside the range in which float fourth powers exist.
TEST(NsdsComponents, ScaleLeavesNvAndMovesSeInProportion) {
  Random random(9);
  const at::Tensor up = random_weight(random, 60, 32), q = random_weight(random, 16, 32),
                   k = random_weight(random, 16, 32);
  const ComponentValues matrix = nsds_detector_matrix(up, {});
  const ComponentValues circuit = nsds_detector_circuit(query_key_circuit(q, k, 2, 2), {});
  for (double scale : {1e-8, 1e7}) {
    const ComponentValues scaled = nsds_detector_matrix(up * scale, {});
    EXPECT_NEAR(scaled.numerical_vulnerability, matrix.numerical_vulnerability,
                1e-4 * matrix.numerical_vulnerability);
    EXPECT_NEAR(scaled.structural_expressiveness / scale, matrix.structural_expressiveness,
                1e-3 * matrix.structural_expressiveness);
    const ComponentValues both = nsds_detector_circuit(query_key_circuit(q * scale, k * scale, 2, 2), {});
    EXPECT_NEAR(both.numerical_vulnerability, circuit.numerical_vulnerability,
                1e-4 * circuit.numerical_vulnerability);
    EXPECT_NEAR(both.structural_expressiveness / (scale * scale), circuit.structural_expressiveness,
                1e-3 * circuit.structural_expressiveness);
  }
}

TEST(NsdsComponents, AGpuGivesWhatTheCpuGives) {
  if (!at::hasCUDA()) GTEST_SKIP() << "no CUDA device";
  Random random(10);
  const at::Tensor q = random_weight(random, 256, 320), k = random_weight(random, 128, 320),
                   o = random_weight(random, 320, 256), v = random_weight(random, 128, 320),
                   up = random_weight(random, 800, 320), down = random_weight(random, 320, 800),
                   unembedding = random_weight(random, 500, 320);
  const NsdsOptions options;
  const auto components = [&](at::Device device) {
    const auto on = [&](const at::Tensor& tensor) { return tensor.to(device); };
    at::Tensor gram = at::zeros({320, 320}, at::TensorOptions().device(device));
    add_gram(gram, on(unembedding));
    const at::Tensor basis = unembedding_basis(gram, options);
    return std::vector<ComponentValues>{
        nsds_detector_circuit(query_key_circuit(on(q), on(k), 4, 2), options),
        nsds_writer_circuit(output_value_circuit(on(o), on(v), 4, 2), basis, options),
        nsds_detector_matrix(on(up), options), nsds_writer_matrix(on(down), basis, options)};
  };
  const std::vector<ComponentValues> cpu = components(at::kCPU), gpu = components(at::kCUDA);
  for (size_t i = 0; i < cpu.size(); ++i) expect_close(gpu[i], cpu[i], "component");
}

TEST(LeadingCount, TakesTheFewestThatHoldTheShareAndAtLeastTwo) {
  const double energies[] = {-0.5, 1, 2, 3, 4};  // the negative one is rounding
  EXPECT_EQ(leading_count(energies, 5, 0.40), 2);
  EXPECT_EQ(leading_count(energies, 5, 0.70), 2);
  EXPECT_EQ(leading_count(energies, 5, 0.71), 3);
  EXPECT_EQ(leading_count(energies, 5, 0.90), 3);
  EXPECT_EQ(leading_count(energies, 5, 0.99), 4);
  EXPECT_EQ(leading_count(energies, 1, 0.90), 1);
}

}  // namespace
}  // namespace strata
