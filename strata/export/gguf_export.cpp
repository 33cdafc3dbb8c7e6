#include <algorithm>
#include <cstddef>
#include <vector>

#include "strata/core/error.h"
#include "strata/core/progress.h"
#include "strata/core/threads.h"
#include "strata/export/export.h"
#include "strata/export/export_plan.h"
#include "strata/export/gguf_layout.h"
#include "strata/export/other_tensors.h"
#include "strata/gguf/codec.h"
#include "strata/model/value_heads.h"

namespace strata {
namespace {

// Rows [first, first + count) of a GGUF's tensor, or all of a vector, in llama.cpp's order.
void read_ordered(const Checkpoint& checkpoint, const TensorInfo& info, const std::vector<int64_t>& order,
                  int64_t first, int64_t count, std::vector<float>& values) {
  const int64_t cols = info.cols();
  values.resize(static_cast<size_t>(count * cols));
  if (order.empty()) return checkpoint.read_rows(info, first, count, values.data());
  if (info.shape.size() < 2) {
    const std::vector<float> all = checkpoint.read(info.name);
    for (size_t i = 0; i < order.size(); ++i) values[i] = all[static_cast<size_t>(order[i])];
    return;
  }
  for (int64_t row = 0; row < count; ++row)
    checkpoint.read_rows(info, order[static_cast<size_t>(first + row)], 1, values.data() + row * cols);
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

int64_t matrices_in(const GgufTensor& tensor) {
  return tensor.shape.size() == 3 ? tensor.shape.front() : 1;
}

// Reads, orders, encodes and writes a matrix or vector a few rows at a time. Returns the squared error.
double write_encoded(const Checkpoint& checkpoint, const GgufTensor& tensor, const GgufSource& source,
                     const ExportPlan& plan, GgufPartsWriter& writer) {
  const TensorInfo& info = checkpoint.info(source.tensor);
  const bool in_order = source.rows.empty() || info.shape.size() < 2;
  const int64_t rows = in_order ? info.rows() : static_cast<int64_t>(source.rows.size()), cols = info.cols();
  const int64_t bytes = row_bytes(tensor.type, cols);
  const int64_t matrices = matrices_in(tensor), rows_of_matrix = rows / matrices;
  const int64_t step = std::min(rows_at_a_time(info, 1), rows_of_matrix);
  std::vector<float> values;
  std::vector<std::byte> blocks(static_cast<size_t>(step * bytes));
  const float* of_all = importance_of(plan, info, matrices);
  double error = 0;
  for (int64_t first = 0, count; first < rows; first += count) {
    count = std::min(step, rows_of_matrix - first % rows_of_matrix);
    const float* importance = of_all == nullptr ? nullptr : of_all + first / rows_of_matrix * cols;
    read_ordered(checkpoint, info, source.rows, first, count, values);
    if (tensor.type == GgufType::F16) check_half_range(info.name, values.data(), count * cols);
    encode_gguf(tensor.type, values.data(), count, cols, importance, blocks.data());
    error += squared_error(tensor.type, values.data(), blocks.data(), count, cols);
    writer.write(blocks.data(), static_cast<uint64_t>(count * bytes));
  }
  return error;
}

// The blocks of these rows of a matrix of so many, in llama.cpp's order.
void take_block_rows(std::vector<std::byte>& blocks, int64_t rows, const std::vector<int64_t>& order) {
  const size_t bytes = blocks.size() / static_cast<size_t>(rows);
  std::vector<std::byte> permuted(bytes * order.size());
  for (size_t row = 0; row < order.size(); ++row)
    std::copy_n(blocks.data() + static_cast<size_t>(order[row]) * bytes, bytes,
                permuted.data() + row * bytes);
  blocks.swap(permuted);
}

// The matrix that the plan's calibrated quantizer gave last: its parts may be tensors of their own.
struct Taken {
  std::string tensor;
  QuantizedMatrix matrix;
};

// Writes the blocks that the plan's calibrated quantizer gives. Returns the squared error, of several tensors
// of one matrix with the first.
double write_calibrated(const Model& model, const ExportPlan& plan, const GgufSource& source, Taken& taken,
                        GgufPartsWriter& writer) {
  double error = 0;
  const int64_t rows = model.checkpoint->info(source.tensor).rows();
  const bool is_part = !source.rows.empty() && static_cast<int64_t>(source.rows.size()) < rows;
  if (!is_part || taken.tensor != source.tensor)
    taken = {source.tensor, quantize_planned(model, plan, source.tensor, &error)};
  QuantizedMatrix matrix = is_part ? taken.matrix : std::move(taken.matrix);
  for_each_part(matrix, [&](QuantizedMatrix& part) {
    if (!source.rows.empty()) take_block_rows(part.blocks, rows, source.rows);
    writer.write(part.blocks.data(), part.blocks.size());
  });
  return error;
}

void write_copied(const GgufFile& input, const GgufTensor& stored, GgufPartsWriter& writer) {
  writer.write(input.data(stored), stored.bytes());
  input.release(stored);
}

}  // namespace

ExportResult export_gguf(const Model& model, const ExportPlan& plan, const std::filesystem::path& target) {
  if (!stands_in_order(model, true)) {
    require_no_order(model, plan);
    return export_gguf(with_value_heads(model, true), plan, target);
  }
  check_target(model, target);
  const GgufLayout layout = gguf_layout(model, plan);
  ExportResult result;
  result.file_bytes = GgufPartsWriter::file_size(layout.keys, layout.tensors, plan.shard_bytes);
  check_space(target, result.file_bytes);
  if (layout.input == nullptr) note_other_tensors(model);
  begin_calibrated(model, plan);
  GgufPartsWriter writer(target, layout.keys, layout.tensors, plan.shard_bytes);
  result.path = writer.first_path();
  check_target(model, result.path);
  Progress progress("writing " + target.filename().string(), static_cast<int64_t>(layout.tensors.size()),
                    "tensors");
  Taken taken;
  for (size_t i = 0; i < layout.tensors.size(); ++i) {
    const GgufTensor& tensor = layout.tensors[i];
    const GgufSource& source = layout.sources[i];
    double error = 0;
    if (source.copied != nullptr)
      write_copied(*layout.input, *source.copied, writer);
    else if (source.tensor.empty())
      writer.write(reinterpret_cast<const std::byte*>(source.values.data()), tensor.bytes());
    else if (is_calibrated(plan, source.tensor))
      error = write_calibrated(model, plan, source, taken, writer);
    else
      error = write_encoded(*layout.checkpoint, tensor, source, plan, writer);
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
