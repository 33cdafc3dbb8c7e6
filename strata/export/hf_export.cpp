#include <algorithm>
#include <vector>

#include "strata/checkpoint/safetensors_writer.h"
#include "strata/core/error.h"
#include "strata/core/file.h"
#include "strata/core/progress.h"
#include "strata/export/export.h"
#include "strata/export/export_plan.h"
#include "strata/export/hf_files.h"
#include "strata/export/other_tensors.h"
#include "strata/export/split_plan.h"
#include "strata/model/layout.h"
#include "strata/model/split_experts.h"
#include "strata/model/value_heads.h"

namespace strata {
namespace fs = std::filesystem;
namespace {

std::vector<PlannedTensor> planned_tensors(const Model& model) {
  std::vector<PlannedTensor> tensors;
  for (const ExpectedTensor& expected : stored_tensors(model)) {
    const TensorInfo& tensor = model.checkpoint->info(expected.name);
    tensors.push_back({tensor.name, tensor.shape, written_type(tensor)});
  }
  return tensors;
}

uint64_t bytes_of(const PlannedTensor& tensor) {
  uint64_t count = 1;
  for (const int64_t size : tensor.shape) count *= static_cast<uint64_t>(size);
  return count * size_of(tensor.type);
}

// Groups across rows, or ranges over the whole matrix, need all rows at once.
bool needs_whole_matrix(const Scheme& scheme) {
  if (scheme.kind == Scheme::Kind::Nf4 || scheme.kind == Scheme::Kind::MixedRows) return true;
  return scheme.kind == Scheme::Kind::Affine &&
         (scheme.affine.axis == 0 || scheme.affine.scales == ScaleStorage::SecondLevel);
}

// The scheme that changes a tensor's values; null when they are kept.
const Scheme* changing_scheme(const Model& model, const ExportPlan& plan, const TensorInfo& tensor) {
  const Scheme* scheme = planned_scheme(model, plan, tensor.name);
  if (scheme == nullptr || stored_already(tensor, *scheme)) return nullptr;
  const bool boundary = tensor.name == model.embedding || tensor.name == model.head;
  return boundary && is_floating(*scheme) ? nullptr : scheme;
}

// Writes what the plan's calibrated quantizer leaves of a matrix. Returns the squared error.
double write_calibrated(const Model& model, const ExportPlan& plan, const PlannedTensor& tensor,
                        SafetensorsWriter& writer) {
  double error = 0;
  const QuantizedMatrix matrix = quantize_planned(model, plan, tensor.name, &error);
  std::vector<float> values(static_cast<size_t>(matrix.rows * matrix.cols));
  matrix.dequantize(values.data());
  if (tensor.type == DType::F16)
    check_half_range(tensor.name, values.data(), static_cast<int64_t>(values.size()));
  writer.write(values.data(), static_cast<int64_t>(values.size()));
  return error;
}

// Reads, quantizes and dequantizes, and writes one tensor in its form. Returns the squared error.
double write_dequantized(const Model& model, const ExportPlan& plan, const PlannedTensor& tensor,
                         StoredForm form, SafetensorsWriter& writer) {
  const TensorInfo& info = model.checkpoint->info(tensor.name);
  const Scheme* scheme = info.shape.size() < 2 ? nullptr : changing_scheme(model, plan, info);
  if (scheme != nullptr && is_calibrated(plan, tensor.name))
    return write_calibrated(model, plan, tensor, writer);
  const QuantizerOptions options = quantizer_of(plan, info);
  const bool whole = scheme != nullptr && needs_whole_matrix(*scheme);
  const int64_t step = whole ? info.rows() : rows_at_a_time(info, 1);
  std::vector<float> values;
  double error = 0;
  for (int64_t first = 0; first < info.rows(); first += step) {
    const int64_t count = std::min(step, info.rows() - first);
    values.resize(static_cast<size_t>(count * info.cols()));
    model.checkpoint->read_rows(info, first, count, values.data());
    store_as(form, values);
    if (scheme != nullptr) error += fake_quantize({values.data(), count, info.cols()}, *scheme, options);
    if (tensor.type == DType::F16)
      check_half_range(tensor.name, values.data(), static_cast<int64_t>(values.size()));
    writer.write(values.data(), static_cast<int64_t>(values.size()));
  }
  return error;
}

uint64_t bytes_in(const fs::path& directory) {
  uint64_t bytes = 0;
  for (const fs::directory_entry& entry : fs::directory_iterator(directory)) bytes += entry.file_size();
  return bytes;
}

}  // namespace

ExportResult export_hf(const Model& model, const ExportPlan& plan, const fs::path& target) {
  if (!stands_in_order(model, false)) {
    require_no_order(model, plan);
    return export_hf(with_value_heads(model, false), plan, target);
  }
  check_plan(model, plan);
  check_target(model, target);
  if (has_stacks(model)) {
    const Model apart = split_experts(model);
    return export_hf(apart, split_plan(model, plan), target);
  }
  const std::vector<PlannedTensor> tensors = planned_tensors(model);
  const std::vector<PlannedTensor> others = other_tensors(model);
  std::vector<PlannedTensor> all = tensors;
  all.insert(all.end(), others.begin(), others.end());
  uint64_t bytes = 0;
  for (const PlannedTensor& tensor : all) bytes += bytes_of(tensor);
  check_space(target, bytes);

  begin_calibrated(model, plan);
  OutputDirectory directory(target);
  write_model_files(model, directory.path());
  SafetensorsWriter writer(directory.path(), all, {{"format", "pt"}}, shard_bytes(plan));
  Progress progress("writing " + target.filename().string(), static_cast<int64_t>(tensors.size()), "tensors");
  ExportResult result;
  result.path = target;
  const std::vector<ExpectedTensor> expected = stored_tensors(model);
  for (size_t i = 0; i < tensors.size(); ++i) {
    const PlannedTensor& tensor = tensors[i];
    const double error = write_dequantized(model, plan, tensor, expected[i].form, writer);
    const auto planned = plan.schemes.find(tensor.name);
    if (planned != plan.schemes.end()) {
      const TensorInfo& info = model.checkpoint->info(tensor.name);
      result.squared_error += error;
      result.weight_bits += planned->second.stored_bits(info.rows(), info.cols());
    }
    progress.advance();
  }
  write_other_tensors(model, others, writer);
  writer.finish();
  result.file_bytes = bytes_in(directory.path());
  directory.commit();
  return result;
}

uint64_t stored_size(const Model& model, const ExportPlan& plan) {
  check_plan(model, plan);
  if (has_stacks(model)) {
    const Model apart = split_experts(model);
    return stored_size(apart, split_plan(model, plan));
  }
  uint64_t bytes = 0;
  for (const ExpectedTensor& expected : stored_tensors(model)) {
    const TensorInfo& tensor = model.checkpoint->info(expected.name);
    const Scheme* scheme = tensor.shape.size() < 2 ? nullptr : changing_scheme(model, plan, tensor);
    bytes += scheme == nullptr ? tensor.bytes : (scheme->stored_bits(tensor.rows(), tensor.cols()) + 7) / 8;
  }
  for (const PlannedTensor& other : other_tensors(model)) bytes += bytes_of(other);
  return bytes;
}

}  // namespace strata
