#pragma once

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "strata/checkpoint/checkpoint.h"

namespace strata {

// Throws unless the tensor has rows [first, first + count).
void check_rows(const Checkpoint& checkpoint, const TensorInfo& tensor, int64_t first, int64_t count);

std::string listed_shape(const std::vector<int64_t>& shape);  // "[2, 3]"

// A checkpoint that presents another one; what is not overridden is as there.
class CheckpointView : public Checkpoint {
 public:
  const std::vector<TensorInfo>& tensors() const override { return base_->tensors(); }
  const std::filesystem::path& path() const override { return base_->path(); }
  void read_rows(const TensorInfo& tensor, int64_t first, int64_t count, float* target) const override {
    base_->read_rows(tensor, first, count, target);
  }
  void read_bytes(const TensorInfo& tensor, uint64_t first, uint64_t count,
                  std::byte* target) const override {
    base_->read_bytes(tensor, first, count, target);
  }
  const TensorInfo* find(const std::string& name) const override { return base_->find(name); }
  bool altered(const std::string& name) const override { return base_->altered(name); }

 protected:
  explicit CheckpointView(std::shared_ptr<const Checkpoint> base) : base_(std::move(base)) {}

  std::shared_ptr<const Checkpoint> base_;
};

}  // namespace strata
