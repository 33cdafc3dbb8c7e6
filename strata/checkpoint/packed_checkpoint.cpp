#include "strata/checkpoint/packed_checkpoint.h"

#include <algorithm>
#include <cmath>
#include <unordered_map>

#include "strata/core/error.h"
#include "strata/core/progress.h"
#include "strata/core/text.h"

namespace strata {
namespace {

class PackedCheckpoint final : public Checkpoint {
 public:
  PackedCheckpoint(std::unique_ptr<Checkpoint> stored, PackedMatrices matrices)
      : stored_(std::move(stored)), matrices_(std::move(matrices)) {
    std::unordered_map<std::string, const PackedMatrix*> matrix_of;
    for (const auto& matrix : matrices_)
      for (const std::string& part : matrix->parts) matrix_of.emplace(part, matrix.get());
    for (const TensorInfo& tensor : stored_->tensors()) {
      const auto found = matrix_of.find(tensor.name);
      if (found == matrix_of.end())
        add(tensor, nullptr);
      else if (tensor.name == found->second->parts.front())
        add(found->second->info, found->second);
    }
  }

  const std::vector<TensorInfo>& tensors() const override { return tensors_; }
  const std::filesystem::path& path() const override { return stored_->path(); }

  const TensorInfo* find(const std::string& name) const override {
    const auto found = by_name_.find(name);
    return found == by_name_.end() ? nullptr : &tensors_[found->second];
  }

  void read_rows(const TensorInfo& tensor, int64_t first, int64_t count, float* target) const override {
    const auto found = by_name_.find(tensor.name);
    if (found == by_name_.end()) fail("{} has no tensor {}", path().string(), printable(tensor.name));
    const TensorInfo& info = tensors_[found->second];
    const PackedMatrix* matrix = packed_[found->second];
    if (matrix == nullptr) return stored_->read_rows(info, first, count, target);
    if (first < 0 || count < 0 || first > info.rows() || count > info.rows() - first)
      fail("{}: rows {} to {} of tensor {} were asked for, which has {}", path().string(), first,
           first + count, printable(info.name), info.rows());
    matrix->read_rows(*stored_, first, count, target);
    for (int64_t i = 0; i < count * info.cols(); ++i)
      if (!std::isfinite(target[i]))
        fail("{}: tensor {} holds {} at row {}, column {}; finite weights were expected", path().string(),
             printable(info.name), target[i], first + i / info.cols(), i % info.cols());
  }

  void read_bytes(const TensorInfo& tensor, uint64_t first, uint64_t count,
                  std::byte* target) const override {
    stored_->read_bytes(tensor, first, count, target);
  }

 private:
  void add(const TensorInfo& info, const PackedMatrix* matrix) {
    if (!by_name_.emplace(info.name, tensors_.size()).second)
      fail("{} holds {} twice, packed and as it is", path().string(), printable(info.name));
    tensors_.push_back(info);
    packed_.push_back(matrix);
  }

  std::unique_ptr<Checkpoint> stored_;
  PackedMatrices matrices_;
  std::vector<TensorInfo> tensors_;
  std::vector<const PackedMatrix*> packed_;  // null for tensors that are not packed
  std::unordered_map<std::string, size_t> by_name_;
};

const Json* section_of(const Json& config) {
  for (const char* key : {"quantization_config", "quantization"}) {
    const auto found = config.find(key);
    if (found != config.end() && !found->is_null()) return &*found;
  }
  return nullptr;
}

std::string method_of(const Json& section) {
  const auto found = section.find("quant_method");
  if (found != section.end() && found->is_string()) return found->get<std::string>();
  return section.contains("bits") && section.contains("group_size") ? "mlx" : "";
}

// Whether every tensor is of a floating-point type that unquantized weights have.
bool holds_plain_weights(const Checkpoint& stored) {
  return std::all_of(stored.tensors().begin(), stored.tensors().end(), [](const TensorInfo& tensor) {
    return tensor.type == "F32" || tensor.type == "F16" || tensor.type == "BF16" || tensor.type == "F64";
  });
}

}  // namespace

bool is_packed(const Json& config) {
  return section_of(config) != nullptr;
}

std::unique_ptr<Checkpoint> open_packed(std::unique_ptr<Checkpoint> stored, const Json& config,
                                        const std::string& where) {
  const Json* section = section_of(config);
  if (section == nullptr) return stored;
  if (!section->is_object()) fail("{}: the section about quantization is not an object", where);
  const std::string method = method_of(*section);
  PackedMatrices matrices;
  if (method == "compressed-tensors")
    matrices = compressed_tensors_matrices(*stored, *section, where);
  else if (method == "gptq")
    matrices = gptq_matrices(*stored, *section, where);
  else if (method == "strata")
    matrices = strata_matrices(*stored, *section, where);
  else if (method == "mlx")
    matrices = mlx_matrices(*stored, *section, where);
  else if (method == "mxfp4")
    matrices = mxfp4_matrices(*stored);
  else if (holds_plain_weights(*stored)) {
    show_note(
        fmt::format("{}: its section about quantization is left over, since all weights are plain", where));
    return stored;
  } else
    fail(
        "{}: the model is already quantized ({}), which cannot be read; known are compressed-tensors "
        "pack-quantized, gptq, MLX affine, mxfp4 and strata: give the original weights",
        where, method.empty() ? "of an unnamed kind" : printable(method));
  return std::make_unique<PackedCheckpoint>(std::move(stored), std::move(matrices));
}

}  // namespace strata
