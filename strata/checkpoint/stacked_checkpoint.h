#pragma once

#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include "strata/checkpoint/checkpoint_view.h"

namespace strata {

// Matrices [rows, cols] one below the other, read as one [parts * rows, cols]; or vectors of `rows` values.
struct MatrixStack {
  std::string name;
  int64_t rows = 0, cols = 0;      // of one part; vectors have no `cols`
  std::vector<std::string> parts;  // names of tensors of that shape

  std::vector<int64_t> shape_of_part() const {
    return cols > 0 ? std::vector<int64_t>{rows, cols} : std::vector<int64_t>{rows};
  }
};

// A checkpoint some of whose matrices are presented as stacks. Parts are not listed any more, but can still
// be read by their names.
class StackedCheckpoint : public CheckpointView {
 public:
  // Throws where a part is missing, or has another shape.
  StackedCheckpoint(std::shared_ptr<const Checkpoint> base, std::vector<MatrixStack> stacks);

  const std::vector<TensorInfo>& tensors() const override { return tensors_; }
  void read_rows(const TensorInfo& tensor, int64_t first, int64_t count, float* target) const override;
  const TensorInfo* find(const std::string& name) const override;

 private:
  std::vector<TensorInfo> tensors_;
  std::unordered_map<std::string, size_t> by_name_;      // of tensors_
  std::unordered_map<std::string, MatrixStack> stacks_;  // by name
};

// The other way round: stacks of a checkpoint are presented as the matrices that they consist of.
class SplitCheckpoint : public CheckpointView {
 public:
  // Throws where a stack is missing, or has another shape.
  SplitCheckpoint(std::shared_ptr<const Checkpoint> base, const std::vector<MatrixStack>& stacks);

  const std::vector<TensorInfo>& tensors() const override { return tensors_; }
  void read_rows(const TensorInfo& tensor, int64_t first, int64_t count, float* target) const override;
  const TensorInfo* find(const std::string& name) const override;
  bool altered(const std::string& name) const override;

 private:
  struct Place {
    std::string stack;  // empty: a tensor of the base
    int64_t first_row = 0;
  };

  void add(TensorInfo info, Place place);

  std::vector<TensorInfo> tensors_;
  std::vector<Place> places_;  // one a tensor
  std::unordered_map<std::string, size_t> by_name_;
};

}  // namespace strata
