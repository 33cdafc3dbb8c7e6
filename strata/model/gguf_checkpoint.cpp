#include <algorithm>
#include <cmath>
#include <unordered_map>

#include "strata/core/error.h"
#include "strata/core/text.h"
#include "strata/gguf/codec.h"
#include "strata/model/gguf_model.h"
#include "strata/model/gguf_names.h"

namespace strata {
namespace {

bool ends_with(const std::string& name, std::string_view ending) {
  return name.size() >= ending.size() &&
         name.compare(name.size() - ending.size(), ending.size(), ending) == 0;
}

bool is_projection(const std::string& name, std::string_view projection) {
  return ends_with(name, std::string(projection) + ".weight") ||
         ends_with(name, std::string(projection) + ".bias");
}

class GgufCheckpoint final : public Checkpoint {
 public:
  GgufCheckpoint(std::shared_ptr<const GgufFile> file, const ModelConfig& config) : file_(std::move(file)) {
    if (permutes_qk(config.architecture)) {
      stored_query_rows_ = hf_row_order(config.num_heads * config.head_dim, config.num_heads);
      stored_key_rows_ = hf_row_order(config.num_kv_heads * config.head_dim, config.num_kv_heads);
    }
    for (const GgufTensor& tensor : file_->tensors()) add(tensor, hf_name(tensor.name), tensor.shape);
  }

  // Names as they are.
  explicit GgufCheckpoint(std::shared_ptr<const GgufFile> file) : file_(std::move(file)) {
    for (const GgufTensor& tensor : file_->tensors()) {
      std::vector<int64_t> shape = tensor.shape;
      while (shape.size() > 2) {
        shape[1] *= shape[0];
        shape.erase(shape.begin());
      }
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
    const std::vector<int64_t>* order = stored_rows(info);
    if (order == nullptr)
      decode(stored, info, first, count, target);
    else if (info.shape.size() < 2)
      decode_permuted_vector(stored, info, *order, target);
    else
      for (int64_t row = 0; row < count; ++row)
        decode(stored, info, (*order)[first + row], 1, target + row * info.cols());
    check_finite(stored, target, count * info.cols());
  }

 private:
  void add(const GgufTensor& tensor, const std::string& name, std::vector<int64_t> shape) {
    if (name.empty()) return;
    TensorInfo info;
    info.name = name;
    info.shape = std::move(shape);
    info.type = traits_of(tensor.type).name;
    info.bytes = tensor.bytes();
    by_name_[info.name] = infos_.size();
    infos_.push_back(std::move(info));
    stored_.push_back(&tensor);
  }

  // Where the rows of a permuted tensor are stored; null for all other tensors. A tensor whose size does not
  // fit the config is not permuted: comparing shapes with the config will refuse it.
  const std::vector<int64_t>* stored_rows(const TensorInfo& info) const {
    const std::vector<int64_t>* order = nullptr;
    if (is_projection(info.name, "self_attn.q_proj")) order = &stored_query_rows_;
    if (is_projection(info.name, "self_attn.k_proj")) order = &stored_key_rows_;
    if (stored_query_rows_.empty()) return nullptr;
    const bool fits = order != nullptr && !order->empty() && !info.shape.empty() &&
                      static_cast<int64_t>(order->size()) == info.shape.front();
    return fits ? order : nullptr;
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
  std::vector<int64_t> stored_query_rows_, stored_key_rows_;
  std::vector<TensorInfo> infos_;
  std::vector<const GgufTensor*> stored_;
  std::unordered_map<std::string, size_t> by_name_;
};

}  // namespace

std::unique_ptr<Checkpoint> open_gguf_checkpoint(std::shared_ptr<const GgufFile> file) {
  return std::make_unique<GgufCheckpoint>(std::move(file));
}

std::unique_ptr<Checkpoint> open_gguf_checkpoint(std::shared_ptr<const GgufFile> file,
                                                 const ModelConfig& config) {
  return std::make_unique<GgufCheckpoint>(std::move(file), config);
}

}  // namespace strata
