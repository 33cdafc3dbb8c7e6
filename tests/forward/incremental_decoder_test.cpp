#include "strata/forward/incremental_decoder.h"

#include <gtest/gtest.h>

#include "strata/core/error.h"
#include "strata/core/random.h"
#include "tests/support/temporary_directory.h"
#include "tests/support/tiny_model.h"

namespace strata {
namespace {

TEST(IncrementalDecoder, GivesTheLogitsOfTheWholeSequence) {
  for (const int64_t sliding_window : {0, 3}) {
    TemporaryDirectory directory;
    TinyModel tiny;
    tiny.architecture = "mistral";
    if (sliding_window > 0) tiny.config["sliding_window"] = sliding_window;
    write_tiny_model(directory.path(), tiny);
    const Model model = open_model(directory.path());
    ASSERT_EQ(model.config.sliding_window, sliding_window);
    Decoder decoder(model, {});
    Random random(2);
    at::Tensor ids = at::empty({3, 9}, at::kLong);
    for (int64_t i = 0; i < ids.numel(); ++i) ids.view({-1})[i] = static_cast<int64_t>(random.below(64));
    const at::Tensor expected = decoder.forward(ids);
    IncrementalDecoder incremental(decoder, 3, 9);
    for (int64_t t = 0; t < 9; ++t)
      EXPECT_TRUE(at::allclose(incremental.step(ids.select(1, t)), expected.select(1, t), 1e-4, 1e-5)) << t;
    EXPECT_THROW(incremental.step(ids.select(1, 0)), Error);
  }
}

}  // namespace
}  // namespace strata
