#include "strata/checkpoint/scaled_checkpoint.h"

#include <algorithm>

#include "strata/core/error.h"

namespace strata {
namespace {

bool is_float_type(const std::string& type) {
  return type == "F64" || type == "F32" || type == "F16" || type == "BF16";
}

void check_factors(const TensorInfo& tensor, const std::vector<float>& factors, int64_t expected,
                   const char* what) {
  if (!factors.empty() && static_cast<int64_t>(factors.size()) != expected)
    fail("{} has {} {}, but {} factors were given for them", tensor.name, expected, what, factors.size());
}

}  // namespace

ScaledCheckpoint::ScaledCheckpoint(std::shared_ptr<const Checkpoint> base,
                                   std::map<std::string, TensorScaling> scalings)
    : CheckpointView(std::move(base)), scalings_(std::move(scalings)), tensors_(base_->tensors()) {
  for (size_t i = 0; i < tensors_.size(); ++i) {
    index_[tensors_[i].name] = i;
    if (altered(tensors_[i].name) && !is_float_type(tensors_[i].type)) tensors_[i].type = "F16";
  }
  for (const auto& [name, scaling] : scalings_) {
    const TensorInfo& tensor = info(name);
    check_factors(tensor, scaling.rows, tensor.rows(), "rows");
    const auto cols = static_cast<int64_t>(scaling.cols.size());
    const bool of_matrices = tensor.shape.size() > 1 && cols > 0 && cols % tensor.cols() == 0 &&
                             tensor.rows() % (cols / tensor.cols()) == 0;
    if (!of_matrices) check_factors(tensor, scaling.cols, tensor.cols(), "columns");
  }
}

const TensorInfo* ScaledCheckpoint::find(const std::string& name) const {
  const auto found = index_.find(name);
  return found == index_.end() ? nullptr : &tensors_[found->second];
}

void ScaledCheckpoint::read_rows(const TensorInfo& tensor, int64_t first, int64_t count,
                                 float* target) const {
  base_->read_rows(base_->info(tensor.name), first, count, target);
  const auto found = scalings_.find(tensor.name);
  if (found == scalings_.end()) return;
  const auto& [rows, columns] = found->second;
  const int64_t cols = tensor.cols();
  const int64_t matrices = std::max<int64_t>(1, static_cast<int64_t>(columns.size()) / cols);
  const int64_t rows_of_matrix = tensor.rows() / matrices;
  for (int64_t r = 0; r < count; ++r) {
    const float of_row = rows.empty() ? 1 : rows[static_cast<size_t>(first + r)];
    float* row = target + r * cols;
    const float* of_columns = columns.data() + (first + r) / rows_of_matrix * cols;
    for (int64_t c = 0; c < cols; ++c) row[c] *= of_row * (columns.empty() ? 1 : of_columns[c]);
  }
}

}  // namespace strata
