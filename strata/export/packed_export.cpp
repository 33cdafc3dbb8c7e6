#include <algorithm>
#include <cmath>
#include <cstddef>
#include <optional>

#include "strata/checkpoint/safetensors_writer.h"
#include "strata/core/error.h"
#include "strata/core/file.h"
#include "strata/core/progress.h"
#include "strata/export/export_plan.h"
#include "strata/export/hf_files.h"
#include "strata/export/other_tensors.h"
#include "strata/export/packed_format.h"
#include "strata/export/split_plan.h"
#include "strata/model/layout.h"
#include "strata/model/split_experts.h"
#include "strata/model/value_heads.h"

namespace strata {
namespace fs = std::filesystem;
namespace {

// The scheme in which a tensor is packed; none when it is stored as it is.
std::optional<Scheme> packed_scheme(const PackedFormat& format, const Model& model, const ExportPlan& plan,
                                    const TensorInfo& tensor) {
  if (tensor.shape.size() < 2) return std::nullopt;
  const Scheme* scheme = planned_scheme(model, plan, tensor.name);
  if (scheme == nullptr || is_floating(*scheme)) return std::nullopt;
  const std::string refusal = format.refusal(*scheme, tensor.rows(), tensor.cols());
  if (!refusal.empty()) fail("{} is planned as {}, but the format {}", tensor.name, scheme->name(), refusal);
  return *scheme;
}

std::string stem_of(const std::string& tensor) {
  return tensor.substr(0, tensor.rfind('.'));
}

std::vector<PlannedTensor> planned_tensors(const PackedFormat& format, const Model& model,
                                           const ExportPlan& plan) {
  std::vector<PlannedTensor> planned;
  for (const ExpectedTensor& expected : stored_tensors(model)) {
    const TensorInfo& tensor = model.checkpoint->info(expected.name);
    const auto scheme = packed_scheme(format, model, plan, tensor);
    // Of a stack the tensors of its matrices one after the other.
    const auto stacked = [&](std::vector<int64_t> shape) {
      if (expected.experts == 0) return shape;
      shape.front() /= expected.experts;
      shape.insert(shape.begin(), expected.experts);
      return shape;
    };
    if (!scheme) {
      planned.push_back({format.name_of(model, tensor.name), stacked(tensor.shape), written_type(tensor)});
      continue;
    }
    for (PackedTensor& part : format.tensors(*scheme, tensor.rows(), tensor.cols()))
      planned.push_back({format.name_of(model, stem_of(tensor.name)) + part.ending,
                         stacked(std::move(part.shape)), part.type});
  }
  for (PlannedTensor& other : other_tensors(model)) planned.push_back(std::move(other));
  return planned;
}

PackedModules packed_modules(const PackedFormat& format, const Model& model, const ExportPlan& plan) {
  PackedModules modules;
  modules.layers = model.config.num_layers;
  modules.experts = model.config.experts.count;
  modules.prefix = model.layer_prefix();
  modules.mlx_experts = mlx_experts_of(model);
  for (const Module& module : model.modules) {
    const auto scheme = packed_scheme(format, model, plan, model.checkpoint->info(module.tensor));
    if (!scheme) {
      modules.kept.push_back({module.layer, module.name});
      continue;
    }
    modules.by_scheme[scheme->name()].push_back({module.layer, module.name});
    modules.schemes[scheme->name()] = *scheme;
    modules.all[module.tensor] = {*scheme, module.rows, module.cols};
  }
  for (int layer = 0; model.runnable && layer < model.config.num_layers; ++layer)
    for (const LayerTensor& tensor : architecture_of(model.config).tensors(model.config, layer))
      if (tensor.kept) modules.kept.push_back({layer, tensor.name});
  for (const std::string& tensor : {model.embedding, model.head, model.layer_embedding}) {
    if (tensor.empty()) continue;
    const TensorInfo& info = model.checkpoint->info(tensor);
    if (const auto scheme = packed_scheme(format, model, plan, info))
      modules.all[tensor] = modules.beside_layers[tensor] = {*scheme, info.rows(), info.cols()};
  }
  return modules;
}

double squared_error(const float* weights, const QuantizedMatrix& matrix) {
  std::vector<float> stored(static_cast<size_t>(matrix.rows * matrix.cols));
  matrix.dequantize(stored.data());
  double error = 0;
  for (size_t i = 0; i < stored.size(); ++i) {
    const double difference = static_cast<double>(weights[i]) - stored[i];
    error += difference * difference;
  }
  return error;
}

void write_kept(const Model& model, const TensorInfo& tensor, StoredForm form, SafetensorsWriter& writer) {
  const int64_t step = rows_at_a_time(tensor, 1);
  std::vector<float> values;
  for (int64_t first = 0; first < tensor.rows(); first += step) {
    const int64_t count = std::min(step, tensor.rows() - first);
    values.resize(static_cast<size_t>(count * tensor.cols()));
    model.checkpoint->read_rows(tensor, first, count, values.data());
    store_as(form, values);
    if (written_type(tensor) == DType::F16)
      check_half_range(tensor.name, values.data(), static_cast<int64_t>(values.size()));
    writer.write(values.data(), static_cast<int64_t>(values.size()));
  }
}

PackedBytes room_for(const std::vector<PackedTensor>& tensors) {
  PackedBytes bytes;
  for (const PackedTensor& tensor : tensors) {
    size_t size = size_of(tensor.type);
    for (const int64_t dimension : tensor.shape) size *= static_cast<size_t>(dimension);
    bytes.emplace_back(size);
  }
  return bytes;
}

void write_parts(const PackedBytes& packed, SafetensorsWriter& writer) {
  for (const std::vector<std::byte>& part : packed) writer.write_bytes(part.data(), part.size());
}

struct Written {
  double squared_error = 0;
  uint64_t bytes = 0;
  bool scattered_groups = false;
};

uint64_t size_of(const PackedBytes& packed) {
  uint64_t bytes = 0;
  for (const std::vector<std::byte>& part : packed) bytes += part.size();
  return bytes;
}

// Whether some groups are of columns that are not neighbours, which the format must be able to hold.
bool has_scattered_groups(const PackedFormat& format, const QuantizedMatrix& matrix,
                          const std::string& tensor) {
  const bool scattered = !matrix.affine.group_of_column.empty() ||
                         !matrix.mixed.low.group_of_column.empty() ||
                         !matrix.mixed.high.group_of_column.empty();
  if (scattered && !format.holds_scattered_groups())
    fail(
        "{}: groups of columns that are not neighbours (act-order) cannot be stored in this format; choose "
        "gptq",
        tensor);
  return scattered;
}

// Quantizes a matrix, a few rows at a time where that is possible, packs it in memory and writes its tensors.
Written write_packed(const PackedFormat& format, const Model& model, const ExportPlan& plan,
                     const TensorInfo& tensor, bool is_stack, const Scheme& scheme,
                     SafetensorsWriter& writer) {
  constexpr int64_t kWordRows = 32;  // so that what is packed down the rows falls into whole words
  PackedBytes packed = room_for(format.tensors(scheme, tensor.rows(), tensor.cols()));
  const bool calibrated = is_calibrated(plan, tensor.name);
  const bool whole = calibrated || format.needs_whole_matrix(scheme);
  const int64_t step = whole ? tensor.rows() : rows_at_a_time(tensor, kWordRows);
  // Rows of a stack are quantized for themselves: importance is for types of GGUF files.
  const QuantizerOptions quantizer = is_stack ? plan.quantizer : quantizer_of(plan, tensor);
  std::vector<float> values;
  Written written;
  for (int64_t first = 0; first < tensor.rows(); first += step) {
    const int64_t count = std::min(step, tensor.rows() - first);
    values.resize(static_cast<size_t>(count * tensor.cols()));
    model.checkpoint->read_rows(tensor, first, count, values.data());
    QuantizedMatrix matrix = calibrated
                                 ? plan.calibrated->take(tensor.name)
                                 : quantize_matrix({values.data(), count, tensor.cols()}, scheme, quantizer);
    int64_t row = first;
    for_each_part(matrix, [&](QuantizedMatrix& part) {
      written.scattered_groups = has_scattered_groups(format, part, tensor.name) || written.scattered_groups;
      format.store(part);
      format.pack(part, row, tensor.rows(), packed);
      row += part.rows;
    });
    written.squared_error += squared_error(values.data(), matrix);
  }
  write_parts(packed, writer);
  written.bytes = size_of(packed);
  return written;
}

}  // namespace

std::string mlx_experts_of(const Model& model) {
  return (model.runnable ? architecture_of(model.config) : Architecture()).mlx_experts;
}

std::string common_refusal(const AffineScheme& scheme, int64_t cols) {
  if (scheme.axis == 0) return "holds groups along rows only";
  if (scheme.scales == ScaleStorage::SecondLevel) return "holds no 8-bit scales";
  if (scheme.group_size > 0 && cols % scheme.group_size != 0)
    return fmt::format("needs rows in whole groups, and {} does not divide {}", scheme.group_size, cols);
  return "";
}

std::string AffinePackedFormat::refusal(const Scheme& scheme, int64_t rows, int64_t cols) const {
  if (scheme.kind == Scheme::Kind::Affine) return affine_refusal(scheme.affine, rows, cols);
  if (scheme.kind == Scheme::Kind::MixedRows)
    return "holds one width a matrix, and no rows with more bits: --format strata does";
  return "holds affine groups, such as w4g64s, and no types of GGUF files";
}

std::vector<PackedTensor> AffinePackedFormat::tensors(const Scheme& scheme, int64_t rows,
                                                      int64_t cols) const {
  return affine_tensors(scheme.affine, rows, cols);
}

void AffinePackedFormat::store(QuantizedMatrix& matrix) const {
  store_affine(matrix.affine);
}

void AffinePackedFormat::pack(const QuantizedMatrix& part, int64_t first_row, int64_t rows,
                              PackedBytes& bytes) const {
  pack_affine(part.affine, first_row, rows, bytes);
}

ExportResult export_packed(const PackedFormat& format, const Model& model, const ExportPlan& plan,
                           const fs::path& target) {
  if (!stands_in_order(model, false)) {
    require_no_order(model, plan);
    return export_packed(format, with_value_heads(model, false), plan, target);
  }
  check_plan(model, plan);
  check_target(model, target);
  if (has_stacks(model) && !format.stacks_experts()) {
    const Model apart = split_experts(model);
    return export_packed(format, apart, split_plan(model, plan), target);
  }
  const std::vector<PlannedTensor> planned = planned_tensors(format, model, plan);
  check_space(target, SafetensorsWriter::file_bytes(planned, format.metadata(), shard_bytes(plan)));

  note_gguf_tensors(model);
  begin_calibrated(model, plan);
  OutputDirectory directory(target);
  write_model_files(model, directory.path());
  PackedModules modules = packed_modules(format, model, plan);
  SafetensorsWriter writer(directory.path(), planned, format.metadata(), shard_bytes(plan));
  const std::vector<ExpectedTensor> tensors = stored_tensors(model);
  Progress progress("writing " + target.filename().string(), static_cast<int64_t>(tensors.size()), "tensors");
  ExportResult result;
  result.path = target;
  for (const ExpectedTensor& expected : tensors) {
    const TensorInfo& tensor = model.checkpoint->info(expected.name);
    if (const auto scheme = packed_scheme(format, model, plan, tensor)) {
      const Written written =
          write_packed(format, model, plan, tensor, expected.experts > 0, *scheme, writer);
      modules.scattered_groups = modules.scattered_groups || written.scattered_groups;
      if (plan.schemes.count(tensor.name) > 0) {
        result.squared_error += written.squared_error;
        result.weight_bits += written.bytes * 8;
      }
    } else {
      write_kept(model, tensor, expected.form, writer);
      if (plan.schemes.count(tensor.name) > 0)
        result.weight_bits += static_cast<uint64_t>(tensor.elements()) * size_of(written_type(tensor)) * 8;
    }
    progress.advance();
  }
  write_other_tensors(model, other_tensors(model), writer);
  writer.finish();
  describe_quantization(directory.path(), format.config_entries(modules), plan.label);
  for (const fs::directory_entry& entry : fs::directory_iterator(directory.path()))
    result.file_bytes += entry.file_size();
  directory.commit();
  return result;
}

uint64_t packed_size(const PackedFormat& format, const Model& model, const ExportPlan& plan) {
  check_plan(model, plan);
  if (has_stacks(model) && !format.stacks_experts()) {
    const Model apart = split_experts(model);
    return packed_size(format, apart, split_plan(model, plan));
  }
  return SafetensorsWriter::file_bytes(planned_tensors(format, model, plan), format.metadata(),
                                       shard_bytes(plan));
}

}  // namespace strata
