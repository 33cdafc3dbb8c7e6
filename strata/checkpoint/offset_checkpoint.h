#pragma once

#include <memory>
#include <string>
#include <unordered_map>

#include "strata/checkpoint/checkpoint_view.h"

namespace strata {

// A checkpoint some of whose vectors are stored less a number, which is added as they are read: the gains of
// norms that a file holds as their distance from 1.
class OffsetCheckpoint : public CheckpointView {
 public:
  OffsetCheckpoint(std::shared_ptr<const Checkpoint> base, std::unordered_map<std::string, float> offsets)
      : CheckpointView(std::move(base)), offsets_(std::move(offsets)) {}

  void read_rows(const TensorInfo& tensor, int64_t first, int64_t count, float* target) const override;

 private:
  std::unordered_map<std::string, float> offsets_;
};

}  // namespace strata
