#pragma once

#include <memory>
#include <string>
#include <vector>

#include "strata/checkpoint/checkpoint_view.h"

namespace strata {

// A checkpoint one of whose tensors has another name.
class RenamedCheckpoint : public CheckpointView {
 public:
  // Throws where there is no tensor `stored`, or already one with the new name.
  RenamedCheckpoint(std::shared_ptr<const Checkpoint> base, std::string stored, const std::string& name);

  const std::vector<TensorInfo>& tensors() const override { return tensors_; }
  const TensorInfo* find(const std::string& name) const override;
  bool altered(const std::string& name) const override;
  void read_rows(const TensorInfo& tensor, int64_t first, int64_t count, float* target) const override;
  void read_bytes(const TensorInfo& tensor, uint64_t first, uint64_t count, std::byte* target) const override;

 private:
  bool is_renamed(const std::string& name) const { return name == tensors_[place_].name; }

  std::string stored_;
  std::vector<TensorInfo> tensors_;
  size_t place_ = 0;  // of the renamed one
};

}  // namespace strata
