#include "strata/quantizers/stored_grid.h"

#include <ATen/core/grad_mode.h>
#include <torch/csrc/autograd/custom_function.h>

#include <algorithm>
#include <numeric>

#include "strata/core/dtype.h"
#include "strata/core/error.h"
#include "strata/core/threads.h"
#include "strata/gguf/block_codec.h"

namespace strata {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

constexpr int64_t kGroupsAtOnce = 256;

at::Tensor column(const std::vector<float>& values, at::Device device) {
  return at::tensor(values, at::kFloat).unsqueeze(1).to(device);
}

std::vector<float> to_host(const at::Tensor& column) {
  const at::Tensor values = column.detach().to(at::kCPU, at::kFloat).contiguous();
  return {values.data_ptr<float>(), values.data_ptr<float>() + values.numel()};
}

at::Tensor matrix_of(const std::vector<uint8_t>& codes, int64_t rows, int64_t cols) {
  return at::from_blob(const_cast<uint8_t*>(codes.data()), {rows, cols}, at::kByte);
}

void copy_codes(const StoredGrid& grid, std::vector<uint8_t>& codes) {
  const at::Tensor matrix = grid.layout.to_matrix(grid.codes).to(at::kCPU).contiguous();
  codes.assign(matrix.data_ptr<uint8_t>(), matrix.data_ptr<uint8_t>() + matrix.numel());
}

at::Tensor floats_of_halves(const std::vector<uint16_t>& bits, at::Device device) {
  std::vector<float> values(bits.size());
  std::transform(bits.begin(), bits.end(), values.begin(), half_to_float);
  return column(values, device);
}

std::vector<uint16_t> halves_of(const at::Tensor& column) {
  const std::vector<float> values = to_host(column);
  std::vector<uint16_t> bits(values.size());
  std::transform(values.begin(), values.end(), bits.begin(), float_to_half);
  return bits;
}

StoredGrid open_affine(const AffineMatrix& matrix, at::Device device) {
  StoredGrid grid;
  const AffineScheme& scheme = matrix.scheme;
  grid.layout = GroupLayout(scheme, matrix.rows, matrix.cols, matrix.group_of_column, device);
  grid.largest_code = (1 << scheme.bits) - 1;
  grid.codes =
      grid.layout
          .to_groups(matrix_of(matrix.codes, matrix.rows, matrix.cols).to(device, at::kByte, false, true))
          .contiguous();
  grid.float_zeros = !scheme.symmetric && !scheme.integer_zero && scheme.scales == ScaleStorage::Half;
  grid.floats.zero = scheme.symmetric ? column({static_cast<float>(1 << (scheme.bits - 1))}, device)
                                      : column(matrix.zeros, device);
  if (scheme.scales == ScaleStorage::Half) {
    grid.floats.scale = column(matrix.scales, device);
    return grid;
  }
  const SecondLevelCodes& second = matrix.second_level;
  grid.groups_per_block = kScalesPerRange;
  grid.unit = column({second.scale_codes.begin(), second.scale_codes.end()}, device);
  grid.floats.scale = floats_of_halves(second.scale_steps, device);
  grid.floats.scale_minimum = floats_of_halves(second.scale_minimums, device);
  return grid;
}

void close_affine(const StoredGrid& grid, AffineMatrix& matrix) {
  const GridFloats floats = as_stored(grid, grid.floats);
  copy_codes(grid, matrix.codes);
  matrix.scales = to_host(steps_of(grid, floats));
  if (grid.float_zeros) matrix.zeros = to_host(floats.zero);
  if (matrix.scheme.scales == ScaleStorage::Half) return;
  matrix.second_level.scale_steps = halves_of(floats.scale);
  matrix.second_level.scale_minimums = halves_of(floats.scale_minimum);
}

// The blocks of a GGUF matrix, in the order of its weights.
struct Blocks {
  const GgufCodec& codec;
  const GgufCodes& codes;
  int64_t count, groups;  // groups: of one

  Blocks(const Scheme& scheme, int64_t rows, int64_t cols)
      : codec(codec_of(stored_type(scheme.gguf, cols))),
        codes(*codec.codes),
        count(rows * (cols / codec.block_elements)),
        groups(codec.block_elements / codes.sub_block) {}
};

// What every byte stands for where that is not the code less a zero point.
at::Tensor levels_of(const CodeLevels& levels, const at::Tensor& codes) {
  if (!levels.values && !codes.gt(levels.largest).any().item<bool>()) return {};
  at::Tensor table = at::zeros({256}, at::kFloat);
  const int last = levels.values ? levels.largest : 255;
  for (int code = 0; code <= last; ++code)
    table.data_ptr<float>()[code] = static_cast<float>(level_of_code(levels, static_cast<uint8_t>(code)));
  return table;
}

StoredGrid open_gguf(const QuantizedMatrix& matrix, at::Device device) {
  const Blocks blocks(matrix.scheme, matrix.rows, matrix.cols);
  StoredGrid grid;
  AffineScheme cut;
  cut.group_size = blocks.codes.sub_block;
  grid.layout = GroupLayout(cut, matrix.rows, matrix.cols);
  grid.groups_per_block = blocks.groups;
  grid.largest_code = blocks.codes.levels.largest;
  const at::Tensor codes = at::empty({grid.layout.groups(), grid.layout.length()}, at::kByte);
  std::vector<float> units(static_cast<size_t>(blocks.count * blocks.groups)), min_units(units.size());
  std::vector<float> scales(static_cast<size_t>(blocks.count)), minimums(scales.size());
  parallel_for(blocks.count, kGroupsAtOnce, [&](int64_t begin, int64_t end) {
    for (int64_t b = begin; b < end; ++b) {
      StoredBlock stored;
      blocks.codes.read(matrix.blocks.data() + b * blocks.codec.block_bytes, stored);
      std::copy_n(stored.codes, blocks.codec.block_elements,
                  codes.data_ptr<uint8_t>() + b * blocks.codec.block_elements);
      std::copy_n(stored.scales, blocks.groups, units.data() + b * blocks.groups);
      std::copy_n(stored.mins, blocks.groups, min_units.data() + b * blocks.groups);
      scales[b] = stored.d;
      minimums[b] = stored.dmin;
    }
  });
  const at::Tensor levels = levels_of(blocks.codes.levels, codes);
  if (levels.defined()) grid.level_of_code = levels.to(device);
  grid.codes = codes.to(device);
  grid.floats.zero = column({levels.defined() ? 0 : static_cast<float>(blocks.codes.levels.zero)}, device);
  grid.floats.scale = column(scales, device);
  if (blocks.groups > 1) grid.unit = column(units, device);
  if (!blocks.codes.has_min) return grid;
  grid.floats.minimum = column(minimums, device);
  if (blocks.groups > 1) grid.min_unit = column(min_units, device);
  return grid;
}

void close_gguf(const StoredGrid& grid, QuantizedMatrix& matrix) {
  const Blocks blocks(matrix.scheme, matrix.rows, matrix.cols);
  const GridFloats floats = as_stored(grid, grid.floats);
  std::vector<uint8_t> codes;
  copy_codes(grid, codes);
  const std::vector<float> scales = to_host(floats.scale);
  const std::vector<float> minimums = floats.minimum.defined() ? to_host(floats.minimum) : scales;
  parallel_for(blocks.count, kGroupsAtOnce, [&](int64_t begin, int64_t end) {
    for (int64_t b = begin; b < end; ++b) {
      std::byte* block = matrix.blocks.data() + b * blocks.codec.block_bytes;
      StoredBlock stored;
      blocks.codes.read(block, stored);
      std::copy_n(codes.data() + b * blocks.codec.block_elements, blocks.codec.block_elements, stored.codes);
      stored.d = scales[b];
      if (blocks.codes.has_min) stored.dmin = minimums[b];
      blocks.codes.write(stored, block);
    }
  });
}

// One value a block as one a group.
at::Tensor for_groups(const StoredGrid& grid, const at::Tensor& of_blocks) {
  if (grid.groups_per_block == 1) return of_blocks;
  return of_blocks.expand({-1, grid.groups_per_block}).reshape({-1, 1}).narrow(0, 0, grid.codes.size(0));
}

at::Tensor levels(const at::Tensor& codes, const at::Tensor& level_of_code) {
  return level_of_code.defined()
             ? level_of_code.index_select(0, codes.reshape({-1}).to(at::kInt)).view_as(codes)
             : codes.to(at::kFloat);
}

// step (level - zero) for all groups.
struct WeightsOfCodes : torch::autograd::Function<WeightsOfCodes> {
  static at::Tensor forward(AutogradContext* context, const at::Tensor& step, const at::Tensor& zero,
                            const StoredGrid* grid) {
    context->save_for_backward({step, zero, grid->codes, grid->level_of_code});
    return levels(grid->codes, grid->level_of_code).sub_(zero).mul_(step);
  }

  static variable_list backward(AutogradContext* context, variable_list gradients) {
    const variable_list saved = context->get_saved_variables();
    const at::Tensor &step = saved[0], &zero = saved[1], &gradient = gradients[0];
    const at::Tensor sum = gradient.sum(1, true);
    const at::Tensor by_step = levels(saved[2], saved[3]).mul_(gradient).sum(1, true).sub_(zero * sum);
    at::Tensor by_zero;
    if (context->needs_input_grad(1)) by_zero = (step * sum).neg_();
    return {by_step, by_zero, at::Tensor()};
  }
};

OpenedMatrix open_stack(const QuantizedMatrix& stack, at::Device device) {
  OpenedMatrix opened;
  std::vector<at::Tensor> places;
  int64_t first = 0;
  for (const QuantizedMatrix& matrix : stack.parts) {
    OpenedMatrix own = open_grid(matrix, device);
    if (own.place_of_row.defined()) places.push_back(own.place_of_row + first);
    first += matrix.rows;
    for (StoredGrid& part : own.parts) opened.parts.push_back(std::move(part));
  }
  if (!places.empty()) opened.place_of_row = at::cat(places);
  return opened;
}

at::Tensor half(const at::Tensor& values) {
  constexpr double kLargest = 65504;
  return values.clamp(-kLargest, kLargest).to(at::kHalf).to(at::kFloat);
}

}  // namespace

at::Tensor steps_of(const StoredGrid& grid, const GridFloats& floats) {
  at::Tensor steps = for_groups(grid, floats.scale);
  if (grid.unit.defined()) steps = steps * grid.unit;
  return floats.scale_minimum.defined() ? for_groups(grid, floats.scale_minimum) + steps : steps;
}

at::Tensor offsets_of(const StoredGrid& grid, const GridFloats& floats) {
  if (!floats.minimum.defined()) return {};
  const at::Tensor offsets = for_groups(grid, floats.minimum);
  return grid.min_unit.defined() ? offsets * grid.min_unit : offsets;
}

at::Tensor weights_of(const StoredGrid& grid, const GridFloats& floats) {
  const at::Tensor offsets = offsets_of(grid, floats);
  const at::Tensor scaled = WeightsOfCodes::apply(steps_of(grid, floats), floats.zero, &grid);
  return grid.layout.to_matrix(offsets.defined() ? scaled - offsets : scaled);
}

GridFloats as_stored(const StoredGrid& grid, const GridFloats& floats) {
  const at::NoGradGuard no_grad;
  GridFloats stored = floats;
  const auto round = [](at::Tensor& values) {
    if (values.defined()) values = half(values);
  };
  round(stored.scale);
  round(stored.scale_minimum);
  if (grid.float_zeros) round(stored.zero);
  round(stored.minimum);
  const at::Tensor smallest = at::copysign(at::full_like(stored.scale, 0x1.0p-24), floats.scale);
  stored.scale = at::where(stored.scale.eq(0).logical_and(floats.scale.ne(0)), smallest, stored.scale);
  return stored;
}

bool has_grid(const Scheme& scheme, int64_t cols) {
  if (scheme.kind == Scheme::Kind::Gguf) return codec_of(stored_type(scheme.gguf, cols)).codes != nullptr;
  return scheme.kind == Scheme::Kind::Affine || scheme.kind == Scheme::Kind::MixedRows;
}

OpenedMatrix open_grid(const QuantizedMatrix& matrix, at::Device device) {
  if (!has_grid(matrix.scheme, matrix.cols))
    fail("a matrix in {} has no codes of its own to be learned", matrix.scheme.name());
  if (!matrix.parts.empty()) return open_stack(matrix, device);
  OpenedMatrix opened;
  if (matrix.scheme.kind == Scheme::Kind::Gguf) {
    opened.parts.push_back(open_gguf(matrix, device));
  } else if (matrix.scheme.kind == Scheme::Kind::Affine) {
    opened.parts.push_back(open_affine(matrix.affine, device));
  } else {
    const MixedRowsMatrix& mixed = matrix.mixed;
    for (const AffineMatrix* part : {&mixed.low, &mixed.high})
      if (part->rows > 0) opened.parts.push_back(open_affine(*part, device));
    std::vector<int64_t> order(static_cast<size_t>(matrix.rows));
    std::iota(order.begin(), order.end(), 0);
    std::stable_partition(order.begin(), order.end(), [&](int64_t row) {
      return !std::binary_search(mixed.high_rows.begin(), mixed.high_rows.end(), row);
    });
    opened.place_of_row = at::argsort(at::tensor(order, at::kLong)).to(device);
  }
  return opened;
}

void close_grid(const OpenedMatrix& opened, QuantizedMatrix& matrix) {
  size_t next = 0;
  for_each_part(matrix, [&](QuantizedMatrix& one) {
    if (one.scheme.kind == Scheme::Kind::Gguf) return close_gguf(opened.parts.at(next++), one);
    if (one.scheme.kind == Scheme::Kind::Affine) return close_affine(opened.parts.at(next++), one.affine);
    for (AffineMatrix* part : {&one.mixed.low, &one.mixed.high})
      if (part->rows > 0) close_affine(opened.parts.at(next++), *part);
  });
}

at::Tensor join_rows(const OpenedMatrix& opened, const std::vector<at::Tensor>& parts) {
  const at::Tensor all = parts.size() == 1 ? parts.front() : at::cat(parts);
  return opened.place_of_row.defined() ? all.index_select(0, opened.place_of_row) : all;
}

std::vector<at::Tensor> part_rows(const OpenedMatrix& opened, const at::Tensor& matrix) {
  if (opened.parts.size() == 1) return {matrix};
  const at::Tensor ordered =
      opened.place_of_row.defined() ? matrix.index_select(0, at::argsort(opened.place_of_row)) : matrix;
  std::vector<at::Tensor> parts;
  int64_t first = 0;
  for (const StoredGrid& part : opened.parts) {
    parts.push_back(ordered.narrow(0, first, part.layout.rows()));
    first += part.layout.rows();
  }
  return parts;
}

}  // namespace strata
