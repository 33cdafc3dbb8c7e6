#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "strata/checkpoint/checkpoint.h"

namespace strata {

// A checkpoint some of whose vectors (norms, biases) have other values.
class ReplacedCheckpoint : public Checkpoint {
 public:
  // Throws where a tensor is missing, is no vector or has another size.
  ReplacedCheckpoint(std::shared_ptr<const Checkpoint> base,
                     std::map<std::string, std::vector<float>> vectors);

  const std::vector<TensorInfo>& tensors() const override { return base_->tensors(); }
  const std::filesystem::path& path() const override { return base_->path(); }
  void read_rows(const TensorInfo& tensor, int64_t first, int64_t count, float* target) const override;
  void read_bytes(const TensorInfo& tensor, uint64_t first, uint64_t count,
                  std::byte* target) const override {
    base_->read_bytes(tensor, first, count, target);
  }
  const TensorInfo* find(const std::string& name) const override { return base_->find(name); }
  bool altered(const std::string& name) const override {
    return vectors_.count(name) > 0 || base_->altered(name);
  }

 private:
  std::shared_ptr<const Checkpoint> base_;
  std::map<std::string, std::vector<float>> vectors_;
};

}  // namespace strata
