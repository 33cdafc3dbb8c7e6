#include "strata/checkpoint/stacked_checkpoint.h"

#include <algorithm>

#include "strata/core/error.h"
#include "strata/core/text.h"

namespace strata {
namespace {

const TensorInfo& part_of_stack(const Checkpoint& base, const MatrixStack& stack, size_t part) {
  const TensorInfo* info = base.find(stack.parts[part]);
  if (info == nullptr)
    fail("{} has no tensor {}, one of the {} that {} consists of; the checkpoint is incomplete",
         base.path().string(), printable(stack.parts[part]), stack.parts.size(), printable(stack.name));
  if (info->shape != stack.shape_of_part())
    fail("{}: the tensor {} has shape {}, but the {} matrices of {} are {}", base.path().string(),
         printable(info->name), listed_shape(info->shape), stack.parts.size(), printable(stack.name),
         listed_shape(stack.shape_of_part()));
  return *info;
}

}  // namespace

StackedCheckpoint::StackedCheckpoint(std::shared_ptr<const Checkpoint> base, std::vector<MatrixStack> stacks)
    : CheckpointView(std::move(base)) {
  std::unordered_map<std::string, const MatrixStack*> stack_of;  // by the first part; the others: null
  for (MatrixStack& stack : stacks) {
    const MatrixStack& held = stacks_[stack.name] = std::move(stack);
    for (size_t part = 0; part < held.parts.size(); ++part) {
      part_of_stack(*base_, held, part);
      stack_of[held.parts[part]] = part == 0 ? &held : nullptr;
    }
  }
  for (const TensorInfo& tensor : base_->tensors()) {
    const auto found = stack_of.find(tensor.name);
    if (found != stack_of.end() && found->second == nullptr) continue;
    TensorInfo info = tensor;
    if (found != stack_of.end()) {
      const MatrixStack& stack = *found->second;
      info.name = stack.name;
      info.shape[0] *= static_cast<int64_t>(stack.parts.size());
      info.bytes = 0;
      for (const std::string& part : stack.parts) info.bytes += base_->info(part).bytes;
    }
    by_name_[info.name] = tensors_.size();
    tensors_.push_back(std::move(info));
  }
}

const TensorInfo* StackedCheckpoint::find(const std::string& name) const {
  const auto found = by_name_.find(name);
  return found == by_name_.end() ? base_->find(name) : &tensors_[found->second];
}

void StackedCheckpoint::read_rows(const TensorInfo& tensor, int64_t first, int64_t count,
                                  float* target) const {
  const auto found = stacks_.find(tensor.name);
  if (found == stacks_.end()) return base_->read_rows(tensor, first, count, target);
  const MatrixStack& stack = found->second;
  check_rows(*this, info(tensor.name), first, count);
  if (stack.cols == 0) {  // all vectors, one behind the other
    for (size_t part = 0; part < stack.parts.size() && count > 0; ++part)
      base_->read(base_->info(stack.parts[part]), target + static_cast<int64_t>(part) * stack.rows);
    return;
  }
  while (count > 0) {
    const int64_t row = first % stack.rows, rows = std::min(count, stack.rows - row);
    const TensorInfo& part = base_->info(stack.parts[static_cast<size_t>(first / stack.rows)]);
    base_->read_rows(part, row, rows, target);
    first += rows;
    count -= rows;
    target += rows * stack.cols;
  }
}

SplitCheckpoint::SplitCheckpoint(std::shared_ptr<const Checkpoint> base,
                                 const std::vector<MatrixStack>& stacks)
    : CheckpointView(std::move(base)) {
  std::unordered_map<std::string, const MatrixStack*> by_stack;
  for (const MatrixStack& stack : stacks) by_stack[stack.name] = &stack;
  for (const TensorInfo& tensor : base_->tensors()) {
    const auto found = by_stack.find(tensor.name);
    if (found == by_stack.end()) {
      add(tensor, {});
      continue;
    }
    const MatrixStack& stack = *found->second;
    const auto parts = static_cast<int64_t>(stack.parts.size());
    const int64_t rows = stack.cols > 0 ? tensor.rows() : tensor.cols();
    if (rows != parts * stack.rows || (stack.cols > 0 && tensor.cols() != stack.cols))
      fail("{}: the tensor {} has shape {}, which are not {} matrices {}", path().string(),
           printable(tensor.name), listed_shape(tensor.shape), parts, listed_shape(stack.shape_of_part()));
    for (int64_t part = 0; part < parts; ++part) {
      TensorInfo info = tensor;
      info.name = stack.parts[static_cast<size_t>(part)];
      info.shape = stack.shape_of_part();
      info.bytes = tensor.bytes / static_cast<uint64_t>(parts);
      add(std::move(info), {stack.name, part * stack.rows});
    }
  }
}

void SplitCheckpoint::add(TensorInfo info, Place place) {
  by_name_[info.name] = tensors_.size();
  tensors_.push_back(std::move(info));
  places_.push_back(std::move(place));
}

const TensorInfo* SplitCheckpoint::find(const std::string& name) const {
  const auto found = by_name_.find(name);
  return found == by_name_.end() ? nullptr : &tensors_[found->second];
}

bool SplitCheckpoint::altered(const std::string& name) const {
  const auto found = by_name_.find(name);
  const bool is_part = found != by_name_.end() && !places_[found->second].stack.empty();
  return base_->altered(is_part ? places_[found->second].stack : name);
}

void SplitCheckpoint::read_rows(const TensorInfo& tensor, int64_t first, int64_t count, float* target) const {
  const auto found = by_name_.find(tensor.name);
  if (found == by_name_.end()) fail("{} has no tensor {}", path().string(), printable(tensor.name));
  const Place& place = places_[found->second];
  if (place.stack.empty()) return base_->read_rows(tensor, first, count, target);
  check_rows(*this, tensors_[found->second], first, count);
  const TensorInfo& part = tensors_[found->second];
  if (part.shape.size() == 1) {  // of the vectors one behind the other
    const std::vector<float> all = base_->read(place.stack);
    std::copy_n(all.begin() + place.first_row, count * part.cols(), target);
    return;
  }
  base_->read_rows(base_->info(place.stack), place.first_row + first, count, target);
}

}  // namespace strata
