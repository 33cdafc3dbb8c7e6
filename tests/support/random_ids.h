#pragma once

#include <ATen/ATen.h>

#include "strata/core/random.h"

namespace strata {

// Token ids [blocks, window] below `vocabulary`, always the same.
inline at::Tensor random_ids(int64_t blocks, int64_t window, int64_t vocabulary = 64) {
  Random random(5);
  at::Tensor ids = at::empty({blocks, window}, at::kLong);
  for (int64_t i = 0; i < ids.numel(); ++i)
    ids.data_ptr<int64_t>()[i] = static_cast<int64_t>(random.below(static_cast<uint64_t>(vocabulary)));
  return ids;
}

}  // namespace strata
