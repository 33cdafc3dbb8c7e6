#include "strata/export/other_tensors.h"

#include <algorithm>
#include <array>
#include <unordered_set>

#include "strata/core/error.h"
#include "strata/core/progress.h"
#include "strata/core/text.h"
#include "strata/gguf/file.h"
#include "strata/model/layout.h"

namespace strata {
namespace {

constexpr uint64_t kBytesAtATime = uint64_t{1} << 24;

std::vector<const TensorInfo*> others(const Model& model) {
  std::unordered_set<std::string> known = {model.config.head + ".weight"};
  for (const ExpectedTensor& stored : stored_tensors(model)) known.insert(stored.name);
  std::vector<const TensorInfo*> found;
  for (const TensorInfo& tensor : model.checkpoint->tensors())
    if (known.count(tensor.name) == 0) found.push_back(&tensor);
  return found;
}

DType element_type(const Model& model, const TensorInfo& tensor) {
  constexpr std::array<DType, 11> kTypes = {DType::F64, DType::F32, DType::F16, DType::BF16,
                                            DType::I64, DType::I32, DType::U32, DType::I16,
                                            DType::I8,  DType::U8,  DType::Bool};
  const auto found =
      std::find_if(kTypes.begin(), kTypes.end(), [&](DType type) { return name_of(type) == tensor.type; });
  if (found == kTypes.end())
    fail("{}: {} is stored as {}, which cannot be copied; leave the tensor out of the model",
         model.path.string(), printable(tensor.name), tensor.type);
  return *found;
}

}  // namespace

std::vector<PlannedTensor> other_tensors(const Model& model) {
  std::vector<PlannedTensor> planned;
  for (const TensorInfo* tensor : others(model))
    planned.push_back({tensor->name, tensor->shape, element_type(model, *tensor)});
  return planned;
}

void write_other_tensors(const Model& model, const std::vector<PlannedTensor>& tensors,
                         SafetensorsWriter& writer) {
  std::vector<std::byte> bytes;
  for (const PlannedTensor& tensor : tensors) {
    const TensorInfo& info = model.checkpoint->info(tensor.name);
    for (uint64_t first = 0; first < info.bytes; first += kBytesAtATime) {
      bytes.resize(std::min(kBytesAtATime, info.bytes - first));
      model.checkpoint->read_bytes(info, first, bytes.size(), bytes.data());
      writer.write_bytes(bytes.data(), bytes.size());
    }
  }
}

void note_gguf_tensors(const Model& model) {
  if (!is_gguf(model.path) || !model.runnable) return;
  std::unordered_set<std::string> known = {"rope_freqs.weight", "rope_factors_long.weight",
                                           "rope_factors_short.weight"};
  for (const ExpectedTensor& expected : expected_tensors(model.config)) {
    known.insert(expected.gguf_name);
    known.insert(expected.gguf_parts.begin(), expected.gguf_parts.end());
    for (const MatrixSlice& slice : expected.gguf_slices) known.insert(slice.name);
  }
  const GgufFile file(model.path);
  std::vector<std::string> left;
  for (const GgufTensor& tensor : file.tensors())
    if (known.count(tensor.name) == 0) left.push_back(printable(tensor.name));
  if (!left.empty())
    show_note(
        fmt::format("{} of {}'s tensors have no part in predicting the next token, such as {}: a directory "
                    "leaves them out",
                    left.size(), model.path.string(), left.front()));
}

void note_other_tensors(const Model& model) {
  const std::vector<const TensorInfo*> left = others(model);
  if (!left.empty())
    show_note(
        fmt::format("{} of {}'s tensors are none of its text model's, such as {}: a GGUF leaves them out",
                    left.size(), model.path.string(), printable(left.front()->name)));
}

}  // namespace strata
