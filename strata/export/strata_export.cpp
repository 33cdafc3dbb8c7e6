// strata's own directories, which hold every affine scheme, matrices of which some rows have more bits
// included, in exactly the bits that schemes count. The layout is that of docs/files.md.
#include <cstring>

#include "strata/core/bit_packing.h"
#include "strata/export/packed_format.h"

namespace strata {
namespace {

// The tensors of rows of one width: the whole matrix, or one of its two parts.
std::vector<PackedTensor> tensors_of_rows(const std::string& prefix, const AffineScheme& scheme, int64_t rows,
                                          int64_t cols) {
  if (rows == 0) return {};
  const bool along_rows = scheme.axis == 1, second_level = scheme.scales == ScaleStorage::SecondLevel;
  const int64_t groups = group_count(scheme, rows, cols);
  const std::vector<int64_t> of_groups =
      along_rows ? std::vector<int64_t>{rows, groups / rows} : std::vector<int64_t>{groups};
  std::vector<PackedTensor> tensors;
  if (along_rows)
    tensors.push_back({prefix + "codes", DType::U32, {rows, packed_words(cols, scheme.bits)}});
  else
    tensors.push_back({prefix + "codes", DType::U32, {packed_words(rows * cols, scheme.bits)}});
  tensors.push_back({prefix + "scales", second_level ? DType::U8 : DType::F16, of_groups});
  if (second_level) {
    const int64_t ranges = (groups + kScalesPerRange - 1) / kScalesPerRange;
    tensors.push_back({prefix + "scale_ranges", DType::F16, {ranges, 2}});
  }
  if (scheme.symmetric) return tensors;
  if (scheme.integer_zero)
    tensors.push_back({prefix + "zeros", DType::U32, {groups / rows, packed_words(rows, scheme.bits)}});
  else
    tensors.push_back({prefix + "zeros", second_level ? DType::U8 : DType::F16, of_groups});
  if (second_level) tensors.push_back({prefix + "zero_range", DType::F16, {2}});
  return tensors;
}

// Fills the bytes of those tensors, one after the other, with rows [first_row, first_row + part.rows) of
// `rows`.
class RowPacker {
 public:
  RowPacker(const AffineMatrix& part, int64_t first_row, int64_t rows, std::vector<std::byte>* next)
      : part_(part), first_row_(first_row), rows_(rows), next_(next) {
    if (part.rows == 0) return;
    groups_of_row_ = static_cast<int64_t>(part.scales.size()) / part.rows;
    pack_weights();
    if (part.scheme.scales == ScaleStorage::SecondLevel)
      pack_second_level();
    else
      pack_halves();
  }

  std::vector<std::byte>* next() const { return next_; }

 private:
  void pack_weights() {
    auto* words = values_of<uint32_t>(*next_++);
    const int bits = part_.scheme.bits;
    if (part_.scheme.axis == 0)
      return pack_codes(part_.codes.data(), static_cast<int64_t>(part_.codes.size()), bits, words);
    const int64_t words_of_row = packed_words(part_.cols, bits);
    for (int64_t r = 0; r < part_.rows; ++r)
      pack_codes(part_.codes.data() + r * part_.cols, part_.cols, bits,
                 words + (first_row_ + r) * words_of_row);
  }

  void pack_halves() {
    put_halves(part_.scales, *next_++);
    if (part_.scheme.symmetric) return;
    if (part_.scheme.integer_zero)
      pack_zero_codes(values_of<uint32_t>(*next_++));
    else
      put_halves(part_.zeros, *next_++);
  }

  void put_halves(const std::vector<float>& values, std::vector<std::byte>& bytes) const {
    from_float(DType::F16, values.data(), bytes.data() + first_row_ * groups_of_row_ * 2,
               static_cast<int64_t>(values.size()));
  }

  // Down the rows.
  void pack_zero_codes(uint32_t* words) const {
    const int bits = part_.scheme.bits;
    std::vector<uint8_t> column(static_cast<size_t>(part_.rows));
    for (int64_t g = 0; g < groups_of_row_; ++g) {
      for (int64_t r = 0; r < part_.rows; ++r)
        column[static_cast<size_t>(r)] =
            static_cast<uint8_t>(part_.zeros[static_cast<size_t>(r * groups_of_row_ + g)]);
      pack_codes(column.data(), part_.rows, bits,
                 words + g * packed_words(rows_, bits) + first_row_ * bits / 32);
    }
  }

  // Of the whole matrix at once.
  void pack_second_level() {
    const SecondLevelCodes& stored = part_.second_level;
    copy(stored.scale_codes, *next_++);
    auto* ranges = values_of<uint16_t>(*next_++);
    for (size_t i = 0; i < stored.scale_minimums.size(); ++i) {
      *ranges++ = stored.scale_minimums[i];
      *ranges++ = stored.scale_steps[i];
    }
    if (part_.scheme.symmetric) return;
    copy(stored.zero_codes, *next_++);
    auto* range = values_of<uint16_t>(*next_++);
    range[0] = stored.zero_minimum;
    range[1] = stored.zero_step;
  }

  static void copy(const std::vector<uint8_t>& codes, std::vector<std::byte>& bytes) {
    std::memcpy(bytes.data(), codes.data(), bytes.size());
  }

  const AffineMatrix& part_;
  int64_t first_row_, rows_, groups_of_row_ = 0;
  std::vector<std::byte>* next_;
};

class Strata final : public PackedFormat {
 public:
  std::string refusal(const Scheme& scheme, int64_t, int64_t) const override {
    if (scheme.kind == Scheme::Kind::Affine || scheme.kind == Scheme::Kind::MixedRows) return "";
    return "holds affine groups, such as w4g64s or w2g64+w3@0.1, and no types of GGUF files";
  }

  std::vector<PackedTensor> tensors(const Scheme& scheme, int64_t rows, int64_t cols) const override {
    if (scheme.kind == Scheme::Kind::Affine) return tensors_of_rows(".", scheme.affine, rows, cols);
    const int64_t high = scheme.high_row_count(rows);
    std::vector<PackedTensor> tensors = tensors_of_rows(".", scheme.affine, rows - high, cols);
    for (PackedTensor& tensor : tensors_of_rows(".high_", scheme.high_affine(), high, cols))
      tensors.push_back(std::move(tensor));
    if (row_list_bits(rows, high) == 0) return tensors;
    if (row_list_is_numbers(rows, high))
      tensors.push_back({".high_rows", DType::U32, {high}});
    else
      tensors.push_back({".high_rows", DType::U8, {(rows + 7) / 8}});
    return tensors;
  }

  bool needs_whole_matrix(const Scheme& scheme) const override {
    return scheme.kind == Scheme::Kind::MixedRows || scheme.affine.axis == 0 ||
           scheme.affine.scales == ScaleStorage::SecondLevel;
  }

  void store(QuantizedMatrix&) const override {}  // schemes hold what is stored

  void pack(const QuantizedMatrix& part, int64_t first_row, int64_t rows, PackedBytes& bytes) const override {
    if (part.scheme.kind == Scheme::Kind::Affine) {
      RowPacker(part.affine, first_row, rows, bytes.data());
      return;
    }
    const MixedRowsMatrix& mixed = part.mixed;
    std::vector<std::byte>* next = RowPacker(mixed.low, 0, mixed.low.rows, bytes.data()).next();
    next = RowPacker(mixed.high, 0, mixed.high.rows, next).next();
    const auto high = static_cast<int64_t>(mixed.high_rows.size());
    if (row_list_bits(rows, high) == 0) return;
    if (row_list_is_numbers(rows, high)) {
      for (size_t i = 0; i < mixed.high_rows.size(); ++i)
        values_of<uint32_t>(*next)[i] = static_cast<uint32_t>(mixed.high_rows[i]);
    } else {
      for (const int64_t row : mixed.high_rows) (*next)[row / 8] |= std::byte{1} << row % 8;
    }
  }

  Json config_entries(const PackedModules& modules) const override {
    Json matrices = Json::object();
    for (const auto& [tensor, matrix] : modules.all)
      matrices[tensor.substr(0, tensor.rfind('.'))] = {{"scheme", matrix.scheme.name()},
                                                       {"shape", {matrix.rows, matrix.cols}}};
    return {{"quantization_config", {{"quant_method", "strata"}, {"version", 1}, {"modules", matrices}}}};
  }
};

}  // namespace

const PackedFormat& strata_format() {
  static const Strata format;
  return format;
}

}  // namespace strata
