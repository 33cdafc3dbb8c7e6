#include <algorithm>
#include <cstddef>
#include <vector>

#include "strata/core/error.h"
#include "strata/core/progress.h"
#include "strata/core/threads.h"
#include "strata/export/export.h"
#include "strata/export/export_plan.h"
#include "strata/export/gguf_layout.h"
#include "strata/gguf/codec.h"
#include "strata/model/gguf_names.h"

namespace strata {
namespace {

// Puts the rows of whole heads into llama.cpp's order.
void permute_rows(std::vector<float>& rows, std::vector<float>& scratch, int64_t count, int64_t cols,
                  int64_t heads) {
  const std::vector<int64_t> order = gguf_row_order(count, heads);
  scratch.resize(rows.size());
  for (int64_t r = 0; r < count; ++r)
    std::copy_n(rows.data() + order[static_cast<size_t>(r)] * cols, cols, scratch.data() + r * cols);
  rows.swap(scratch);
}

// sum (w - w')^2, added chunk by chunk in order.
double squared_error(GgufType type, const float* weights, const std::byte* blocks, int64_t rows,
                     int64_t cols) {
  constexpr int64_t kGrain = 16;
  const int64_t bytes = row_bytes(type, cols);
  std::vector<double> sums(static_cast<size_t>((rows + kGrain - 1) / kGrain));
  parallel_for(rows, kGrain, [&](int64_t begin, int64_t end) {
    std::vector<float> decoded(static_cast<size_t>(cols));
    double sum = 0;
    for (int64_t r = begin; r < end; ++r) {
      decode_gguf(type, blocks + r * bytes, cols, decoded.data());
      for (int64_t c = 0; c < cols; ++c) {
        const double difference =
            static_cast<double>(weights[r * cols + c]) - decoded[static_cast<size_t>(c)];
        sum += difference * difference;
      }
    }
    sums[static_cast<size_t>(begin / kGrain)] = sum;
  });
  double total = 0;
  for (const double sum : sums) total += sum;
  return total;
}

// Reads, orders, encodes and writes a matrix or vector a few rows at a time. Returns the squared error.
double write_encoded(const Checkpoint& checkpoint, const GgufTensor& tensor, const GgufSource& source,
                     const ExportPlan& plan, GgufPartsWriter& writer) {
  const TensorInfo& info = checkpoint.info(source.tensor);
  const int64_t rows = info.rows(), cols = info.cols();
  const bool vector = info.shape.size() < 2;
  const int64_t head_rows = source.heads > 0 ? (vector ? cols : rows) / source.heads : 1;
  const int64_t bytes = row_bytes(tensor.type, cols);
  const int64_t step = rows_at_a_time(info, vector ? 1 : head_rows);
  std::vector<float> values(static_cast<size_t>(step * cols)), scratch;
  std::vector<std::byte> blocks(static_cast<size_t>(step * bytes));
  const float* importance = importance_of(plan, info);
  double error = 0;
  for (int64_t first = 0; first < rows; first += step) {
    const int64_t count = std::min(step, rows - first);
    values.resize(static_cast<size_t>(count * cols));
    checkpoint.read_rows(info, first, count, values.data());
    if (source.heads > 0 && vector) permute_rows(values, scratch, cols, 1, source.heads);
    if (source.heads > 0 && !vector) permute_rows(values, scratch, count, cols, count / head_rows);
    if (tensor.type == GgufType::F16) check_half_range(info.name, values.data(), count * cols);
    encode_gguf(tensor.type, values.data(), count, cols, importance, blocks.data());
    error += squared_error(tensor.type, values.data(), blocks.data(), count, cols);
    writer.write(blocks.data(), static_cast<uint64_t>(count * bytes));
  }
  return error;
}

// The blocks of a matrix in llama.cpp's row order.
void permute_block_rows(std::vector<std::byte>& blocks, int64_t rows, int64_t heads) {
  const int64_t bytes = static_cast<int64_t>(blocks.size()) / rows;
  const std::vector<int64_t> order = gguf_row_order(rows, heads);
  std::vector<std::byte> permuted(blocks.size());
  for (int64_t r = 0; r < rows; ++r)
    std::copy_n(blocks.data() + order[static_cast<size_t>(r)] * bytes, bytes, permuted.data() + r * bytes);
  blocks.swap(permuted);
}

// Writes the blocks that the plan's calibrated quantizer gives. Returns the squared error.
double write_calibrated(const Model& model, const ExportPlan& plan, const GgufSource& source,
                        GgufPartsWriter& writer) {
  double error = 0;
  QuantizedMatrix matrix = quantize_planned(model, plan, source.tensor, &error);
  if (source.heads > 0) permute_block_rows(matrix.blocks, matrix.rows, source.heads);
  writer.write(matrix.blocks.data(), matrix.blocks.size());
  return error;
}

void write_copied(const GgufFile& input, const GgufTensor& stored, GgufPartsWriter& writer) {
  writer.write(input.data(stored), stored.bytes());
  input.release(stored);
}

}  // namespace

ExportResult export_gguf(const Model& model, const ExportPlan& plan, const std::filesystem::path& target) {
  check_target(model, target);
  const GgufLayout layout = gguf_layout(model, plan);
  ExportResult result;
  result.file_bytes = GgufPartsWriter::file_size(layout.keys, layout.tensors, plan.shard_bytes);
  check_space(target, result.file_bytes);
  begin_calibrated(model, plan);
  GgufPartsWriter writer(target, layout.keys, layout.tensors, plan.shard_bytes);
  result.path = writer.first_path();
  check_target(model, result.path);
  Progress progress("writing " + target.filename().string(), static_cast<int64_t>(layout.tensors.size()),
                    "tensors");
  for (size_t i = 0; i < layout.tensors.size(); ++i) {
    const GgufTensor& tensor = layout.tensors[i];
    const GgufSource& source = layout.sources[i];
    double error = 0;
    if (source.copied != nullptr)
      write_copied(*layout.input, *source.copied, writer);
    else if (source.tensor.empty())
      writer.write(reinterpret_cast<const std::byte*>(source.values.data()), tensor.bytes());
    else if (is_calibrated(plan, source.tensor))
      error = write_calibrated(model, plan, source, writer);
    else
      error = write_encoded(*model.checkpoint, tensor, source, plan, writer);
    if (source.planned) {
      result.squared_error += error;
      result.weight_bits += tensor.bytes() * 8;
    }
    progress.advance();
  }
  writer.commit();
  return result;
}

uint64_t gguf_file_size(const Model& model, const ExportPlan& plan) {
  const GgufLayout layout = gguf_layout(model, plan);
  return GgufPartsWriter::file_size(layout.keys, layout.tensors, plan.shard_bytes);
}

}  // namespace strata
