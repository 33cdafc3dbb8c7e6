#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <set>
#include <unordered_map>

#include "strata/checkpoint/sliced_checkpoint.h"
#include "strata/core/error.h"
#include "strata/core/text.h"
#include "strata/gguf/codec.h"
#include "strata/model/gguf_model.h"
#include "strata/model/gguf_names.h"
#include "strata/model/layout.h"

namespace strata {
namespace {

class GgufCheckpoint final : public Checkpoint {
 public:
  // Those of the config's tensors that are there, under their names in a checkpoint.
  GgufCheckpoint(std::shared_ptr<const GgufFile> file, const ModelConfig& config) : file_(std::move(file)) {
    std::unordered_map<std::string, const ExpectedTensor*> expected;
    const std::vector<ExpectedTensor> tensors = expected_tensors(config);
    for (const ExpectedTensor& tensor : tensors) expected[tensor.gguf_name] = &tensor;
    std::set<std::string> parts;  // of matrices that are joined behind this
    std::unordered_map<std::string, SlicedStack> slices;
    for (const ExpectedTensor& tensor : tensors) {
      parts.insert(tensor.gguf_parts.begin(), tensor.gguf_parts.end());
      for (SlicedStack& slice : gguf_slices(tensor)) slices[slice.name] = std::move(slice);
    }
    for (const GgufTensor& tensor : file_->tensors()) {
      if (parts.count(tensor.name) > 0) {
        add(tensor, tensor.name, tensor.shape);
        continue;
      }
      if (const auto slice = slices.find(tensor.name); slice != slices.end()) {
        add(tensor, tensor.name, stacked(tensor, slice->second.matrices, slice->second.shape()));
        continue;
      }
      const auto found = expected.find(tensor.name);
      if (found == expected.end()) continue;
      add(tensor, found->second->name, shape_of(tensor, *found->second));
      // A tensor whose size does not fit the config is not permuted: comparing shapes with the config will
      // refuse it.
      if (is_permuted(found->second->parts) && tensor.shape == found->second->shape)
        stored_rows_.back() = source_row_order(found->second->parts);
    }
  }

  // Names as they are.
  explicit GgufCheckpoint(std::shared_ptr<const GgufFile> file) : file_(std::move(file)) {
    for (const GgufTensor& tensor : file_->tensors()) {
      std::vector<int64_t> shape = tensor.shape;
      while (shape.size() > 2) flatten(shape);
      add(tensor, tensor.name, std::move(shape));
    }
  }

  const std::vector<TensorInfo>& tensors() const override { return infos_; }
  const std::filesystem::path& path() const override { return file_->path(); }

  const TensorInfo* find(const std::string& name) const override {
    const auto found = by_name_.find(name);
    return found == by_name_.end() ? nullptr : &infos_[found->second];
  }

  void read_rows(const TensorInfo& tensor, int64_t first, int64_t count, float* target) const override {
    const auto found = by_name_.find(tensor.name);
    if (found == by_name_.end()) fail("{} has no tensor {}", path().string(), printable(tensor.name));
    const TensorInfo& info = infos_[found->second];
    const GgufTensor& stored = *stored_[found->second];
    if (first < 0 || count < 0 || first > info.rows() || count > info.rows() - first)
      fail("{}: rows {} to {} of tensor {} were asked for, which has {}", path().string(), first,
           first + count, stored.name, info.rows());
    const std::vector<int64_t>& order = stored_rows_[found->second];
    if (order.empty())
      decode(stored, info, first, count, target);
    else if (info.shape.size() < 2)
      decode_permuted_vector(stored, info, order, target);
    else
      for (int64_t row = 0; row < count; ++row)
        decode(stored, info, order[static_cast<size_t>(first + row)], 1, target + row * info.cols());
    check_finite(stored, target, count * info.cols());
  }

 private:
  static void flatten(std::vector<int64_t>& shape) {
    shape[1] *= shape[0];
    shape.erase(shape.begin());
  }

  // The matrices of a stack one below the other; llama.cpp stores matrices of one row as vectors.
  std::vector<int64_t> shape_of(const GgufTensor& tensor, const ExpectedTensor& expected) const {
    if (expected.experts > 0) return stacked(tensor, expected.experts, expected.shape);
    if (!expected.gguf_shape.empty() && tensor.shape == expected.gguf_shape) return expected.shape;
    const bool is_row = expected.shape.size() == 2 && expected.shape.front() == 1;
    return is_row && tensor.shape.size() == 1 ? std::vector<int64_t>{1, tensor.shape.front()} : tensor.shape;
  }

  // `shape` is that of all matrices (or vectors), one below the other.
  std::vector<int64_t> stacked(const GgufTensor& tensor, int64_t matrices,
                               const std::vector<int64_t>& shape) const {
    std::vector<int64_t> apart = shape;
    apart.front() /= matrices;
    const std::vector<int64_t> of_one = apart;
    apart.insert(apart.begin(), matrices);
    if (tensor.shape != apart)
      fail("{}: the tensor {} has shape [{}], but the config asks for {} experts of [{}]", path().string(),
           printable(tensor.name), fmt::join(tensor.shape, ", "), matrices, fmt::join(of_one, ", "));
    return shape;
  }

  void add(const GgufTensor& tensor, const std::string& name, std::vector<int64_t> shape) {
    TensorInfo info;
    info.name = name;
    info.shape = std::move(shape);
    info.type = traits_of(tensor.type).name;
    info.bytes = tensor.bytes();
    by_name_[info.name] = infos_.size();
    infos_.push_back(std::move(info));
    stored_.push_back(&tensor);
    stored_rows_.emplace_back();
  }

  void decode(const GgufTensor& stored, const TensorInfo& info, int64_t first, int64_t count,
              float* target) const {
    const std::byte* row = file_->data(stored) + first * row_bytes(stored.type, info.cols());
    decode_gguf(stored.type, row, count * info.cols(), target);
  }

  void decode_permuted_vector(const GgufTensor& stored, const TensorInfo& info,
                              const std::vector<int64_t>& order, float* target) const {
    std::vector<float> values(order.size());
    decode(stored, info, 0, 1, values.data());
    for (size_t i = 0; i < order.size(); ++i) target[i] = values[order[i]];
  }

  void check_finite(const GgufTensor& stored, const float* values, int64_t count) const {
    if (!std::all_of(values, values + count, [](float value) { return std::isfinite(value); }))
      fail("{}: the tensor {} holds NaN or infinity; finite weights were expected", path().string(),
           printable(stored.name));
  }

  std::shared_ptr<const GgufFile> file_;
  std::vector<TensorInfo> infos_;
  std::vector<const GgufTensor*> stored_;          // one an info
  std::vector<std::vector<int64_t>> stored_rows_;  // of each: where every row is stored; empty: in order
  std::unordered_map<std::string, size_t> by_name_;
};

}  // namespace

std::unique_ptr<Checkpoint> open_gguf_checkpoint(std::shared_ptr<const GgufFile> file) {
  return std::make_unique<GgufCheckpoint>(std::move(file));
}

std::unique_ptr<Checkpoint> open_gguf_checkpoint(std::shared_ptr<const GgufFile> file,
                                                 const ModelConfig& config) {
  std::unique_ptr<Checkpoint> checkpoint = std::make_unique<GgufCheckpoint>(std::move(file), config);
  std::vector<MatrixStack> in_parts;
  std::vector<JoinedCheckpoint::Joined> in_slices;
  for (const ExpectedTensor& tensor : expected_tensors(config)) {
    if (!tensor.gguf_parts.empty())
      in_parts.push_back({tensor.name, tensor.parts.front().rows, tensor.shape.back(), tensor.gguf_parts});
    if (!tensor.gguf_slices.empty() && !checkpoint->contains(tensor.name))
      in_slices.push_back({tensor.name, gguf_slices(tensor)});
  }
  if (!in_parts.empty())
    checkpoint = std::make_unique<StackedCheckpoint>(std::move(checkpoint), std::move(in_parts));
  if (!in_slices.empty()) checkpoint = std::make_unique<JoinedCheckpoint>(std::move(checkpoint), in_slices);
  return checkpoint;
}

}  // namespace strata
