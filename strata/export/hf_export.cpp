#include <algorithm>
#include <functional>
#include <map>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "strata/checkpoint/safetensors_writer.h"
#include "strata/checkpoint/sliced_checkpoint.h"
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

// A tensor of the directory, and those of the model that it holds: itself, or the stacks of which every
// expert's matrices stand in it.
struct WrittenTensor {
  PlannedTensor planned;
  std::vector<ExpectedTensor> parts;     // expert by expert where there are stacks
  std::vector<SlicedStack> stacks = {};  // empty: it is the only part
};

PlannedTensor planned_tensor(const Model& model, const std::string& name) {
  const TensorInfo& tensor = model.checkpoint->info(name);
  return {tensor.name, tensor.shape, written_type(tensor)};
}

// The tensors of all experts that the directory has in the place of their own, by one of these.
std::map<std::string, std::vector<SlicedStack>> fused_by_part(const Model& model) {
  std::map<std::string, std::vector<SlicedStack>> by_name, by_part;
  if (!model.fused_experts) return {};
  for (SlicedStack& stack : fused_stacks(model.config)) by_name[stack.slice.name].push_back(std::move(stack));
  for (const auto& [name, stacks] : by_name)
    for (const SlicedStack& stack : stacks)
      for (int64_t expert = 0; expert < stack.matrices; ++expert)
        by_part[expert_name(stack.name, expert)] = stacks;
  return by_part;
}

std::vector<WrittenTensor> written_tensors(const Model& model) {
  const std::map<std::string, std::vector<SlicedStack>> fused = fused_by_part(model);
  std::unordered_map<std::string, ExpectedTensor> expected;
  for (ExpectedTensor& tensor : stored_tensors(model)) expected.emplace(tensor.name, std::move(tensor));
  std::unordered_set<std::string> done;
  std::vector<WrittenTensor> tensors;
  for (const ExpectedTensor& tensor : stored_tensors(model)) {
    const auto found = fused.find(tensor.name);
    if (found == fused.end()) {
      tensors.push_back({planned_tensor(model, tensor.name), {tensor}});
      continue;
    }
    const std::vector<SlicedStack>& stacks = found->second;
    if (!done.insert(stacks.front().slice.name).second) continue;
    WrittenTensor whole{planned_tensor(model, tensor.name), {}, stacks};
    whole.planned.name = stacks.front().slice.name;
    whole.planned.shape = stacks.front().shape_of_wholes();
    for (int64_t expert = 0; expert < stacks.front().matrices; ++expert)
      for (const SlicedStack& stack : stacks)
        whole.parts.push_back(expected.at(expert_name(stack.name, expert)));
    tensors.push_back(std::move(whole));
  }
  return tensors;
}

uint64_t bytes_of(const PlannedTensor& tensor) {
  uint64_t count = 1;
  for (const int64_t size : tensor.shape) count *= static_cast<uint64_t>(size);
  return count * size_of(tensor.type);
}

// The scheme that changes a tensor's values; null when they are kept.
const Scheme* changing_scheme(const Model& model, const ExportPlan& plan, const TensorInfo& tensor) {
  const Scheme* scheme = planned_scheme(model, plan, tensor.name);
  if (scheme == nullptr || stored_already(tensor, *scheme)) return nullptr;
  const bool boundary =
      tensor.name == model.embedding || tensor.name == model.head || tensor.name == model.layer_embedding;
  return boundary && is_floating(*scheme) ? nullptr : scheme;
}

// Takes the values of a tensor, row after row.
using Rows = std::function<void(const float* values, int64_t count)>;

// What the plan's calibrated quantizer leaves of a matrix. Returns the squared error.
double give_calibrated(const Model& model, const ExportPlan& plan, const std::string& tensor,
                       const Rows& rows) {
  double error = 0;
  const QuantizedMatrix matrix = quantize_planned(model, plan, tensor, &error);
  std::vector<float> values(static_cast<size_t>(matrix.rows * matrix.cols));
  matrix.dequantize(values.data());
  rows(values.data(), static_cast<int64_t>(values.size()));
  return error;
}

// Reads one tensor, quantizes and dequantizes it, and gives it in its form. Returns the squared error.
double give_dequantized(const Model& model, const ExportPlan& plan, const ExpectedTensor& tensor,
                        const Rows& rows) {
  const TensorInfo& info = model.checkpoint->info(tensor.name);
  const Scheme* scheme = info.shape.size() < 2 ? nullptr : changing_scheme(model, plan, info);
  if (scheme != nullptr && is_calibrated(plan, tensor.name))
    return give_calibrated(model, plan, tensor.name, rows);
  const QuantizerOptions options = quantizer_of(plan, info);
  const bool whole = scheme != nullptr && needs_whole_matrix(*scheme);
  const int64_t step = whole ? info.rows() : rows_at_a_time(info, 1);
  std::vector<float> values;
  double error = 0;
  for (int64_t first = 0; first < info.rows(); first += step) {
    const int64_t count = std::min(step, info.rows() - first);
    values.resize(static_cast<size_t>(count * info.cols()));
    model.checkpoint->read_rows(info, first, count, values.data());
    store_as(tensor.form, values);
    if (scheme != nullptr) error += fake_quantize({values.data(), count, info.cols()}, *scheme, options);
    rows(values.data(), static_cast<int64_t>(values.size()));
  }
  return error;
}

// Writes a tensor of the directory. Returns the squared error.
double write_tensor(const Model& model, const ExportPlan& plan, const WrittenTensor& tensor,
                    SafetensorsWriter& writer) {
  const auto write = [&](const float* values, int64_t count) {
    if (tensor.planned.type == DType::F16) check_half_range(tensor.planned.name, values, count);
    writer.write(values, count);
  };
  if (tensor.stacks.empty()) return give_dequantized(model, plan, tensor.parts.front(), write);
  const std::vector<int64_t> sizes = tensor.stacks.front().sizes_of_whole();
  std::vector<float> whole(static_cast<size_t>(sizes[0] * sizes[1])), part;
  double error = 0;
  for (size_t i = 0; i < tensor.parts.size(); ++i) {
    part.clear();
    error += give_dequantized(model, plan, tensor.parts[i], [&](const float* values, int64_t count) {
      part.insert(part.end(), values, values + count);
    });
    const size_t stack = i % tensor.stacks.size();
    tensor.stacks[stack].put(part.data(), whole.data());
    if (stack + 1 == tensor.stacks.size()) write(whole.data(), static_cast<int64_t>(whole.size()));
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
  const std::vector<WrittenTensor> tensors = written_tensors(model);
  const std::vector<PlannedTensor> others = other_tensors(model);
  std::vector<PlannedTensor> all;
  for (const WrittenTensor& tensor : tensors) all.push_back(tensor.planned);
  all.insert(all.end(), others.begin(), others.end());
  uint64_t bytes = 0;
  for (const PlannedTensor& tensor : all) bytes += bytes_of(tensor);
  check_space(target, bytes);

  note_gguf_tensors(model);
  begin_calibrated(model, plan);
  OutputDirectory directory(target);
  write_model_files(model, directory.path());
  SafetensorsWriter writer(directory.path(), all, {{"format", "pt"}}, shard_bytes(plan));
  Progress progress("writing " + target.filename().string(), static_cast<int64_t>(tensors.size()), "tensors");
  ExportResult result;
  result.path = target;
  for (const WrittenTensor& tensor : tensors) {
    const double error = write_tensor(model, plan, tensor, writer);
    for (const ExpectedTensor& part : tensor.parts) {
      const auto planned = plan.schemes.find(part.name);
      if (planned == plan.schemes.end()) continue;
      const TensorInfo& info = model.checkpoint->info(part.name);
      result.weight_bits += planned->second.stored_bits(info.rows(), info.cols());
      if (&part == &tensor.parts.front()) result.squared_error += error;
    }
    progress.advance();
  }
  write_other_tensors(model, others, writer);
  writer.finish();
  if (!plan.label.empty()) describe_quantization(directory.path(), Json::object(), plan.label);
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
