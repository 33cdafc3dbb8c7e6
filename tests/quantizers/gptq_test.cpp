#include "strata/quantizers/gptq.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cmath>
#include <map>
#include <numeric>

#include "strata/core/error.h"
#include "strata/core/random.h"
#include "strata/gguf/block_codec.h"
#include "strata/gguf/codec.h"
#include "tests/support/error_of.h"
#include "tests/support/values_of.h"

namespace strata {
namespace {

using Doubles = std::vector<double>;

// Second moments of correlated inputs [cols, cols], and weights.
struct Case {
  Matrix<float> weights;
  at::Tensor moments;
};

Case make_case(int64_t rows, int64_t cols, uint64_t seed) {
  Random random(seed);
  Case made{Matrix<float>(rows, cols), {}};
  for (float& w : made.weights.values)
    w = static_cast<float>(0.02 * random.normal() * (random.below(40) == 0 ? 5 : 1));
  const int64_t tokens = 2 * cols;
  at::Tensor x = at::empty({tokens, cols}, at::kDouble);
  for (int64_t t = 0; t < tokens; ++t) {
    double common = random.normal();
    for (int64_t c = 0; c < cols; ++c)
      x.data_ptr<double>()[t * cols + c] =
          (c % 7 == 3 ? 4 : 1) * (common + random.normal() + 0.3 * static_cast<double>(c % 5));
  }
  made.moments = at::mm(x.t(), x);
  return made;
}

// Gauss-Jordan, in double precision.
std::vector<Doubles> inverse_of(std::vector<Doubles> a) {
  const size_t n = a.size();
  std::vector<Doubles> inverse(n, Doubles(n, 0));
  for (size_t i = 0; i < n; ++i) inverse[i][i] = 1;
  for (size_t p = 0; p < n; ++p) {
    const double pivot = a[p][p];
    for (size_t c = 0; c < n; ++c) {
      a[p][c] /= pivot;
      inverse[p][c] /= pivot;
    }
    for (size_t r = 0; r < n; ++r) {
      if (r == p) continue;
      const double factor = a[r][p];
      for (size_t c = 0; c < n; ++c) {
        a[r][c] -= factor * a[p][c];
        inverse[r][c] -= factor * inverse[p][c];
      }
    }
  }
  return inverse;
}

std::vector<Doubles> damped(const at::Tensor& moments, double damping) {
  const int64_t n = moments.size(0);
  const double added = damping * moments.diagonal().mean().item<double>();
  std::vector<Doubles> h(static_cast<size_t>(n), Doubles(static_cast<size_t>(n)));
  for (int64_t r = 0; r < n; ++r)
    for (int64_t c = 0; c < n; ++c) h[r][c] = moments.data_ptr<double>()[r * n + c] + (r == c ? added : 0);
  return h;
}

// Optimal brain quantization in a given order, as the textbook has it: after rounding column q every later
// column moves by -e [H^-1]_q. / [H^-1]_qq, and q's row and column are eliminated from H^-1. `level(row,
// column, weight)` gives the value that the quantized matrix can take nearest to a weight.
template <class Nearest>
Doubles textbook_obq(const Matrix<float>& weights, const std::vector<Doubles>& h,
                     const std::vector<int64_t>& order, const Nearest& nearest) {
  std::vector<Doubles> inverse = inverse_of(h);
  Doubles w(weights.values.begin(), weights.values.end());
  const size_t n = h.size();
  for (const int64_t q : order) {
    const double d = inverse[q][q];
    for (int64_t r = 0; r < weights.rows; ++r) {
      double* row = w.data() + r * weights.cols;
      const double value = nearest(r, q, row[q]);
      const double error = (row[q] - value) / d;
      for (size_t c = 0; c < n; ++c) row[c] -= error * inverse[q][c];
      row[q] = value;
    }
    const Doubles eliminated = inverse[q];
    for (size_t r = 0; r < n; ++r) {
      const double factor = inverse[r][q] / d;
      for (size_t c = 0; c < n; ++c) inverse[r][c] -= factor * eliminated[c];
    }
    // What is rounded moves no more: its row and column are zero now, but for rounding errors.
    for (size_t c = 0; c < n; ++c) inverse[q][c] = inverse[c][q] = 0;
    inverse[q][q] = 1;
  }
  return w;
}

double output_error(const Matrix<float>& weights, const std::vector<float>& rounded,
                    const at::Tensor& moments) {
  at::Tensor e = at::empty({weights.rows, weights.cols}, at::kDouble);
  for (int64_t i = 0; i < weights.size(); ++i)
    e.data_ptr<double>()[i] = static_cast<double>(weights.values[i]) - rounded[i];
  return (at::mm(e, moments) * e).sum().item<double>();
}

std::vector<int64_t> order_of(const InverseFactor& factor, int64_t cols) {
  if (!factor.order.empty()) return factor.order;
  std::vector<int64_t> order(static_cast<size_t>(cols));
  std::iota(order.begin(), order.end(), 0);
  return order;
}

// The nearest of all values that a weight of an affine matrix can take under the matrix's scales.
class AffineLevels {
 public:
  explicit AffineLevels(const AffineMatrix& matrix) : matrix_(matrix) {}

  double operator()(int64_t row, int64_t column, double weight) const {
    const auto [scale, zero] = parameters(row, column);
    double best = 0, distance = INFINITY;
    for (int code = 0; code < 1 << matrix_.scheme.bits; ++code) {
      const double value = (code - zero) * scale;
      if (std::abs(value - weight) < distance) {
        distance = std::abs(value - weight);
        best = value;
      }
    }
    return best;
  }

 private:
  std::pair<double, double> parameters(int64_t row, int64_t column) const {
    const AffineScheme& scheme = matrix_.scheme;
    const int64_t groups = static_cast<int64_t>(matrix_.scales.size());
    int64_t group;
    if (scheme.axis == 0) {
      group = (row * matrix_.cols + column) % groups;
    } else {
      const int64_t size = scheme.group_size == 0 ? matrix_.cols : scheme.group_size;
      group = row * (groups / matrix_.rows) +
              (matrix_.group_of_column.empty() ? column / size : matrix_.group_of_column[column]);
    }
    return {matrix_.scales[group], matrix_.zeros[group]};
  }

  const AffineMatrix& matrix_;
};

// The same for GGUF blocks: every code in turn is put everywhere and decoded.
class GgufLevels {
 public:
  explicit GgufLevels(const QuantizedMatrix& matrix) : cols_(matrix.cols) {
    const GgufType type = stored_type(matrix.scheme.gguf, matrix.cols);
    const GgufTypeTraits& traits = traits_of(type);
    for (int code = 0; code < 256; ++code) {
      std::vector<std::byte> blocks = matrix.blocks;
      const std::vector<uint8_t> codes(256, static_cast<uint8_t>(code));
      if (code >= code_count(type)) break;
      for (size_t at = 0; at < blocks.size(); at += static_cast<size_t>(traits.block_bytes))
        codec_of(type).codes->write_codes(codes.data(), blocks.data() + at);
      values_.emplace_back(static_cast<size_t>(matrix.rows * matrix.cols));
      decode_gguf(type, blocks.data(), matrix.rows * matrix.cols, values_.back().data());
    }
  }

  double operator()(int64_t row, int64_t column, double weight) const {
    double best = values_.front()[row * cols_ + column];
    for (const std::vector<float>& values : values_)
      if (std::abs(values[row * cols_ + column] - weight) < std::abs(best - weight))
        best = values[row * cols_ + column];
    return best;
  }

 private:
  static int code_count(GgufType type) {
    const std::map<GgufType, int> counts = {
        {GgufType::Q2_K, 4},  {GgufType::Q3_K, 8},   {GgufType::Q4_K, 16},  {GgufType::Q5_K, 32},
        {GgufType::Q6_K, 64}, {GgufType::Q4_0, 16},  {GgufType::Q4_1, 16},  {GgufType::Q5_0, 32},
        {GgufType::Q5_1, 32}, {GgufType::Q8_0, 255}, {GgufType::IQ4_NL, 16}};
    return counts.at(type);
  }

  int64_t cols_;
  std::vector<std::vector<float>> values_;
};

int64_t rows_that_differ(const Doubles& expected, const std::vector<float>& values, int64_t cols) {
  int64_t different = 0;
  for (size_t row = 0; row < values.size(); row += static_cast<size_t>(cols)) {
    bool same = true;
    for (size_t i = row; i < row + static_cast<size_t>(cols); ++i)
      same = same && std::abs(expected[i] - values[i]) <= 1e-6;
    different += same ? 0 : 1;
  }
  return different;
}

struct Variant {
  const char* scheme;
  ActOrder act_order = ActOrder::Off;
  GroupScales scales = GroupScales::AsReached;
};

GptqOptions options_of(const Variant& variant) {
  GptqOptions options;
  options.act_order = variant.act_order;
  options.scales = variant.scales;
  return options;
}

// A weight within float's rounding of a tie may take the other code, and its row then goes its own way.
constexpr int64_t kTies = 2;

// With the scales that GPTQ chose, the textbook's procedure takes the same codes.
TEST(GptqTest, EqualsTextbookObqInDoublePrecision) {
  const int64_t rows = 21, cols = 200;  // more than one block, a last partial group, a last partial tile
  const Case made = make_case(rows, cols, 7);
  for (const Variant& variant :
       {Variant{"w3g32"}, Variant{"w4g64s"}, Variant{"w2g128", ActOrder::Off, GroupScales::Static},
        Variant{"w4row"}, Variant{"w3g32z"}, Variant{"w3g32", ActOrder::Static},
        Variant{"w3g32", ActOrder::Reordered}, Variant{"w4row", ActOrder::Reordered}, Variant{"w3g32m"},
        Variant{"w3g32a0", ActOrder::Static}}) {
    const GptqOptions options = options_of(variant);
    const InverseFactor factor = factor_inverse(made.moments, options);
    const QuantizedMatrix matrix = gptq(made.weights.view(), factor, parse_scheme(variant.scheme), options);
    const Doubles expected = textbook_obq(made.weights, damped(made.moments, options.damping),
                                          order_of(factor, cols), AffineLevels(matrix.affine));
    EXPECT_LE(rows_that_differ(expected, values_of(matrix), cols), kTies) << variant.scheme;
    EXPECT_EQ(matrix.affine.group_of_column.empty(),
              variant.act_order != ActOrder::Reordered || std::string(variant.scheme) == "w4row");
  }
}

// The rows of each width are those of GPTQ at that width: rows do not touch each other.
TEST(GptqTest, MixedRowsAreQuantizedAtTheirWidths) {
  const int64_t rows = 19, cols = 160;
  const Case made = make_case(rows, cols, 9);
  std::vector<float> impact(rows);
  for (int64_t r = 0; r < rows; ++r) impact[r] = static_cast<float>(r * 7 % rows);
  for (const auto& [mixed, low, high] :
       {std::tuple("w2g32+w3@0.3", "w2g32", "w3g32"), std::tuple("w2rows+w4@0.1", "w2rows", "w4rows"),
        std::tuple("w3g64z+w4@1", "w3g64z", "w4g64z")}) {
    const GptqOptions options;
    const InverseFactor factor = factor_inverse(made.moments, options);
    const QuantizedMatrix matrix =
        gptq(made.weights.view(), factor, parse_scheme(mixed), options, impact.data());
    const std::vector<float> values = values_of(matrix);
    const std::vector<float> at_low =
        values_of(gptq(made.weights.view(), factor, parse_scheme(low), options));
    const std::vector<float> at_high =
        values_of(gptq(made.weights.view(), factor, parse_scheme(high), options));
    const int64_t count = parse_scheme(mixed).high_row_count(rows);
    EXPECT_EQ(static_cast<int64_t>(matrix.mixed.high_rows.size()), count);
    for (int64_t r = 0; r < rows; ++r) {
      const std::vector<float>& expected = impact[r] >= static_cast<float>(rows - count) ? at_high : at_low;
      for (int64_t i = r * cols; i < (r + 1) * cols; ++i)
        ASSERT_NEAR(values[i], expected[i], 1e-6) << mixed << " row " << r;
    }
  }
}

TEST(GptqTest, GgufTypesEqualTextbookObqInDoublePrecision) {
  const int64_t rows = 18;
  for (const Variant& variant :
       {Variant{"Q2_K"}, Variant{"Q3_K"}, Variant{"Q4_K"}, Variant{"Q5_K"}, Variant{"Q6_K"}, Variant{"Q4_0"},
        Variant{"Q4_1"}, Variant{"Q5_0"}, Variant{"Q5_1"}, Variant{"IQ4_NL"}, Variant{"Q8_0"},
        Variant{"Q3_K", ActOrder::Off, GroupScales::Static}, Variant{"Q4_K", ActOrder::Static}}) {
    const int64_t cols = std::string(variant.scheme).back() == 'K' ? 512 : 288;
    const Case made = make_case(rows, cols, 11);
    const GptqOptions options = options_of(variant);
    const InverseFactor factor = factor_inverse(made.moments, options);
    const QuantizedMatrix matrix = gptq(made.weights.view(), factor, parse_scheme(variant.scheme), options);
    const Doubles expected = textbook_obq(made.weights, damped(made.moments, options.damping),
                                          order_of(factor, cols), GgufLevels(matrix));
    EXPECT_LE(rows_that_differ(expected, values_of(matrix), cols), kTies) << variant.scheme;
  }
}

// The least-squares reply of the columns after the first 256 to the error of these, by the definition: the
// change d of W_R with the least tr((e, d) H (e, d)^T) is -e H_BR H_RR^-1.
Matrix<float> after_the_first_block(const Matrix<float>& weights, const std::vector<float>& rounded,
                                    const std::vector<Doubles>& h) {
  const size_t n = h.size(), block = 256;
  std::vector<Doubles> later(n - block);
  for (size_t r = block; r < n; ++r) later[r - block].assign(h[r].begin() + block, h[r].end());
  const std::vector<Doubles> inverse = inverse_of(later);
  Matrix<float> result(weights.rows, static_cast<int64_t>(n - block));
  for (int64_t row = 0; row < weights.rows; ++row) {
    Doubles products(n - block, 0);
    for (size_t b = 0; b < block; ++b) {
      const size_t at = static_cast<size_t>(row) * n + b;
      for (size_t r = block; r < n; ++r)
        products[r - block] += (static_cast<double>(weights.values[at]) - rounded[at]) * h[b][r];
    }
    for (size_t r = 0; r < n - block; ++r) {
      double change = 0;
      for (size_t k = 0; k < n - block; ++k) change += products[k] * inverse[k][r];
      result.values[static_cast<size_t>(row) * (n - block) + r] =
          static_cast<float>(weights.values[static_cast<size_t>(row) * n + block + r] + change);
    }
  }
  return result;
}

TEST(GptqTest, GridTypesAreEncodedInBlocksThatMakeUpForEarlierOnes) {
  const int64_t rows = 18, cols = 512;
  const Case made = make_case(rows, cols, 11);
  const InverseFactor factor = factor_inverse(made.moments, {});
  for (const char* name : {"IQ4_XS", "IQ3_S", "IQ3_XXS", "IQ2_S", "IQ2_XS", "IQ2_XXS"}) {
    const Scheme scheme = parse_scheme(name);
    const std::vector<float> values = values_of(gptq(made.weights.view(), factor, scheme, {}));
    QuantizerOptions weighed;
    weighed.importance = factor.column_weights.data();
    const std::vector<float> alone = values_of(quantize_matrix(made.weights.view(), scheme, weighed));
    const Matrix<float> later = after_the_first_block(made.weights, values, damped(made.moments, 0.01));
    weighed.importance += 256;
    const std::vector<float> expected = values_of(quantize_matrix(later.view(), scheme, weighed));
    int64_t differing = 0;
    for (int64_t r = 0; r < rows; ++r) {
      EXPECT_TRUE(
          std::equal(values.begin() + r * cols, values.begin() + r * cols + 256, alone.begin() + r * cols));
      differing += !std::equal(values.begin() + r * cols + 256, values.begin() + (r + 1) * cols,
                               expected.begin() + r * 256);
    }
    EXPECT_LE(differing, kTies) << name;
    EXPECT_LT(output_error(made.weights, values, made.moments),
              0.9 * output_error(made.weights, alone, made.moments))
        << name;
  }
}

TEST(GptqTest, OutputErrorIsFarBelowThatOfRoundToNearestAndHqq) {
  const Case made = make_case(32, 256, 3);
  for (const char* scheme :
       {"w2g64", "w3g128", "w4g64z", "w4g32s", "w3row", "w4g64m", "Q2_K", "Q4_0", "IQ4_NL"}) {
    const InverseFactor factor = factor_inverse(made.moments, {});
    const QuantizedMatrix matrix = gptq(made.weights.view(), factor, parse_scheme(scheme), {});
    const double error = output_error(made.weights, values_of(matrix), made.moments);
    for (const char* other : {"rtn", "hqq"}) {
      QuantizerOptions plain;
      plain.name = other;
      const QuantizedMatrix rounded = quantize_matrix(made.weights.view(), parse_scheme(scheme), plain);
      EXPECT_LT(error, 0.6 * output_error(made.weights, values_of(rounded), made.moments)) << scheme << other;
    }
  }
}

TEST(GptqTest, WithoutCorrelationsItRoundsToNearest) {
  const Case made = make_case(16, 96, 5);
  const InverseFactor factor = factor_inverse(at::zeros({96, 96}), {});  // no input was ever seen
  const QuantizedMatrix matrix = gptq(made.weights.view(), factor, parse_scheme("w3g32"), {});
  const AffineLevels nearest(matrix.affine);
  const std::vector<float> values = values_of(matrix);
  for (int64_t i = 0; i < made.weights.size(); ++i)
    EXPECT_NEAR(values[i], nearest(i / 96, i % 96, made.weights.values[i]), 1e-6);
}

// Features that never differ from zero, and features that are copies of each other, leave H singular.
TEST(GptqTest, SingularMomentsAreDamped) {
  Case made = make_case(16, 64, 9);
  made.moments.narrow(0, 10, 1).zero_();
  made.moments.narrow(1, 10, 1).zero_();
  made.moments.narrow(0, 20, 1).copy_(made.moments.narrow(0, 21, 1));
  made.moments.narrow(1, 20, 1).copy_(made.moments.narrow(1, 21, 1));
  GptqOptions options;
  options.damping = 0;
  const QuantizedMatrix matrix =
      gptq(made.weights.view(), factor_inverse(made.moments, options), parse_scheme("w4g32"), options);
  for (const float value : values_of(matrix)) EXPECT_TRUE(std::isfinite(value));
}

TEST(GptqTest, BadInputIsRefusedInOneSentence) {
  Case made = make_case(8, 256, 1);
  GptqOptions reordered;
  reordered.act_order = ActOrder::Reordered;
  const InverseFactor factor = factor_inverse(made.moments, reordered);
  EXPECT_EQ(error_of([&] { gptq(made.weights.view(), factor, parse_scheme("Q4_K"), reordered); }),
            "Q4_K cannot store groups of columns in the order of their activations; use static scales "
            "(--act-order static)");
  EXPECT_NE(error_of([&] {
              factor_inverse(at::full({4, 4}, NAN), {});
            }).find("not finite"),
            std::string::npos);
  EXPECT_NE(error_of([&] { factor_inverse(at::ones({4, 3}), {}); }).find("square"), std::string::npos);
  EXPECT_NE(error_of([&] {
              gptq(made.weights.view(), factor_inverse(at::eye(8), {}), parse_scheme("w4g32"), {});
            }).find("256 columns"),
            std::string::npos);
  made.weights.values[300] = INFINITY;
  for (const char* scheme : {"w4g32", "w4row", "Q4_K", "F16"})
    EXPECT_NE(error_of([&] {
                gptq(made.weights.view(), factor_inverse(made.moments, {}), parse_scheme(scheme), {});
              }).find("row 1, column 44"),
              std::string::npos)
        << scheme;
  OptionValues values;
  EXPECT_NE(error_of([&] { gptq_options(values).front().set("on"); }).find("static"), std::string::npos);
}

}  // namespace
}  // namespace strata
