#include "strata/checkpoint/renamed_checkpoint.h"

#include "strata/core/error.h"
#include "strata/core/text.h"

namespace strata {

RenamedCheckpoint::RenamedCheckpoint(std::shared_ptr<const Checkpoint> base, std::string stored,
                                     const std::string& name)
    : CheckpointView(std::move(base)), stored_(std::move(stored)), tensors_(base_->tensors()) {
  if (base_->contains(name)) fail("{} already has a tensor {}", path().string(), printable(name));
  while (place_ < tensors_.size() && tensors_[place_].name != stored_) ++place_;
  if (place_ == tensors_.size()) fail("{} has no tensor {}", path().string(), printable(stored_));
  tensors_[place_].name = name;
}

const TensorInfo* RenamedCheckpoint::find(const std::string& name) const {
  if (is_renamed(name)) return &tensors_[place_];
  return name == stored_ ? nullptr : base_->find(name);
}

bool RenamedCheckpoint::altered(const std::string& name) const {
  return base_->altered(is_renamed(name) ? stored_ : name);
}

void RenamedCheckpoint::read_rows(const TensorInfo& tensor, int64_t first, int64_t count,
                                  float* target) const {
  base_->read_rows(is_renamed(tensor.name) ? base_->info(stored_) : tensor, first, count, target);
}

void RenamedCheckpoint::read_bytes(const TensorInfo& tensor, uint64_t first, uint64_t count,
                                   std::byte* target) const {
  base_->read_bytes(is_renamed(tensor.name) ? base_->info(stored_) : tensor, first, count, target);
}

}  // namespace strata
