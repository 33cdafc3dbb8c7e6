#include "strata/checkpoint/sliced_checkpoint.h"

#include <gtest/gtest.h>

#include "tests/support/error_of.h"

namespace strata {
namespace {

// Tensors whose values are their numbers, from 0 on.
class Counting : public Checkpoint {
 public:
  explicit Counting(std::vector<TensorInfo> tensors) : tensors_(std::move(tensors)) {}

  const std::vector<TensorInfo>& tensors() const override { return tensors_; }
  const std::filesystem::path& path() const override { return path_; }
  void read_rows(const TensorInfo& tensor, int64_t first, int64_t count, float* target) const override {
    for (int64_t i = 0; i < count * tensor.cols(); ++i)
      target[i] = static_cast<float>(first * tensor.cols() + i);
  }

 private:
  std::vector<TensorInfo> tensors_;
  std::filesystem::path path_ = "counted";
};

TensorInfo tensor(const std::string& name, std::vector<int64_t> shape) {
  TensorInfo info;
  info.name = name;
  info.shape = std::move(shape);
  info.type = "F32";
  info.bytes = static_cast<uint64_t>(info.elements()) * 4;
  return info;
}

// Three matrices [8, 5], or [5, 8] where columns are taken, of which "rows" are 1, 3 and 5.
SlicedStack stack_of(bool columns, bool transposed) {
  SlicedStack stack{"rows", 3, 3, 5, {"whole", 1, 2, 3, 8, columns, transposed}};
  if (columns != transposed) std::swap(stack.rows, stack.cols);
  return stack;
}

// The value of the whole tensor at row or column `taken` of matrix m, and place i in it.
float value_at(bool columns, int64_t m, int64_t taken, int64_t i) {
  return static_cast<float>(m * 40 + (columns ? i * 8 + taken : taken * 5 + i));
}

TEST(SlicedCheckpoint, PresentsRowsAndColumnsOfEveryMatrix) {
  for (const bool columns : {false, true})
    for (const bool transposed : {false, true}) {
      const std::vector<int64_t> whole =
          columns ? std::vector<int64_t>{3, 5, 8} : std::vector<int64_t>{3, 8, 5};
      const auto base = std::make_shared<Counting>(std::vector<TensorInfo>{tensor("whole", whole)});
      const SlicedStack stack = stack_of(columns, transposed);
      const SlicedCheckpoint sliced(base, {stack});
      ASSERT_EQ(sliced.tensors().size(), 1u);
      EXPECT_EQ(sliced.info("rows").shape, (std::vector<int64_t>{3 * stack.rows, stack.cols}));
      const std::vector<float> all = sliced.read("rows");
      const bool in_rows = columns == transposed;
      for (int64_t m = 0; m < 3; ++m)
        for (int64_t taken = 0; taken < 3; ++taken)
          for (int64_t i = 0; i < 5; ++i) {
            const int64_t place = m * 15 + (in_rows ? taken * 5 + i : i * 3 + taken);
            EXPECT_EQ(all[static_cast<size_t>(place)], value_at(columns, m, 1 + 2 * taken, i));
          }
      // Some rows are those of all.
      std::vector<float> some(static_cast<size_t>(4 * stack.cols));
      sliced.read_rows(sliced.info("rows"), 2, 4, some.data());
      for (size_t i = 0; i < some.size(); ++i)
        EXPECT_EQ(some[i], all[i + static_cast<size_t>(2 * stack.cols)]);
      EXPECT_NE(error_of([&] { sliced.read_rows(sliced.info("rows"), 3 * stack.rows, 1, some.data()); }), "");
    }
}

TEST(SlicedCheckpoint, PresentsValuesOfEveryVector) {
  const auto base = std::make_shared<Counting>(std::vector<TensorInfo>{tensor("whole", {2, 6})});
  const SlicedCheckpoint sliced(base, {{"odd", 2, 3, 0, {"whole", 1, 2, 3, 6}}});
  EXPECT_EQ(sliced.info("odd").shape, std::vector<int64_t>{6});
  EXPECT_EQ(sliced.read("odd"), (std::vector<float>{1, 3, 5, 7, 9, 11}));
}

TEST(SlicedCheckpoint, NamesWhatIsMissingOrOfAnotherShape) {
  const auto base = std::make_shared<Counting>(std::vector<TensorInfo>{tensor("whole", {3, 8, 6})});
  EXPECT_NE(error_of([&] {
              SlicedCheckpoint(base, {stack_of(false, false)});
            }).find("whole has shape [3, 8, 6], but the config asks for [3, 8, 5]"),
            std::string::npos);
  SlicedStack other = stack_of(false, false);
  other.slice.name = "nothing";
  EXPECT_NE(error_of([&] {
              SlicedCheckpoint(base, {other});
            }).find("no tensor nothing, in which rows was expected"),
            std::string::npos);
}

// A tensor that is sliced and joined is what it was.
TEST(JoinedCheckpoint, IsTheOtherWayRound) {
  const auto base = std::make_shared<Counting>(std::vector<TensorInfo>{tensor("whole", {24, 5})});
  const std::vector<SlicedStack> parts = {{"upper", 3, 5, 2, {"whole", 0, 1, 2, 8, false, true}},
                                          {"lower", 3, 6, 5, {"whole", 2, 1, 6, 8, false, false}}};
  const auto sliced = std::make_shared<SlicedCheckpoint>(base, parts);
  EXPECT_EQ(sliced->tensors().size(), 2u);
  const JoinedCheckpoint joined(sliced, {{"again", parts}});
  ASSERT_EQ(joined.tensors().size(), 1u);
  EXPECT_EQ(joined.info("again").shape, base->info("whole").shape);
  EXPECT_EQ(joined.read("again"), base->read("whole"));
  std::vector<float> rows(4 * 5);
  joined.read_rows(joined.info("again"), 6, 4, rows.data());
  EXPECT_EQ(rows.front(), 30);
  EXPECT_EQ(rows.back(), 49);
}

}  // namespace
}  // namespace strata
