// Layers without attention within their models: what is computed does not depend on threads or on how texts
// run together, to the last bit.

#include <ATen/core/grad_mode.h>
#include <gtest/gtest.h>

#include "strata/core/threads.h"
#include "strata/forward/decoder.h"
#include "strata/forward/incremental_decoder.h"
#include "tests/support/architecture_models.h"
#include "tests/support/random_ids.h"

namespace strata {
namespace {

class Mixers : public testing::TestWithParam<const char*> {
 protected:
  ~Mixers() override { set_thread_count(threads_); }

  const Model model_ = open_model(architecture_model(GetParam()).directory);
  const at::Tensor ids_ = random_ids(3, 70, model_.config.vocab_size);
  const int threads_ = thread_count();
};

TEST_P(Mixers, HaveTheSameBitsWithAnyNumberOfThreads) {
  std::vector<at::Tensor> found;
  for (const int threads : {1, 2, 3}) {
    set_thread_count(threads);
    Decoder decoder(model_, {});
    found.push_back(decoder.forward(ids_));
    found.push_back(at::cat({decoder.forward(ids_.narrow(0, 0, 1)), decoder.forward(ids_.narrow(0, 1, 2))}));
  }
  for (const at::Tensor& other : found) EXPECT_TRUE(at::equal(other, found.front()));
}

TEST_P(Mixers, WriteSeveralTextsSideBySide) {
  Decoder decoder(model_, {});
  const at::Tensor whole = decoder.forward(ids_);
  std::vector<at::Tensor> last;
  for (const int threads : {1, 3}) {
    set_thread_count(threads);
    IncrementalDecoder incremental(decoder, 3, 70);
    for (int64_t t = 0; t < 70; ++t) {
      const at::Tensor logits = incremental.step(ids_.select(1, t));
      EXPECT_LT(relative_difference(logits, whole.select(1, t)), 1e-4) << t;
      if (t == 69) last.push_back(logits);
    }
  }
  EXPECT_TRUE(at::equal(last[0], last[1]));
}

INSTANTIATE_TEST_SUITE_P(Models, Mixers, testing::Values("granite4", "lfm2", "qwen3-5"),
                         [](const auto& name) { return test_name(name.param); });

}  // namespace
}  // namespace strata
