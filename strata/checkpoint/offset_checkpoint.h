#pragma once

#include <memory>
#include <string>
#include <unordered_map>

#include "strata/checkpoint/checkpoint.h"

namespace strata {

// A checkpoint some of whose vectors are stored less a number, which is added as they are read: the gains of
// norms that a file holds as their distance from 1.
class OffsetCheckpoint : public Checkpoint {
 public:
  OffsetCheckpoint(std::shared_ptr<const Checkpoint> base, std::unordered_map<std::string, float> offsets)
      : base_(std::move(base)), offsets_(std::move(offsets)) {}

  const std::vector<TensorInfo>& tensors() const override { return base_->tensors(); }
  const std::filesystem::path& path() const override { return base_->path(); }
  void read_rows(const TensorInfo& tensor, int64_t first, int64_t count, float* target) const override;
  void read_bytes(const TensorInfo& tensor, uint64_t first, uint64_t count,
                  std::byte* target) const override {
    base_->read_bytes(tensor, first, count, target);
  }
  const TensorInfo* find(const std::string& name) const override { return base_->find(name); }
  bool altered(const std::string& name) const override { return base_->altered(name); }

 private:
  std::shared_ptr<const Checkpoint> base_;
  std::unordered_map<std::string, float> offsets_;
};

}  // namespace strata
