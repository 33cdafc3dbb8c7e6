#include "strata/quantizers/row_pieces.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "strata/quantizers/gptq.h"
#include "tests/support/values_of.h"

namespace strata {
namespace {

// 1024, 1024 and 252 rows; GPTQ of all rows at once is the reference.
TEST(RowPieces, GptqOfPiecesIsThatOfTheMatrix) {
  at::manual_seed(1);
  const int64_t rows = 2300, cols = 256;
  const at::Tensor weights = at::randn({rows, cols}) * 0.02, inputs = at::randn({512, cols});
  const InverseFactor factor = factor_inverse(inputs.t().mm(inputs), {});
  const MatrixView<const float> view{weights.data_ptr<float>(), rows, cols};
  for (const char* name : {"w3g64", "w4g64s", "w4g64z", "q4_K", "q3_K", "iq4_xs", "w2g64+w3@0.1", "nf4"}) {
    SCOPED_TRACE(name);
    const Scheme scheme = parse_scheme(name);
    const auto quantize = [&](MatrixView<const float> some) { return gptq(some, factor, scheme, {}); };
    EXPECT_EQ(row_pieces(rows, scheme).size(), has_own_rows(scheme) ? 3u : 1u);
    const QuantizedMatrix made = quantize_rows(RowTask{view, scheme, quantize});
    EXPECT_EQ(made.rows, rows);
    EXPECT_EQ(values_of(made), values_of(quantize(view)));
    if (!has_own_rows(scheme)) continue;
    const QuantizedMatrix handed = piece_from(bytes_of(made), scheme, rows, cols);
    EXPECT_EQ(values_of(handed), values_of(made));
    EXPECT_EQ(handed.blocks, made.blocks);
    EXPECT_EQ(handed.affine.codes, made.affine.codes);
  }
}

TEST(RowPieces, GroupsInTheOrderOfTheirInputsAreHandedOver) {
  at::manual_seed(2);
  const int64_t rows = 40, cols = 128;
  const at::Tensor weights = at::randn({rows, cols}), inputs = at::randn({256, cols}) * at::rand({cols});
  GptqOptions options;
  options.act_order = ActOrder::Reordered;
  const InverseFactor factor = factor_inverse(inputs.t().mm(inputs), options);
  const Scheme scheme = parse_scheme("w4g32");
  const QuantizedMatrix made = gptq({weights.data_ptr<float>(), rows, cols}, factor, scheme, options);
  ASSERT_FALSE(made.affine.group_of_column.empty());
  const QuantizedMatrix handed = piece_from(bytes_of(made), scheme, rows, cols);
  EXPECT_EQ(handed.affine.group_of_column, made.affine.group_of_column);
  EXPECT_EQ(values_of(handed), values_of(made));
}

}  // namespace
}  // namespace strata
