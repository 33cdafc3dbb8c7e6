#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "strata/checkpoint/checkpoint_view.h"

namespace strata {

// Factors of a tensor's rows and columns; empty = one everywhere. A vector has columns only; a stack of
// matrices may have factors for the columns of each.
struct TensorScaling {
  std::vector<float> rows, cols;
};

// A checkpoint some of whose tensors are scaled as they are read. Those that were blocks of a GGUF are told
// to be F16, since no file holds their scaled values as blocks.
class ScaledCheckpoint : public CheckpointView {
 public:
  // Throws where a tensor is missing or factors do not fit its shape.
  ScaledCheckpoint(std::shared_ptr<const Checkpoint> base, std::map<std::string, TensorScaling> scalings);

  const std::vector<TensorInfo>& tensors() const override { return tensors_; }
  void read_rows(const TensorInfo& tensor, int64_t first, int64_t count, float* target) const override;
  const TensorInfo* find(const std::string& name) const override;
  bool altered(const std::string& name) const override { return scalings_.count(name) > 0; }

 private:
  std::map<std::string, TensorScaling> scalings_;
  std::vector<TensorInfo> tensors_;
  std::map<std::string, size_t> index_;
};

}  // namespace strata
