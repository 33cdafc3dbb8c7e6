#include "strata/checkpoint/offset_checkpoint.h"

namespace strata {

void OffsetCheckpoint::read_rows(const TensorInfo& tensor, int64_t first, int64_t count,
                                 float* target) const {
  base_->read_rows(tensor, first, count, target);
  const auto found = offsets_.find(tensor.name);
  if (found == offsets_.end()) return;
  for (int64_t i = 0; i < count * tensor.cols(); ++i) target[i] += found->second;
}

}  // namespace strata
