#include "strata/checkpoint/sliced_checkpoint.h"

#include <algorithm>
#include <numeric>

#include "strata/core/error.h"
#include "strata/core/text.h"

namespace strata {
namespace {

// Calls each(place in the whole matrix, place in the slice) for all values of the slice.
template <class Each>
void for_slice(const SlicedStack& stack, const Each& each) {
  const MatrixSlice& slice = stack.slice;
  const std::vector<int64_t> whole = stack.sizes_of_whole();
  const int64_t other = slice.columns ? whole[0] : whole[1];
  // Steps from one taken row or column to the next, and along it.
  const int64_t next = slice.columns ? slice.step : slice.step * whole[1],
                along = slice.columns ? whole[1] : 1;
  const int64_t start = slice.columns ? slice.first : slice.first * whole[1];
  const bool in_rows = slice.columns == slice.transposed;  // the taken ones are rows of the slice
  for (int64_t taken = 0; taken < slice.count; ++taken)
    for (int64_t i = 0; i < other; ++i)
      each(start + taken * next + i * along, in_rows ? taken * other + i : i * slice.count + taken);
}

int64_t product_of(const std::vector<int64_t>& sizes) {
  return std::accumulate(sizes.begin(), sizes.end(), int64_t{1}, std::multiplies<>());
}

// The tensor that a stack is a slice of.
const TensorInfo& whole_of(const Checkpoint& base, const SlicedStack& stack) {
  const TensorInfo* info = base.find(stack.slice.name);
  if (info == nullptr)
    fail("{} has no tensor {}, in which {} was expected; the checkpoint is incomplete", base.path().string(),
         printable(stack.slice.name), printable(stack.name));
  const std::vector<int64_t> sizes = stack.sizes_of_whole();
  const std::vector<int64_t> apart = stack.shape_of_wholes();
  std::vector<int64_t> below = {stack.matrices * sizes[0]};
  if (stack.cols > 0) below.push_back(sizes[1]);
  if (info->shape != apart && info->shape != below)
    fail("{}: the tensor {} has shape {}, but the config asks for {}", base.path().string(),
         printable(info->name), listed_shape(info->shape), listed_shape(apart));
  return *info;
}

// Values [begin, end) of a tensor, whatever its shape: whole rows are read.
void read_values(const Checkpoint& checkpoint, const TensorInfo& tensor, int64_t begin, int64_t end,
                 std::vector<float>& values) {
  const int64_t cols = std::max<int64_t>(1, tensor.cols());
  const int64_t first = begin / cols, last = (end + cols - 1) / cols;
  values.resize(static_cast<size_t>((last - first) * cols));
  checkpoint.read_rows(tensor, first, last - first, values.data());
  values.erase(values.begin(), values.begin() + (begin - first * cols));
  values.resize(static_cast<size_t>(end - begin));
}

}  // namespace

std::vector<int64_t> SlicedStack::shape() const {
  return cols > 0 ? std::vector<int64_t>{matrices * rows, cols} : std::vector<int64_t>{matrices * rows};
}

std::vector<int64_t> SlicedStack::sizes_of_whole() const {
  if (cols == 0) return {slice.of, 1};
  const bool in_rows = slice.columns == slice.transposed;
  const int64_t other = in_rows ? cols : rows;
  return slice.columns ? std::vector<int64_t>{other, slice.of} : std::vector<int64_t>{slice.of, other};
}

std::vector<int64_t> SlicedStack::shape_of_wholes() const {
  std::vector<int64_t> shape = {matrices, sizes_of_whole()[0]};
  if (cols > 0) shape.push_back(sizes_of_whole()[1]);
  return shape;
}

void SlicedStack::take(const float* whole, float* part) const {
  for_slice(*this, [&](int64_t in_whole, int64_t in_part) { part[in_part] = whole[in_whole]; });
}

void SlicedStack::put(const float* part, float* whole) const {
  for_slice(*this, [&](int64_t in_whole, int64_t in_part) { whole[in_whole] = part[in_part]; });
}

SlicedCheckpoint::SlicedCheckpoint(std::shared_ptr<const Checkpoint> base,
                                   const std::vector<SlicedStack>& stacks)
    : CheckpointView(std::move(base)) {
  std::unordered_map<std::string, std::vector<const SlicedStack*>> of_tensor;
  for (const SlicedStack& stack : stacks) {
    whole_of(*base_, stack);
    of_tensor[stack.slice.name].push_back(&stack);
    stacks_[stack.name] = stack;
  }
  for (const TensorInfo& tensor : base_->tensors()) {
    const auto found = of_tensor.find(tensor.name);
    if (found == of_tensor.end()) {
      by_name_[tensor.name] = tensors_.size();
      tensors_.push_back(tensor);
      continue;
    }
    for (const SlicedStack* stack : found->second) {
      TensorInfo info = tensor;
      info.name = stack->name;
      info.shape = stack->shape();
      info.bytes =
          tensor.bytes / static_cast<uint64_t>(stack->slice.of) * static_cast<uint64_t>(stack->slice.count);
      by_name_[info.name] = tensors_.size();
      tensors_.push_back(std::move(info));
    }
  }
}

const TensorInfo* SlicedCheckpoint::find(const std::string& name) const {
  const auto found = by_name_.find(name);
  return found == by_name_.end() ? base_->find(name) : &tensors_[found->second];
}

bool SlicedCheckpoint::altered(const std::string& name) const {
  const auto found = stacks_.find(name);
  return base_->altered(found == stacks_.end() ? name : found->second.slice.name);
}

void SlicedCheckpoint::read_rows(const TensorInfo& tensor, int64_t first, int64_t count,
                                 float* target) const {
  const auto found = stacks_.find(tensor.name);
  if (found == stacks_.end()) return base_->read_rows(tensor, first, count, target);
  const SlicedStack& stack = found->second;
  check_rows(*this, info(tensor.name), first, count);
  const TensorInfo& whole = base_->info(stack.slice.name);
  const MatrixSlice& slice = stack.slice;
  // Rows of rows stand one after the other.
  if (stack.cols > 0 && !slice.columns && !slice.transposed) {
    for (int64_t row = first, taken; row < first + count; row += taken) {
      const int64_t matrix = row / stack.rows, in_matrix = row % stack.rows;
      taken = slice.step == 1 ? std::min(first + count - row, stack.rows - in_matrix) : 1;
      base_->read_rows(whole, matrix * slice.of + slice.first + in_matrix * slice.step, taken,
                       target + (row - first) * stack.cols);
    }
    return;
  }
  const bool is_vector = stack.cols == 0;
  const int64_t begin = is_vector ? 0 : first, end = is_vector ? stack.matrices * stack.rows : first + count;
  const int64_t cols = std::max<int64_t>(1, stack.cols), size = product_of(stack.sizes_of_whole());
  const std::lock_guard<std::mutex> lock(mutex_);
  for (int64_t row = begin; row < end;) {
    const int64_t matrix = row / stack.rows, in_matrix = row % stack.rows;
    const int64_t taken = std::min(end - row, stack.rows - in_matrix);
    if (read_ != stack.name || read_matrix_ != matrix) {
      read_matrix_ = -1;
      std::vector<float> values;
      read_values(*base_, whole, matrix * size, (matrix + 1) * size, values);
      values_.resize(static_cast<size_t>(stack.rows * cols));
      stack.take(values.data(), values_.data());
      read_ = stack.name;
      read_matrix_ = matrix;
    }
    std::copy_n(values_.data() + in_matrix * cols, taken * cols, target + (row - begin) * cols);
    row += taken;
  }
}

JoinedCheckpoint::JoinedCheckpoint(std::shared_ptr<const Checkpoint> base, const std::vector<Joined>& joined)
    : CheckpointView(std::move(base)) {
  std::unordered_map<std::string, const Joined*> joined_of;  // by the first slice; the others: null
  for (const Joined& one : joined) {
    for (size_t i = 0; i < one.stacks.size(); ++i) {
      const SlicedStack& stack = one.stacks[i];
      const TensorInfo& info = base_->info(stack.name);
      if (info.shape != stack.shape())
        fail("{}: the tensor {} has shape {}, but the config asks for {}", base_->path().string(),
             printable(stack.name), listed_shape(info.shape), listed_shape(stack.shape()));
      joined_of[stack.name] = i == 0 ? &one : nullptr;
    }
    joined_[one.name] = one.stacks;
  }
  for (const TensorInfo& tensor : base_->tensors()) {
    const auto found = joined_of.find(tensor.name);
    if (found != joined_of.end() && found->second == nullptr) continue;
    TensorInfo info = tensor;
    if (found != joined_of.end()) {
      const std::vector<SlicedStack>& stacks = found->second->stacks;
      const std::vector<int64_t> sizes = stacks.front().sizes_of_whole();
      info.name = found->second->name;
      info.shape = {stacks.front().matrices * sizes[0], sizes[1]};
      info.bytes = 0;
      for (const SlicedStack& stack : stacks) info.bytes += base_->info(stack.name).bytes;
    }
    by_name_[info.name] = tensors_.size();
    tensors_.push_back(std::move(info));
  }
}

const TensorInfo* JoinedCheckpoint::find(const std::string& name) const {
  const auto found = by_name_.find(name);
  return found == by_name_.end() ? base_->find(name) : &tensors_[found->second];
}

void JoinedCheckpoint::read_rows(const TensorInfo& tensor, int64_t first, int64_t count,
                                 float* target) const {
  const auto found = joined_.find(tensor.name);
  if (found == joined_.end()) return base_->read_rows(tensor, first, count, target);
  check_rows(*this, info(tensor.name), first, count);
  const std::vector<int64_t> sizes = found->second.front().sizes_of_whole();
  std::vector<float> whole(static_cast<size_t>(sizes[0] * sizes[1])), part;
  for (int64_t row = first; row < first + count;) {
    const int64_t matrix = row / sizes[0], in_matrix = row % sizes[0];
    const int64_t taken = std::min(first + count - row, sizes[0] - in_matrix);
    for (const SlicedStack& stack : found->second) {
      part.resize(static_cast<size_t>(stack.rows * stack.cols));
      base_->read_rows(base_->info(stack.name), matrix * stack.rows, stack.rows, part.data());
      stack.put(part.data(), whole.data());
    }
    std::copy_n(whole.data() + in_matrix * sizes[1], taken * sizes[1], target + (row - first) * sizes[1]);
    row += taken;
  }
}

}  // namespace strata
