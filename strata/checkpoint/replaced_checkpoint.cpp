#include "strata/checkpoint/replaced_checkpoint.h"

#include <algorithm>

#include "strata/core/error.h"

namespace strata {

ReplacedCheckpoint::ReplacedCheckpoint(std::shared_ptr<const Checkpoint> base,
                                       std::map<std::string, std::vector<float>> vectors)
    : CheckpointView(std::move(base)), vectors_(std::move(vectors)) {
  for (const auto& [name, values] : vectors_) {
    const TensorInfo& tensor = info(name);
    if (tensor.shape.size() != 1 || tensor.cols() != static_cast<int64_t>(values.size()))
      fail("{} has {} values in {} dimensions, but a vector of {} values was given for it", name,
           tensor.elements(), tensor.shape.size(), values.size());
  }
}

void ReplacedCheckpoint::read_rows(const TensorInfo& tensor, int64_t first, int64_t count,
                                   float* target) const {
  const auto found = vectors_.find(tensor.name);
  if (found == vectors_.end()) return base_->read_rows(tensor, first, count, target);
  if (first != 0 || count != 1)
    fail("{} is a vector: rows {} to {} of it were asked for", tensor.name, first, first + count);
  std::copy(found->second.begin(), found->second.end(), target);
}

}  // namespace strata
