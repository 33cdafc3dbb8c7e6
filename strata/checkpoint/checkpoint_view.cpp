#include "strata/checkpoint/checkpoint_view.h"

#include <fmt/ranges.h>

#include "strata/core/error.h"
#include "strata/core/text.h"

namespace strata {

void check_rows(const Checkpoint& checkpoint, const TensorInfo& tensor, int64_t first, int64_t count) {
  if (first < 0 || count < 0 || first > tensor.rows() || count > tensor.rows() - first)
    fail("{}: rows {} to {} of tensor {} were asked for, which has {}", checkpoint.path().string(), first,
         first + count, printable(tensor.name), tensor.rows());
}

std::string listed_shape(const std::vector<int64_t>& shape) {
  return fmt::format("[{}]", fmt::join(shape, ", "));
}

}  // namespace strata
