// strata's own directories: every affine scheme, and matrices of which some rows have more bits. The layout
// is that of docs/files.md.
#include <algorithm>

#include "strata/checkpoint/packed_groups.h"
#include "strata/core/bit_packing.h"
#include "strata/core/dtype.h"
#include "strata/core/error.h"
#include "strata/core/text.h"
#include "strata/core/threads.h"
#include "strata/quantization/mixed_rows.h"

namespace strata {
namespace {

constexpr int64_t kMostRows = int64_t{1} << 31;  // and columns; sums of groups and bits fit 64 bits by far

template <class T>
std::vector<T> read_values(const Checkpoint& stored, const TensorInfo& tensor, int64_t first, int64_t count) {
  std::vector<T> values(static_cast<size_t>(count));
  stored.read_bytes(tensor, static_cast<uint64_t>(first) * sizeof(T),
                    static_cast<uint64_t>(count) * sizeof(T), reinterpret_cast<std::byte*>(values.data()));
  return values;
}

// Rows of one width: the whole matrix, or one of its two parts.
class Rows {
 public:
  // `prefix` begins the tensors' names: "model.layers.0.mlp.up_proj." or the same with "high_". Adds them to
  // `parts`.
  Rows(const Checkpoint& stored, const std::string& prefix, const AffineScheme& scheme, int64_t rows,
       int64_t cols, std::vector<std::string>& parts)
      : scheme_(scheme), prefix_(prefix), rows_(rows), cols_(cols), groups_(group_count(scheme, rows, cols)) {
    if (rows == 0) return;
    const bool along_rows = scheme.axis == 1, second_level = scheme.scales == ScaleStorage::SecondLevel;
    const int64_t groups_of_row = groups_ / rows;
    const auto shape = [&](int64_t of_row) {
      return along_rows ? std::vector<int64_t>{rows, of_row} : std::vector<int64_t>{groups_};
    };
    const auto expect = [&](const char* name, const std::vector<int64_t>& expected, const char* type) {
      const std::string tensor = prefix + name;
      const TensorInfo& part = part_of_shape(stored, tensor, expected);
      if (part.type != type)
        fail("{}: tensor {} has type {}; {} was expected", stored.path().string(), printable(part.name),
             printable(part.type), type);
      parts.push_back(part.name);
    };
    expect("codes",
           along_rows ? std::vector<int64_t>{rows, packed_words(cols, scheme.bits)}
                      : std::vector<int64_t>{packed_words(rows * cols, scheme.bits)},
           "U32");
    expect("scales", shape(groups_of_row), second_level ? "U8" : "F16");
    if (second_level) expect("scale_ranges", {(groups_ + kScalesPerRange - 1) / kScalesPerRange, 2}, "F16");
    if (scheme.symmetric) return;
    if (scheme.integer_zero)
      expect("zeros", {groups_of_row, packed_words(rows, scheme.bits)}, "U32");
    else
      expect("zeros", shape(groups_of_row), second_level ? "U8" : "F16");
    if (second_level) expect("zero_range", {2}, "F16");
  }

  // Rows [first, first + count) as a matrix of their own; groups along rows only.
  AffineMatrix read(const Checkpoint& stored, int64_t first, int64_t count) const {
    AffineMatrix matrix;
    matrix.scheme = scheme_;
    matrix.rows = count;
    matrix.cols = cols_;
    if (count == 0) return matrix;
    const int64_t words = packed_words(cols_, scheme_.bits);
    const auto packed = read_values<uint32_t>(stored, tensor(stored, "codes"), first * words, count * words);
    matrix.codes.resize(static_cast<size_t>(count * cols_));
    parallel_for(count, kRowsPerTask, [&](int64_t begin, int64_t end) {
      for (int64_t r = begin; r < end; ++r)
        unpack_codes(packed.data() + r * words, cols_, scheme_.bits, matrix.codes.data() + r * cols_);
    });
    const int64_t groups_of_row = groups_ / rows_;
    matrix.scales = scales(stored, first * groups_of_row, count * groups_of_row);
    matrix.zeros = scheme_.integer_zero ? zero_codes(stored, first, count)
                                        : zeros(stored, first * groups_of_row, count * groups_of_row);
    return matrix;
  }

  // Dequantized rows with groups across rows: weight i of the matrix, row by row, is in group i modulo their
  // number.
  void read_across_rows(const Checkpoint& stored, int64_t first, int64_t count, float* target) const {
    constexpr int64_t kWordCodes = 32;  // as many codes as bits in a word fill whole words
    const int64_t begin = first * cols_, size = count * cols_, aligned = begin / kWordCodes * kWordCodes;
    if (size == 0) return;
    const auto packed = read_values<uint32_t>(stored, tensor(stored, "codes"), aligned * scheme_.bits / 32,
                                              packed_words(begin + size - aligned, scheme_.bits));
    std::vector<uint8_t> codes(static_cast<size_t>(begin + size - aligned));
    unpack_codes(packed.data(), static_cast<int64_t>(codes.size()), scheme_.bits, codes.data());
    const std::vector<float> all_scales = scales(stored, 0, groups_), all_zeros = zeros(stored, 0, groups_);
    for (int64_t i = 0; i < size; ++i) {
      const auto group = static_cast<size_t>((begin + i) % groups_);
      target[i] = (static_cast<float>(codes[static_cast<size_t>(begin - aligned + i)]) - all_zeros[group]) *
                  all_scales[group];
    }
  }

 private:
  const TensorInfo& tensor(const Checkpoint& stored, const char* name) const {
    return stored.info(prefix_ + name);
  }

  std::vector<float> halves(const Checkpoint& stored, const char* name, int64_t first, int64_t count) const {
    const auto bits = read_values<uint16_t>(stored, tensor(stored, name), first, count);
    std::vector<float> values;
    for (const uint16_t half : bits) values.push_back(half_to_float(half));
    return values;
  }

  // Of groups [first, first + count).
  std::vector<float> scales(const Checkpoint& stored, int64_t first, int64_t count) const {
    if (scheme_.scales == ScaleStorage::Half) return halves(stored, "scales", first, count);
    const auto codes = read_values<uint8_t>(stored, tensor(stored, "scales"), first, count);
    const int64_t range = first / kScalesPerRange, end = (first + count - 1) / kScalesPerRange + 1;
    const std::vector<float> ranges = halves(stored, "scale_ranges", 2 * range, 2 * (end - range));
    std::vector<float> values;
    for (int64_t g = 0; g < count; ++g) {
      const auto of = static_cast<size_t>(2 * ((first + g) / kScalesPerRange - range));
      values.push_back(ranges[of] + ranges[of + 1] * static_cast<float>(codes[static_cast<size_t>(g)]));
    }
    return values;
  }

  std::vector<float> zeros(const Checkpoint& stored, int64_t first, int64_t count) const {
    if (scheme_.symmetric)
      return std::vector<float>(static_cast<size_t>(count), static_cast<float>(1 << (scheme_.bits - 1)));
    if (scheme_.scales == ScaleStorage::Half) return halves(stored, "zeros", first, count);
    const std::vector<float> range = halves(stored, "zero_range", 0, 2);
    std::vector<float> values;
    for (const uint8_t code : read_values<uint8_t>(stored, tensor(stored, "zeros"), first, count))
      values.push_back(range[0] + range[1] * static_cast<float>(code));
    return values;
  }

  // Zero points that are codes, packed down the rows.
  std::vector<float> zero_codes(const Checkpoint& stored, int64_t first, int64_t count) const {
    const int64_t words = packed_words(rows_, scheme_.bits), groups_of_row = groups_ / rows_;
    const auto packed = read_values<uint32_t>(stored, tensor(stored, "zeros"), 0, groups_of_row * words);
    std::vector<float> values(static_cast<size_t>(count * groups_of_row));
    std::vector<uint8_t> codes(static_cast<size_t>(rows_));
    for (int64_t g = 0; g < groups_of_row; ++g) {
      unpack_codes(packed.data() + g * words, rows_, scheme_.bits, codes.data());
      for (int64_t r = 0; r < count; ++r)
        values[static_cast<size_t>(r * groups_of_row + g)] = codes[static_cast<size_t>(first + r)];
    }
    return values;
  }

  AffineScheme scheme_;
  std::string prefix_;
  int64_t rows_, cols_, groups_;
};

// The rows that have more bits, as the file lists them.
class RowList {
 public:
  RowList(const Checkpoint& stored, const std::string& name, int64_t rows, int64_t count)
      : where_(stored.path().string() + ": tensor " + printable(name)) {
    if (row_list_is_numbers(rows, count))
      read_numbers(stored, part_of_shape(stored, name, {count}));
    else
      read_bits(stored, part_of_shape(stored, name, {(rows + 7) / 8}));
    if (!rows_.empty() && rows_.back() >= rows)
      fail("{} lists row {}, but its matrix has {} rows", where_, rows_.back(), rows);
    if (static_cast<int64_t>(rows_.size()) != count)
      fail("{} lists {} rows, but the ratio of its scheme makes {} of {}", where_, rows_.size(), count, rows);
  }

  const std::vector<int64_t>& rows() const { return rows_; }

 private:
  void require_type(const TensorInfo& tensor, const char* type) const {
    if (tensor.type != type) fail("{} has type {}; {} was expected", where_, printable(tensor.type), type);
  }

  void read_numbers(const Checkpoint& stored, const TensorInfo& tensor) {
    require_type(tensor, "U32");
    for (const uint32_t row : read_values<uint32_t>(stored, tensor, 0, tensor.elements())) {
      if (!rows_.empty() && row <= rows_.back())
        fail("{} lists row {} after row {}; rising numbers were expected", where_, row, rows_.back());
      rows_.push_back(row);
    }
  }

  void read_bits(const Checkpoint& stored, const TensorInfo& tensor) {
    require_type(tensor, "U8");
    const auto bytes = read_values<uint8_t>(stored, tensor, 0, tensor.elements());
    for (size_t b = 0; b < bytes.size(); ++b)
      for (int bit = 0; bit < 8; ++bit)
        if (bytes[b] >> bit & 1) rows_.push_back(static_cast<int64_t>(8 * b) + bit);
  }

  std::string where_;
  std::vector<int64_t> rows_;
};

class PlainMatrix final : public PackedMatrix {
 public:
  PlainMatrix(const Checkpoint& stored, const std::string& stem, const Scheme& scheme, int64_t rows,
              int64_t cols)
      : across_rows_(scheme.affine.axis == 0), rows_(stored, stem + ".", scheme.affine, rows, cols, parts) {
    describe(*this, stored, stem, rows, cols, scheme.name());
  }

  void read_rows(const Checkpoint& stored, int64_t first, int64_t count, float* target) const override {
    if (across_rows_) return rows_.read_across_rows(stored, first, count, target);
    rows_.read(stored, first, count).dequantize(target);
  }

 private:
  bool across_rows_;
  Rows rows_;
};

class MixedMatrix final : public PackedMatrix {
 public:
  MixedMatrix(const Checkpoint& stored, const std::string& stem, const Scheme& scheme, int64_t rows,
              int64_t cols)
      : high_count_(scheme.high_row_count(rows)),
        low_(stored, stem + ".", scheme.affine, rows - high_count_, cols, parts),
        high_(stored, stem + ".high_", scheme.high_affine(), high_count_, cols, parts) {
    if (high_count_ == rows) {
      for (int64_t r = 0; r < rows; ++r) high_rows_.push_back(r);
    } else if (high_count_ > 0) {
      parts.push_back(stem + ".high_rows");
      high_rows_ = RowList(stored, parts.back(), rows, high_count_).rows();
    }
    describe(*this, stored, stem, rows, cols, scheme.name());
  }

  void read_rows(const Checkpoint& stored, int64_t first, int64_t count, float* target) const override {
    const auto begin = std::lower_bound(high_rows_.begin(), high_rows_.end(), first);
    const auto end = std::lower_bound(begin, high_rows_.end(), first + count);
    const int64_t high_first = begin - high_rows_.begin(), high_count = end - begin;
    MixedRowsMatrix rows;
    for (auto row = begin; row != end; ++row) rows.high_rows.push_back(*row - first);
    rows.low = low_.read(stored, first - high_first, count - high_count);
    rows.high = high_.read(stored, high_first, high_count);
    rows.dequantize(target);
  }

 private:
  int64_t high_count_;
  Rows low_, high_;
  std::vector<int64_t> high_rows_;
};

Scheme read_scheme(const Json& entry, const std::string& where) {
  const auto found = entry.find("scheme");
  if (found == entry.end() || !found->is_string()) fail("{} has no \"scheme\"", where);
  Scheme scheme;
  try {
    scheme = parse_scheme(found->get<std::string>());
  } catch (const UsageError& error) {
    fail("{}: {}", where, error.what());
  }
  if (scheme.kind != Scheme::Kind::Affine && scheme.kind != Scheme::Kind::MixedRows)
    fail("{} has the scheme {}; affine groups were expected, such as w3g64 or w2g64+w3@0.1", where,
         scheme.name());
  return scheme;
}

int64_t read_dimension(const Json& entry, size_t dimension, const std::string& where) {
  const auto found = entry.find("shape");
  const bool is_pair = found != entry.end() && found->is_array() && found->size() == 2;
  const Json size = is_pair ? (*found)[dimension] : Json();
  if (!size.is_number_integer() || size.get<int64_t>() < 1 || size.get<int64_t>() > kMostRows)
    fail("{} has no \"shape\" of two whole numbers from 1 to 2^31", where);
  return size.get<int64_t>();
}

}  // namespace

PackedMatrices strata_matrices(const Checkpoint& stored, const Json& section, const std::string& where) {
  packed_integer(section, "version", 1, 1, where);
  const auto modules = section.find("modules");
  if (modules == section.end() || !modules->is_object())
    fail("{}: the quantization's modules are missing; an object of their schemes was expected", where);
  PackedMatrices matrices;
  for (const auto& [stem, entry] : modules->items()) {
    const std::string place = fmt::format("{}: the quantization of {}", where, printable(stem));
    if (!entry.is_object()) fail("{} is not an object", place);
    const Scheme scheme = read_scheme(entry, place);
    const int64_t rows = read_dimension(entry, 0, place), cols = read_dimension(entry, 1, place);
    scheme.stored_bits(rows, cols);  // throws where there are too many weights
    if (scheme.kind == Scheme::Kind::MixedRows)
      matrices.push_back(std::make_unique<MixedMatrix>(stored, stem, scheme, rows, cols));
    else
      matrices.push_back(std::make_unique<PlainMatrix>(stored, stem, scheme, rows, cols));
  }
  return matrices;
}

}  // namespace strata
