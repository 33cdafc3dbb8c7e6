#include "strata/quantizers/finished_layers.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <type_traits>

#include "strata/core/bit_packing.h"
#include "strata/core/error.h"
#include "strata/core/file.h"
#include "strata/core/text.h"

namespace strata {
namespace {

constexpr uint64_t kVersion = 2;

// A file is its fields one after the other, little-endian: numbers, and vectors behind the number of their
// elements. Both directions go through each().

class FieldWriter {
 public:
  explicit FieldWriter(OutputFile& file) : file_(file) {}

  template <class T>
  void number(const T& value) {
    file_.write(&value, sizeof value);
  }

  template <class T>
  void vector(const std::vector<T>& values) {
    number(static_cast<uint64_t>(values.size()));
    file_.write(values.data(), values.size() * sizeof(T));
  }

  void codes(const std::vector<uint8_t>& codes, int bits) {
    number(static_cast<uint64_t>(codes.size()));
    const auto count = static_cast<int64_t>(codes.size());
    std::vector<uint32_t> words(static_cast<size_t>(packed_words(count, bits)));
    pack_codes(codes.data(), count, bits, words.data());
    file_.write(words.data(), words.size() * sizeof(uint32_t));
  }

 private:
  OutputFile& file_;
};

class FieldReader {
 public:
  explicit FieldReader(const std::filesystem::path& path) : file_(path) {}

  template <class T>
  void number(T& value) {
    std::memcpy(&value, take(sizeof value), sizeof value);
  }

  template <class T>
  void vector(std::vector<T>& values) {
    const uint64_t count = counted(8 * sizeof(T));
    const std::byte* bytes = take(count * sizeof(T));
    values.resize(count);
    std::memcpy(values.data(), bytes, count * sizeof(T));
  }

  void codes(std::vector<uint8_t>& codes, int bits) {
    const auto count = static_cast<int64_t>(counted(static_cast<size_t>(bits)));
    std::vector<uint32_t> words(static_cast<size_t>(packed_words(count, bits)));
    std::memcpy(words.data(), take(words.size() * sizeof(uint32_t)), words.size() * sizeof(uint32_t));
    codes.resize(static_cast<size_t>(count));
    unpack_codes(words.data(), count, bits, codes.data());
  }

  void end() const {
    if (at_ != file_.size()) damaged();
  }

  [[noreturn]] void damaged() const {
    fail("{} is not a finished layer of this run, or damaged; remove it or choose another --calib-cache",
         file_.path().string());
  }

 private:
  // A number of elements of so many bits, no more than the file can hold.
  uint64_t counted(size_t bits) {
    uint64_t count;
    number(count);
    if (count > 8 * (file_.size() - at_) / bits) damaged();
    return count;
  }

  const std::byte* take(size_t size) {
    if (size > file_.size() - at_) damaged();
    at_ += size;
    return file_.data() + at_ - size;
  }

  MappedFile file_;
  size_t at_ = 0;
};

template <class Fields, class Affine>
void each_affine(Fields& fields, Affine& matrix) {
  fields.number(matrix.rows);
  fields.number(matrix.cols);
  fields.codes(matrix.codes, matrix.scheme.bits);
  fields.vector(matrix.scales);
  fields.vector(matrix.zeros);
  fields.vector(matrix.group_of_column);
  fields.vector(matrix.second_level.scale_codes);
  fields.vector(matrix.second_level.scale_minimums);
  fields.vector(matrix.second_level.scale_steps);
  fields.vector(matrix.second_level.zero_codes);
  fields.number(matrix.second_level.zero_minimum);
  fields.number(matrix.second_level.zero_step);
}

template <class Fields, class Quantized>
void each(Fields& fields, Quantized& matrix) {
  switch (matrix.scheme.kind) {
    case Scheme::Kind::Affine:
      return each_affine(fields, matrix.affine);
    case Scheme::Kind::MixedRows:
      fields.vector(matrix.mixed.high_rows);
      each_affine(fields, matrix.mixed.low);
      return each_affine(fields, matrix.mixed.high);
    case Scheme::Kind::Gguf:
      return fields.vector(matrix.blocks);
    case Scheme::Kind::Nf4:
      fields.number(matrix.nf4.rows);
      fields.number(matrix.nf4.cols);
      fields.vector(matrix.nf4.codes);
      fields.vector(matrix.nf4.magnitudes);
      fields.vector(matrix.nf4.nested_codes);
      fields.vector(matrix.nf4.nested_magnitudes);
      return fields.number(matrix.nf4.mean);
  }
}

}  // namespace

FinishedLayers::FinishedLayers(const std::filesystem::path& directory, const std::string& name,
                               const Json& identity)
    : identity_(identity.dump()) {
  folder_ = directory / fmt::format("{}-{:016x}", name, fnv1a(identity_));
  std::error_code error;
  std::filesystem::create_directories(folder_, error);
  if (!std::filesystem::is_directory(folder_, error))
    fail("{} cannot be created; choose another --calib-cache", folder_.string());
}

std::filesystem::path FinishedLayers::file_of(int layer) const {
  return folder_ / fmt::format("layer-{}.bin", layer);
}

bool FinishedLayers::read(int layer, std::map<std::string, QuantizedMatrix>& matrices) const {
  std::error_code error;
  if (folder_.empty() || !std::filesystem::exists(file_of(layer), error)) return false;
  FieldReader fields(file_of(layer));
  uint64_t version;
  std::vector<char> identity;
  fields.number(version);
  fields.vector(identity);
  if (version != kVersion || std::string(identity.begin(), identity.end()) != identity_) fields.damaged();
  for (auto& [tensor, matrix] : matrices) {
    uint64_t parts;
    fields.number(parts);
    if (parts > 0 && matrix.rows % static_cast<int64_t>(parts) != 0) fields.damaged();
    QuantizedMatrix part;
    part.scheme = matrix.scheme;
    part.rows = matrix.rows / static_cast<int64_t>(std::max<uint64_t>(1, parts));
    part.cols = matrix.cols;
    matrix.parts.assign(parts, part);
    for_each_part(matrix, [&](QuantizedMatrix& one) {
      one.affine.scheme = one.mixed.low.scheme = one.scheme.affine;
      one.mixed.high.scheme = one.scheme.high_affine();
      each(fields, one);
    });
  }
  fields.end();
  return true;
}

void FinishedLayers::write(int layer, const std::map<std::string, QuantizedMatrix>& matrices) const {
  if (folder_.empty()) return;
  OutputFile file(file_of(layer));
  FieldWriter fields(file);
  fields.number(kVersion);
  fields.vector(std::vector<char>(identity_.begin(), identity_.end()));
  for (const auto& [tensor, matrix] : matrices) {
    fields.number(static_cast<uint64_t>(matrix.parts.size()));
    for_each_part(matrix, [&](const QuantizedMatrix& part) { each(fields, part); });
  }
  file.commit();
}

}  // namespace strata
