#include "strata/core/threads.h"

#include <gtest/gtest.h>

#include <mutex>
#include <set>
#include <vector>

#include "strata/core/error.h"

namespace strata {
namespace {

class ThreadsTest : public testing::Test {
 protected:
  void TearDown() override { set_thread_count(0); }
};

TEST_F(ThreadsTest, CoversEveryItemOnceInChunksThatDoNotDependOnThreads) {
  std::set<std::pair<int64_t, int64_t>> chunks[2];
  for (int threads : {1, 3}) {
    set_thread_count(threads);
    std::mutex mutex;
    parallel_for(103, 10, [&](int64_t begin, int64_t end) {
      const std::lock_guard<std::mutex> lock(mutex);
      chunks[threads / 2].insert({begin, end});
    });
  }
  EXPECT_EQ(chunks[0], chunks[1]);
  ASSERT_EQ(chunks[0].size(), 11u);
  EXPECT_EQ(*chunks[0].rbegin(), std::make_pair(int64_t{100}, int64_t{103}));
}

TEST_F(ThreadsTest, RethrowsTheBodysException) {
  set_thread_count(2);
  EXPECT_THROW(parallel_for(8, 1,
                            [](int64_t begin, int64_t) {
                              if (begin == 5) fail("five");
                            }),
               Error);
}

TEST_F(ThreadsTest, EmptyRangesDoNothing) {
  parallel_for(0, 4, [](int64_t, int64_t) { FAIL(); });
}

}  // namespace
}  // namespace strata
