#include "strata/checkpoint/checkpoint.h"

#include "strata/core/error.h"

namespace strata {

int64_t TensorInfo::elements() const {
  int64_t count = 1;
  for (const int64_t dimension : shape) count *= dimension;
  return count;
}

int64_t TensorInfo::rows() const {
  int64_t count = 1;
  for (size_t i = 0; i + 1 < shape.size(); ++i) count *= shape[i];
  return count;
}

int64_t TensorInfo::cols() const {
  return shape.empty() ? 1 : shape.back();
}

void Checkpoint::read_bytes(const TensorInfo& tensor, uint64_t, uint64_t, std::byte*) const {
  fail("{}: tensor {} cannot be read as stored", path().string(), tensor.name);
}

const TensorInfo* Checkpoint::find(const std::string& name) const {
  for (const TensorInfo& tensor : tensors())
    if (tensor.name == name) return &tensor;
  return nullptr;
}

const TensorInfo& Checkpoint::info(const std::string& name) const {
  const TensorInfo* tensor = find(name);
  if (tensor == nullptr)
    fail("{} has no tensor {}; the checkpoint is incomplete or of another architecture", path().string(),
         name);
  return *tensor;
}

std::vector<float> Checkpoint::read(const std::string& name) const {
  const TensorInfo& tensor = info(name);
  std::vector<float> values(static_cast<size_t>(tensor.elements()));
  read(tensor, values.data());
  return values;
}

}  // namespace strata
