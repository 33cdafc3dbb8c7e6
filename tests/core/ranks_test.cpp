#include "strata/core/ranks.h"

#include <gtest/gtest.h>

#include <deque>

#include "strata/core/error.h"
#include "tests/support/error_of.h"

namespace strata {
namespace {

// One of several ranks, whose others say what they are told to.
class ScriptedLink : public RankLink {
 public:
  ScriptedLink(int rank, int count) : rank_(rank), count_(count) {}
  int rank() const override { return rank_; }
  int count() const override { return count_; }
  void send(int to, const std::string& bytes) override { sent.emplace_back(to, bytes); }
  std::string receive(int) override {
    std::string bytes = received.front();
    received.pop_front();
    return bytes;
  }
  [[noreturn]] void stop_all(int) override { throw Error("stopped"); }

  std::deque<std::string> received;
  std::vector<std::pair<int, std::string>> sent;

 private:
  int rank_, count_;
};

class SeveralRanks : public testing::Test {
 protected:
  ScriptedLink& link(int rank, int count) {
    auto link = std::make_unique<ScriptedLink>(rank, count);
    ScriptedLink& scripted = *link;
    set_rank_link(std::move(link));
    return scripted;
  }
  ~SeveralRanks() override { set_rank_link(nullptr); }
};

TEST_F(SeveralRanks, OneRankHasEverything) {
  EXPECT_EQ(rank_count(), 1);
  EXPECT_TRUE(is_first_rank());
  EXPECT_EQ(broadcast("a"), "a");
  EXPECT_EQ(gather("a"), std::vector<std::string>{"a"});
  EXPECT_EQ(deal({3, 1, 2}), (std::vector<int>{0, 0, 0}));
}

TEST_F(SeveralRanks, LongTasksAreDealtFirst) {
  link(0, 2);
  // 5 | 4, then 3 to the second, 3 to the first, 3 to the second.
  EXPECT_EQ(deal({3, 3, 3, 4, 5}), (std::vector<int>{1, 0, 1, 1, 0}));
  link(2, 3);
  EXPECT_EQ(deal({1, 1, 1, 1}), (std::vector<int>{0, 1, 2, 0}));
}

TEST_F(SeveralRanks, RankZeroCollectsInTheOrderOfTheRanks) {
  ScriptedLink& first = link(0, 3);
  first.received = {"b", ""};
  const std::vector<std::string> all = {"a", "b", ""};
  EXPECT_EQ(gather("a"), all);
  ASSERT_EQ(first.sent.size(), 2u);
  EXPECT_EQ(unpack(first.sent[0].second), all);
  EXPECT_EQ(first.sent[1], std::make_pair(2, first.sent[0].second));
}

TEST_F(SeveralRanks, AnotherRankHandsOverItsOwnAndTakesAll) {
  ScriptedLink& second = link(1, 3);
  const std::vector<std::string> all = {"a", "b", "c"};
  second.received = {pack(all)};
  EXPECT_EQ(gather("b"), all);
  EXPECT_EQ(second.sent, (std::vector<std::pair<int, std::string>>{{0, "b"}}));
}

TEST_F(SeveralRanks, RankZeroIsAloneWhileOthersWait) {
  ScriptedLink& first = link(0, 2);
  EXPECT_EQ(from_first_rank([] { return std::to_string(rank_count()); }), "1");
  EXPECT_EQ(rank_count(), 2);
  EXPECT_EQ(first.sent, (std::vector<std::pair<int, std::string>>{{1, "1"}}));
  EXPECT_THROW(from_first_rank([]() -> std::string { throw Error("no"); }), Error);
  EXPECT_EQ(rank_count(), 2);
}

TEST_F(SeveralRanks, FactsThatDifferAreNamed) {
  link(0, 2).received = {"2"};
  const std::string error = error_of([] { require_same("the checkpoint", "1"); });
  EXPECT_NE(error.find("the checkpoint of rank 1"), std::string::npos) << error;
  link(0, 2).received = {"1"};
  require_same("the checkpoint", "1");
}

TEST_F(SeveralRanks, CutBytesAreRefused) {
  const std::string bytes = pack({"abc", "", "de"});
  EXPECT_EQ(unpack(bytes), (std::vector<std::string>{"abc", "", "de"}));
  for (const size_t size : {bytes.size() - 1, size_t{5}}) EXPECT_THROW(unpack(bytes.substr(0, size)), Error);
}

}  // namespace
}  // namespace strata
