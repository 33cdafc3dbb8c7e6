#pragma once

#include <memory>
#include <mutex>
#include <string>
#include <unordered_map>
#include <vector>

#include "strata/checkpoint/checkpoint_view.h"

namespace strata {

// Some rows of every matrix of a tensor that holds several, one below the other or in three dimensions: the
// one of number `first` and every step-th after it, `count` of the matrix's `of`; or columns, counted
// likewise.
struct MatrixSlice {
  std::string name;
  int64_t first = 0, step = 1, count = 0, of = 0;
  bool columns = false;
  bool transposed = false;  // the slice has rows and columns exchanged
};

// Matrices [rows, cols] one below the other, and the slices of a tensor's matrices that they are. Of vectors,
// which have no `cols`, the values count as rows.
struct SlicedStack {
  std::string name;
  int64_t matrices = 0, rows = 0, cols = 0;
  MatrixSlice slice;  // of the tensor with this name

  std::vector<int64_t> shape() const;            // of the stack
  std::vector<int64_t> sizes_of_whole() const;   // rows and columns of a matrix that the slice is of
  std::vector<int64_t> shape_of_wholes() const;  // of the tensor of all these
  // The slice out of one whole matrix, and into it.
  void take(const float* whole, float* part) const;
  void put(const float* part, float* whole) const;
};

// A checkpoint in which such slices are presented as tensors of their own, in the place of those that they
// are of, which can still be read by their names.
class SlicedCheckpoint : public CheckpointView {
 public:
  // Throws where a tensor is missing, or has another shape.
  SlicedCheckpoint(std::shared_ptr<const Checkpoint> base, const std::vector<SlicedStack>& stacks);

  const std::vector<TensorInfo>& tensors() const override { return tensors_; }
  void read_rows(const TensorInfo& tensor, int64_t first, int64_t count, float* target) const override;
  const TensorInfo* find(const std::string& name) const override;
  bool altered(const std::string& name) const override;

 private:
  std::vector<TensorInfo> tensors_;
  std::unordered_map<std::string, size_t> by_name_;  // of tensors_
  std::unordered_map<std::string, SlicedStack> stacks_;
  // The matrix read last: rows of one are mostly asked for one after the other.
  mutable std::mutex mutex_;
  mutable std::string read_;
  mutable int64_t read_matrix_ = -1;
  mutable std::vector<float> values_;
};

// The other way round: tensors of a checkpoint are presented as the one whose slices they are.
class JoinedCheckpoint : public CheckpointView {
 public:
  struct Joined {
    std::string name;
    std::vector<SlicedStack> stacks;  // by their names in the base
  };

  // Throws where a slice is missing, or has another shape.
  JoinedCheckpoint(std::shared_ptr<const Checkpoint> base, const std::vector<Joined>& joined);

  const std::vector<TensorInfo>& tensors() const override { return tensors_; }
  void read_rows(const TensorInfo& tensor, int64_t first, int64_t count, float* target) const override;
  const TensorInfo* find(const std::string& name) const override;

 private:
  std::vector<TensorInfo> tensors_;
  std::unordered_map<std::string, size_t> by_name_;
  std::unordered_map<std::string, std::vector<SlicedStack>> joined_;
};

}  // namespace strata
