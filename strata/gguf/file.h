#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "strata/core/file.h"
#include "strata/gguf/type.h"

namespace strata {

// A value of a GGUF key. Integers keep their stored width so that files can be copied as they stand.
struct GgufValue {
  enum class Type : uint32_t {
    U8 = 0,
    I8 = 1,
    U16 = 2,
    I16 = 3,
    U32 = 4,
    I32 = 5,
    F32 = 6,
    Bool = 7,
    String = 8,
    Array = 9,
    U64 = 10,
    I64 = 11,
    F64 = 12
  };
  Type type = Type::U32;
  std::variant<uint64_t, int64_t, double, bool, std::string,  // scalars by family
               std::vector<std::string>, std::vector<int64_t>, std::vector<double>, std::vector<bool>>
      value;
  Type element_type = Type::U32;  // of an array
};

GgufValue gguf_u32(uint32_t value);
GgufValue gguf_f32(float value);
GgufValue gguf_bool(bool value);
GgufValue gguf_string(std::string value);
GgufValue gguf_strings(std::vector<std::string> values);
GgufValue gguf_i32s(std::vector<int64_t> values);
GgufValue gguf_bytes(const std::string& bytes);
GgufValue gguf_bools(std::vector<bool> values);
GgufValue gguf_f32s(std::vector<double> values);

// Scalars and arrays by family; null when the value is something else.
std::optional<int64_t> gguf_integer(const GgufValue& value);  // any integer type that fits
std::optional<double> gguf_number(const GgufValue& value);    // any integer or float type

struct GgufKey {
  std::string name;
  GgufValue value;
};

struct GgufTensor {
  std::string name;            // at most 63 bytes
  std::vector<int64_t> shape;  // [out, in], the reverse of the file's dimensions
  GgufType type = GgufType::F32;
  uint64_t offset = 0;  // from the start of the data section; set by reader and writer
  size_t part = 0;      // of a model in several files

  uint64_t bytes() const;
};

// What the key general.alignment says (a power of two); 32 without it.
uint64_t gguf_alignment(const std::vector<GgufKey>& keys, const std::string& where);

// Whether a file is a GGUF, by its first four bytes or, so that a damaged one is named as such, by its
// ending.
bool is_gguf(const std::filesystem::path& path);

// A GGUF v3 (or v2) file opened for reading. Checks magic, counts, string lengths, types, alignment, offsets,
// overlaps and that all data lies within the file; a truncated or lying file is named with what was found and
// expected. Bytes after the last tensor are ignored, as the format allows padding there. Of a model in
// several files (NAME-00001-of-00003.gguf) the first is opened and brings the others.
class GgufFile {
 public:
  explicit GgufFile(const std::filesystem::path& path);

  const std::filesystem::path& path() const { return parts_.front().file.path(); }
  const std::vector<GgufKey>& keys() const { return keys_; }
  const std::vector<GgufTensor>& tensors() const { return tensors_; }
  const GgufValue* find(const std::string& key) const;  // null when absent
  const GgufTensor* find_tensor(const std::string& name) const;
  const std::byte* data(const GgufTensor& tensor) const;
  void release(const GgufTensor& tensor) const;

 private:
  struct Part {
    MappedFile file;
    uint64_t data_start = 0;
  };

  std::vector<GgufKey> add_part(const std::filesystem::path& path);  // returns its keys
  void add_other_parts();

  std::vector<Part> parts_;
  std::vector<GgufKey> keys_;  // of the first part
  std::vector<GgufTensor> tensors_;
};

// "model.gguf" to "model-00002-of-00003.gguf".
std::filesystem::path gguf_part_path(const std::filesystem::path& path, size_t part, size_t parts);

// Writes a GGUF v3 file: header at once, then the tensors' bytes in the order planned, aligned to 32 or to
// what the key general.alignment says. Throws on names that readers refuse (empty, beyond 63 bytes, twice).
class GgufWriter {
 public:
  GgufWriter(const std::filesystem::path& path, const std::vector<GgufKey>& keys,
             std::vector<GgufTensor> tensors);

  // Bytes of the next tensor; may come in several calls.
  void write(const std::byte* data, uint64_t size);
  void commit();  // throws if bytes are missing; puts the file into place

  // Size of the whole file that these keys and tensors make.
  static uint64_t file_size(const std::vector<GgufKey>& keys, const std::vector<GgufTensor>& tensors);

 private:
  OutputFile file_;
  std::filesystem::path path_;
  std::vector<GgufTensor> tensors_;
  uint64_t alignment_ = 32;
  size_t current_ = 0;
  uint64_t written_ = 0;
};

// Writes tensors into files of at most `part_bytes` of data each (0: one file, at the path itself), whose
// names are those of gguf_part_path, and puts all of them into place at the end. The keys go to the first.
class GgufPartsWriter {
 public:
  GgufPartsWriter(const std::filesystem::path& path, const std::vector<GgufKey>& keys,
                  const std::vector<GgufTensor>& tensors, uint64_t part_bytes);

  void write(const std::byte* data, uint64_t size);  // of the next tensor, as GgufWriter::write
  void commit();

  const std::filesystem::path& first_path() const { return paths_.front(); }

  // Size of all files together.
  static uint64_t file_size(const std::vector<GgufKey>& keys, const std::vector<GgufTensor>& tensors,
                            uint64_t part_bytes);

 private:
  std::vector<std::unique_ptr<GgufWriter>> writers_;
  std::vector<std::filesystem::path> paths_;
  std::vector<uint64_t> missing_;  // bytes, by part
  size_t current_ = 0;
};

}  // namespace strata
