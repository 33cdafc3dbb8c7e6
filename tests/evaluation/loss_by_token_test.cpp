#include "strata/evaluation/loss_by_token.h"

#include <gtest/gtest.h>

namespace strata {
namespace {

// Ids are letters.
class Letters final : public Tokenizer {
 public:
  std::vector<int32_t> encode(std::string_view text, bool) const override {
    return {text.begin(), text.end()};
  }
  std::string decode(const std::vector<int32_t>& ids) const override { return {ids.begin(), ids.end()}; }
};

TEST(LossByToken, NamesTheWorstInTheirPlacesAndAveragesByPlace) {
  const Letters letters;
  const std::vector<int32_t> ids = letters.encode("abcdefghij", false);
  EvaluationOptions options;
  options.window = 4;  // abcd and efgh: bcd and fgh are predicted
  const LossByToken losses = loss_by_token({1, 2, 3, 5, 0, 9}, ids, options, letters, 2);
  EXPECT_EQ(losses.by_position, (std::vector<double>{0, 3, 1, 6}));
  ASSERT_EQ(losses.worst.size(), 2u);
  EXPECT_EQ(losses.worst[0].text, "h");
  EXPECT_EQ(losses.worst[0].divergence, 9);
  EXPECT_EQ(losses.worst[0].before, "abcdefg");
  EXPECT_EQ(losses.worst[0].after, "ij");
  EXPECT_EQ(losses.worst[1].text, "f");
}

TEST(LossByToken, CountsTokensOfWindowsThatOverlapOnce) {
  const Letters letters;
  const std::vector<int32_t> ids = letters.encode("abcdefgh", false);
  EvaluationOptions options;
  options.window = 4;
  options.stride = 2;  // abcd, cdef, efgh: bcd, ef, gh
  const LossByToken losses = loss_by_token({1, 2, 3, 4, 5, 6, 7}, ids, options, letters, 9);
  EXPECT_EQ(losses.by_position, (std::vector<double>{0, 1, 4, 5}));
  ASSERT_EQ(losses.worst.size(), 7u);
  EXPECT_EQ(losses.worst[0].text, "h");
  EXPECT_EQ(losses.worst[6].text, "b");
}

}  // namespace
}  // namespace strata
