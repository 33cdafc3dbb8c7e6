#include "strata/calibration/token_files.h"

#include <algorithm>
#include <cstring>
#include <string>
#include <string_view>

#include "strata/checkpoint/safetensors_header.h"
#include "strata/core/error.h"
#include "strata/core/file.h"
#include "strata/core/text.h"

namespace strata {
namespace {

namespace fs = std::filesystem;

// An integer type as it lies in a file, little-endian.
struct IntegerType {
  int bytes;
  bool is_signed;
};

int64_t read_integer(const std::byte* from, IntegerType type) {
  uint64_t bits = 0;
  std::memcpy(&bits, from, static_cast<size_t>(type.bytes));
  const int unused = 64 - 8 * type.bytes;
  const auto value = static_cast<int64_t>(bits << unused);
  // An unsigned 64-bit value beyond int64 turns negative, which no vocabulary holds either.
  return type.is_signed || unused == 0 ? value >> unused : static_cast<int64_t>(bits);
}

// No bytes for a type that does not hold integers.
IntegerType safetensors_type(std::string_view name) {
  struct Known {
    std::string_view name;
    IntegerType type;
  };
  constexpr Known kKnown[] = {{"I64", {8, true}},  {"I32", {4, true}},  {"I16", {2, true}},
                              {"I8", {1, true}},   {"U64", {8, false}}, {"U32", {4, false}},
                              {"U16", {2, false}}, {"U8", {1, false}}};
  for (const Known& known : kKnown)
    if (known.name == name) return known.type;
  return {0, false};
}

std::vector<std::vector<int64_t>> read_sequences(const std::byte* data, IntegerType type, int64_t rows,
                                                 int64_t cols) {
  std::vector<std::vector<int64_t>> sequences(static_cast<size_t>(rows));
  for (int64_t r = 0; r < rows; ++r) {
    sequences[r].resize(static_cast<size_t>(cols));
    for (int64_t c = 0; c < cols; ++c)
      sequences[r][c] = read_integer(data + (r * cols + c) * type.bytes, type);
  }
  return sequences;
}

// Rows and columns of an array of one or two dimensions that take `bytes` in all, checked without overflow.
std::pair<int64_t, int64_t> checked_shape(const fs::path& path, const std::vector<uint64_t>& shape,
                                          IntegerType type, uint64_t bytes) {
  if (shape.empty() || shape.size() > 2)
    fail("{}: token ids have {} dimensions, expected one or two", path.string(), shape.size());
  const uint64_t rows = shape.size() == 2 ? shape[0] : 1, cols = shape.back();
  const uint64_t available = bytes / static_cast<uint64_t>(type.bytes);
  if (rows == 0 || cols == 0) fail("{} holds no token ids", path.string());
  if (rows > available || cols > available / rows)
    fail("{}: token ids of shape [{}, {}] do not fit the {} bytes of data that the file has", path.string(),
         rows, cols, bytes);
  return {static_cast<int64_t>(rows), static_cast<int64_t>(cols)};
}

// The text behind `'key':` in the header of a .npy file, a Python dictionary of three fixed keys.
std::string_view npy_field(const fs::path& path, std::string_view header, const std::string& key) {
  const size_t at = header.find("'" + key + "':");
  if (at == std::string_view::npos) fail("{}: the .npy header has no '{}'", path.string(), key);
  std::string_view value = header.substr(at + key.size() + 3);
  while (!value.empty() && value.front() == ' ') value.remove_prefix(1);
  return value;
}

IntegerType npy_type(const fs::path& path, std::string_view descr) {
  const std::string_view name = descr.size() >= 5 ? descr.substr(0, 5) : descr;  // '<i8'
  const bool known_order = name.size() == 5 && (name[1] == '<' || name[1] == '|') && name.front() == name[4];
  const char kind = known_order ? name[2] : ' ';
  const int bytes = known_order ? name[3] - '0' : 0;
  if ((kind != 'i' && kind != 'u') || (bytes != 1 && bytes != 2 && bytes != 4 && bytes != 8))
    fail("{}: token ids have the type {}, expected little-endian integers such as '<i8'", path.string(),
         printable(name));
  return {bytes, kind == 'i'};
}

std::vector<uint64_t> npy_shape(const fs::path& path, std::string_view text) {
  std::vector<uint64_t> shape;
  if (text.empty() || text.front() != '(') fail("{}: the .npy header's shape is not a tuple", path.string());
  uint64_t number = 0;
  bool has_digits = false;
  for (const char c : text.substr(1)) {
    if (c >= '0' && c <= '9') {
      number = number * 10 + static_cast<uint64_t>(c - '0');
      has_digits = true;
      if (number > (uint64_t{1} << 48)) fail("{}: the .npy header's shape is too large", path.string());
    } else {
      if (has_digits) shape.push_back(number);
      number = 0;
      has_digits = false;
      if (c == ')') return shape;
      if (c != ',' && c != ' ') break;
    }
  }
  fail("{}: the .npy header's shape is not a tuple of numbers", path.string());
}

}  // namespace

std::vector<std::vector<int64_t>> read_npy_ids(const fs::path& path) {
  const MappedFile file(path);
  constexpr std::string_view kMagic("\x93NUMPY", 6);
  const std::string_view text(reinterpret_cast<const char*>(file.data()), file.size());
  if (text.size() < 10 || text.substr(0, 6) != kMagic)
    fail("{} does not start as a .npy file does", path.string());
  const int version = static_cast<uint8_t>(text[6]);
  const int length_bytes = version == 1 ? 2 : 4;
  if (version < 1 || version > 3)
    fail("{} has version {} of the .npy format, expected 1 to 3", path.string(), version);
  uint32_t length = 0;
  if (text.size() < size_t{8} + length_bytes) fail("{} ends within its header", path.string());
  std::memcpy(&length, text.data() + 8, static_cast<size_t>(length_bytes));
  const size_t begin = size_t{8} + length_bytes;
  if (length > text.size() - begin) fail("{} ends within its header", path.string());
  const std::string_view header = text.substr(begin, length);

  const IntegerType type = npy_type(path, npy_field(path, header, "descr"));
  if (npy_field(path, header, "fortran_order").substr(0, 5) != "False")
    fail("{}: token ids are stored in Fortran order; save them with numpy.ascontiguousarray", path.string());
  const auto [rows, cols] = checked_shape(path, npy_shape(path, npy_field(path, header, "shape")), type,
                                          text.size() - begin - length);
  return read_sequences(file.data() + begin + length, type, rows, cols);
}

std::vector<std::vector<int64_t>> read_safetensors_ids(const fs::path& path) {
  const MappedFile file(path);
  const std::vector<SafetensorsEntry> entries = read_safetensors_header(file);
  const auto named = std::find_if(entries.begin(), entries.end(), [](const SafetensorsEntry& entry) {
    return entry.info.name == "input_ids";
  });
  if (named == entries.end() && entries.size() != 1)
    fail("{} has {} tensors and none of them is \"input_ids\", so which holds token ids cannot be told",
         path.string(), entries.size());
  const SafetensorsEntry& entry = named != entries.end() ? *named : entries.front();
  const IntegerType type = safetensors_type(entry.info.type);
  if (type.bytes == 0)
    fail("{}: the tensor {} has the type {}, but token ids are integers", path.string(),
         printable(entry.info.name), entry.info.type);
  const std::vector<uint64_t> shape(entry.info.shape.begin(), entry.info.shape.end());
  const auto [rows, cols] = checked_shape(path, shape, type, entry.info.bytes);
  return read_sequences(file.data() + entry.begin, type, rows, cols);
}

}  // namespace strata
