#include <algorithm>
#include <cstring>
#include <fstream>
#include <numeric>
#include <string_view>
#include <unordered_set>

#include "strata/core/error.h"
#include "strata/core/text.h"
#include "strata/gguf/file.h"

namespace strata {
namespace {

using Type = GgufValue::Type;

constexpr uint64_t kSmallestKey = 8 + 4 + 1;  // name length, type, one byte of value
constexpr uint64_t kSmallestTensor =
    8 + 4 + 8 + 4 + 8;  // name length, dimension count, one dimension, type, offset
constexpr size_t kLongestName = 63;
constexpr uint32_t kMostDimensions = 4;

// Bytes of a scalar; of a string and an array the smallest that they take. 0 for types that do not exist.
uint64_t smallest_size(uint32_t type) {
  constexpr uint64_t kSizes[] = {1, 1, 2, 2, 4, 4, 4, 1, 8, 12, 8, 8, 8};
  return type < std::size(kSizes) ? kSizes[type] : 0;
}

// Reads the header from front to back; every read is checked against the end of the file.
class Cursor {
 public:
  explicit Cursor(const MappedFile& file) : file_(file), path_(file.path().string()) {}

  const std::string& path() const { return path_; }
  uint64_t position() const { return position_; }
  uint64_t remaining() const { return file_.size() - position_; }

  template <class T>
  T number(const std::string& what) {
    if (remaining() < sizeof(T)) truncated(what, sizeof(T));
    T value;
    std::memcpy(&value, file_.data() + position_, sizeof(T));
    position_ += sizeof(T);
    return value;
  }

  std::string string(const std::string& what) {
    const auto length = number<uint64_t>(what);
    if (length > remaining()) truncated(what, length);
    std::string text(reinterpret_cast<const char*>(file_.data() + position_), static_cast<size_t>(length));
    position_ += length;
    return text;
  }

  // A count of things that take at least `smallest` bytes each; one that cannot fit is a lie.
  uint64_t count(const std::string& what, uint64_t smallest) {
    const auto value = number<uint64_t>("the number of " + what);
    if (value > remaining() / smallest)
      fail("{} announces {} {}, but the {} bytes that follow cannot hold them; it is truncated or damaged",
           path_, value, what, remaining());
    return value;
  }

 private:
  [[noreturn]] void truncated(const std::string& what, uint64_t size) const {
    fail("{} is truncated: {} takes {} bytes at byte {}, but the file has only {} left", path_, what, size,
         position_, remaining());
  }

  const MappedFile& file_;
  std::string path_;
  uint64_t position_ = 0;
};

bool read_bool(Cursor& cursor, const std::string& what) {
  const auto byte = cursor.number<uint8_t>(what);
  if (byte > 1) fail("{}: {} is a truth value of {}; 0 or 1 was expected", cursor.path(), what, byte);
  return byte == 1;
}

uint64_t read_unsigned(Cursor& cursor, Type type, const std::string& what) {
  switch (type) {
    case Type::U8:
      return cursor.number<uint8_t>(what);
    case Type::U16:
      return cursor.number<uint16_t>(what);
    case Type::U32:
      return cursor.number<uint32_t>(what);
    default:
      return cursor.number<uint64_t>(what);
  }
}

int64_t read_signed(Cursor& cursor, Type type, const std::string& what) {
  switch (type) {
    case Type::I8:
      return cursor.number<int8_t>(what);
    case Type::I16:
      return cursor.number<int16_t>(what);
    case Type::I32:
      return cursor.number<int32_t>(what);
    default:
      return cursor.number<int64_t>(what);
  }
}

double read_float(Cursor& cursor, Type type, const std::string& what) {
  return type == Type::F32 ? cursor.number<float>(what) : cursor.number<double>(what);
}

bool is_unsigned(Type type) {
  return type == Type::U8 || type == Type::U16 || type == Type::U32 || type == Type::U64;
}

bool is_signed(Type type) {
  return type == Type::I8 || type == Type::I16 || type == Type::I32 || type == Type::I64;
}

Type read_type(Cursor& cursor, const std::string& what) {
  const auto number = cursor.number<uint32_t>("the type of " + what);
  if (smallest_size(number) == 0)
    fail("{}: {} has value type {}; 0 to 12 were expected", cursor.path(), what, number);
  return static_cast<Type>(number);
}

template <class T, class Read>
std::vector<T> read_elements(uint64_t count, Read read) {
  std::vector<T> values;
  values.reserve(static_cast<size_t>(count));
  for (uint64_t i = 0; i < count; ++i) values.push_back(read());
  return values;
}

GgufValue read_array(Cursor& cursor, const std::string& what) {
  GgufValue array;
  array.type = Type::Array;
  const Type type = array.element_type = read_type(cursor, what);
  if (type == Type::Array) fail("{}: {} is an array of arrays, which is not supported", cursor.path(), what);
  const uint64_t count = cursor.count("elements of " + what, smallest_size(static_cast<uint32_t>(type)));
  if (type == Type::String)
    array.value = read_elements<std::string>(count, [&] { return cursor.string(what); });
  else if (type == Type::Bool)
    array.value = read_elements<bool>(count, [&] { return read_bool(cursor, what); });
  else if (is_unsigned(type))
    array.value = read_elements<int64_t>(
        count, [&] { return static_cast<int64_t>(read_unsigned(cursor, type, what)); });
  else if (is_signed(type))
    array.value = read_elements<int64_t>(count, [&] { return read_signed(cursor, type, what); });
  else
    array.value = read_elements<double>(count, [&] { return read_float(cursor, type, what); });
  return array;
}

GgufValue read_value(Cursor& cursor, const std::string& what) {
  const Type type = read_type(cursor, what);
  if (type == Type::Array) return read_array(cursor, what);
  if (type == Type::String) return {type, cursor.string(what)};
  if (type == Type::Bool) return {type, read_bool(cursor, what)};
  if (is_unsigned(type)) return {type, read_unsigned(cursor, type, what)};
  if (is_signed(type)) return {type, read_signed(cursor, type, what)};
  return {type, read_float(cursor, type, what)};
}

std::vector<GgufKey> read_keys(Cursor& cursor, uint64_t count) {
  std::vector<GgufKey> keys;
  std::unordered_set<std::string> names;
  for (uint64_t i = 0; i < count; ++i) {
    std::string name = cursor.string(fmt::format("the name of key {} of {}", i + 1, count));
    if (name.empty()) fail("{}: key {} of {} has no name", cursor.path(), i + 1, count);
    if (!names.insert(name).second) fail("{}: key {} appears twice", cursor.path(), printable(name));
    GgufValue value = read_value(cursor, "key " + printable(name));
    keys.push_back({std::move(name), std::move(value)});
  }
  return keys;
}

std::vector<int64_t> read_shape(Cursor& cursor, const std::string& what) {
  const auto dimensions = cursor.number<uint32_t>("the number of dimensions of " + what);
  if (dimensions > kMostDimensions)
    fail("{}: {} has {} dimensions; at most {} were expected", cursor.path(), what, dimensions,
         kMostDimensions);
  std::vector<int64_t> shape;
  int64_t elements = 1;
  for (uint32_t i = 0; i < dimensions; ++i) {
    const auto dimension = cursor.number<uint64_t>("a dimension of " + what);
    if (dimension == 0 || dimension > uint64_t{1} << 56 ||
        __builtin_mul_overflow(elements, static_cast<int64_t>(dimension), &elements) ||
        elements > int64_t{1} << 56)
      fail("{}: {} has a dimension of {}, which is impossible", cursor.path(), what, dimension);
    shape.push_back(static_cast<int64_t>(dimension));
  }
  std::reverse(shape.begin(), shape.end());
  return shape;
}

std::vector<GgufTensor> read_tensors(Cursor& cursor, uint64_t count) {
  std::vector<GgufTensor> tensors;
  std::unordered_set<std::string> names;
  for (uint64_t i = 0; i < count; ++i) {
    GgufTensor tensor;
    tensor.name = cursor.string(fmt::format("the name of tensor {} of {}", i + 1, count));
    const std::string what = "tensor " + printable(tensor.name);
    if (tensor.name.empty() || tensor.name.size() > kLongestName)
      fail("{}: the name of tensor {} of {} has {} bytes; 1 to {} were expected", cursor.path(), i + 1, count,
           tensor.name.size(), kLongestName);
    if (!names.insert(tensor.name).second) fail("{}: {} appears twice", cursor.path(), what);
    tensor.shape = read_shape(cursor, what);
    const auto type = cursor.number<uint32_t>("the type of " + what);
    if (!is_known_gguf_type(type))
      fail("{}: {} has type {}, which is not known; convert it to F16 or a K-quant first", cursor.path(),
           what, type);
    tensor.type = static_cast<GgufType>(type);
    const int64_t cols = tensor.shape.empty() ? 1 : tensor.shape.back();
    const GgufTypeTraits& traits = traits_of(tensor.type);
    if (cols % traits.block_elements != 0)
      fail("{}: {} has rows of {} weights, which blocks of {} ({}) do not divide", cursor.path(), what, cols,
           traits.block_elements, traits.name);
    tensor.offset = cursor.number<uint64_t>("the offset of " + what);
    tensors.push_back(std::move(tensor));
  }
  return tensors;
}

void check_layout(const Cursor& cursor, const std::vector<GgufTensor>& tensors, uint64_t alignment,
                  uint64_t data_start, uint64_t file_size) {
  std::vector<const GgufTensor*> order;
  for (const GgufTensor& tensor : tensors) order.push_back(&tensor);
  std::stable_sort(order.begin(), order.end(), [](auto* a, auto* b) { return a->offset < b->offset; });
  const uint64_t data_bytes = file_size > data_start ? file_size - data_start : 0;
  uint64_t end = 0;
  for (const GgufTensor* tensor : order) {
    const std::string name = printable(tensor->name);
    if (tensor->offset % alignment != 0)
      fail("{}: the data of tensor {} begins at {}, which is not a multiple of the alignment {}",
           cursor.path(), name, tensor->offset, alignment);
    if (tensor->offset < end)
      fail("{}: the data of tensor {} begins at {}, inside the tensor before it, which ends at {}",
           cursor.path(), name, tensor->offset, end);
    if (tensor->offset > data_bytes || tensor->bytes() > data_bytes - tensor->offset)
      fail("{} is truncated: tensor {} takes {} bytes at {} of its data, which has {}", cursor.path(), name,
           tensor->bytes(), tensor->offset, data_bytes);
    end = tensor->offset + tensor->bytes();
  }
}

void read_magic_and_version(Cursor& cursor) {
  const auto magic = cursor.number<uint32_t>("the magic number");
  if (magic != 0x46554747u) fail("{} is not a GGUF file: it does not begin with \"GGUF\"", cursor.path());
  const auto version = cursor.number<uint32_t>("the version");
  if (version == __builtin_bswap32(2) || version == __builtin_bswap32(3))
    fail("{} is a big-endian GGUF file; convert it to little-endian first", cursor.path());
  if (version != 2 && version != 3)
    fail("{} has GGUF version {}; 2 or 3 was expected", cursor.path(), version);
}

}  // namespace

uint64_t GgufTensor::bytes() const {
  const int64_t cols = shape.empty() ? 1 : shape.back();
  const int64_t rows = std::accumulate(shape.begin(), shape.empty() ? shape.end() : shape.end() - 1,
                                       int64_t{1}, std::multiplies<>());
  return static_cast<uint64_t>(rows) * static_cast<uint64_t>(row_bytes(type, cols));
}

uint64_t gguf_alignment(const std::vector<GgufKey>& keys, const std::string& where) {
  for (const GgufKey& key : keys) {
    if (key.name != "general.alignment") continue;
    const auto* alignment = std::get_if<uint64_t>(&key.value.value);
    if (key.value.type != Type::U32 || alignment == nullptr || *alignment == 0 ||
        (*alignment & (*alignment - 1)) != 0)
      fail("{}: the key general.alignment is not a power of two stored as u32", where);
    return *alignment;
  }
  return 32;
}

std::filesystem::path gguf_part_path(const std::filesystem::path& path, size_t part, size_t parts) {
  std::filesystem::path named = path;
  return named.replace_filename(fmt::format("{}-{:05}-of-{:05}.gguf", path.stem().string(), part + 1, parts));
}

GgufFile::GgufFile(const std::filesystem::path& path) {
  keys_ = add_part(path);
  add_other_parts();
}

std::vector<GgufKey> GgufFile::add_part(const std::filesystem::path& path) {
  parts_.push_back({MappedFile(path), 0});
  Part& part = parts_.back();
  Cursor cursor(part.file);
  read_magic_and_version(cursor);
  const uint64_t tensor_count = cursor.count("tensors", kSmallestTensor);
  const uint64_t key_count = cursor.count("keys", kSmallestKey);
  std::vector<GgufKey> keys = read_keys(cursor, key_count);
  std::vector<GgufTensor> tensors = read_tensors(cursor, tensor_count);
  const uint64_t alignment = gguf_alignment(keys, path.string());
  part.data_start = (cursor.position() + alignment - 1) / alignment * alignment;
  check_layout(cursor, tensors, alignment, part.data_start, part.file.size());
  for (GgufTensor& tensor : tensors) {
    tensor.part = parts_.size() - 1;
    tensors_.push_back(std::move(tensor));
  }
  return keys;
}

namespace {

int64_t split_number(const std::vector<GgufKey>& keys, const char* name, int64_t otherwise) {
  for (const GgufKey& key : keys)
    if (key.name == name) return gguf_integer(key.value).value_or(-1);
  return otherwise;
}

}  // namespace

bool is_gguf(const std::filesystem::path& path) {
  if (!std::filesystem::is_regular_file(path)) return false;
  char magic[4] = {};
  std::ifstream(path, std::ios::binary).read(magic, sizeof(magic));
  if (std::string_view(magic, sizeof(magic)) == "GGUF") return true;
  std::string ending = path.extension().string();
  std::transform(ending.begin(), ending.end(), ending.begin(),
                 [](unsigned char letter) { return static_cast<char>(std::tolower(letter)); });
  return ending == ".gguf";
}

void GgufFile::add_other_parts() {
  const std::string first = path().string();
  const int64_t count = split_number(keys_, "split.count", 1);
  if (count == 0 || count == 1) return;
  const int64_t number = split_number(keys_, "split.no", 0);
  if (count < 0 || count > 65535 || number != 0)
    fail("{} is part {} of {} of a model; give the first part, whose name has -00001-of-", first, number + 1,
         count);
  const std::string ending = fmt::format("-00001-of-{:05}.gguf", count);
  if (first.size() <= ending.size() ||
      first.compare(first.size() - ending.size(), ending.size(), ending) != 0)
    fail("{} is the first of {} parts of a model, so its name must end in {}", first, count, ending);
  const std::filesystem::path whole = first.substr(0, first.size() - ending.size()) + ".gguf";
  for (int64_t part = 1; part < count; ++part) {
    const std::filesystem::path next =
        gguf_part_path(whole, static_cast<size_t>(part), static_cast<size_t>(count));
    if (!std::filesystem::exists(next))
      fail("{} has {} parts, but {} is missing", first, count, next.string());
    const std::vector<GgufKey> keys = add_part(next);
    if (split_number(keys, "split.no", -1) != part || split_number(keys, "split.count", -1) != count)
      fail("{} says that it is part {} of {}; part {} of {} was expected", next.string(),
           split_number(keys, "split.no", -1) + 1, split_number(keys, "split.count", -1), part + 1, count);
  }
  const int64_t expected = split_number(keys_, "split.tensors.count", static_cast<int64_t>(tensors_.size()));
  if (expected != static_cast<int64_t>(tensors_.size()))
    fail("{} and its other parts hold {} tensors; {} were expected", first, tensors_.size(), expected);
  std::unordered_set<std::string> names;
  for (const GgufTensor& tensor : tensors_)
    if (!names.insert(tensor.name).second)
      fail("{}: tensor {} is in two of its parts", first, printable(tensor.name));
}

const GgufValue* GgufFile::find(const std::string& key) const {
  for (const GgufKey& candidate : keys_)
    if (candidate.name == key) return &candidate.value;
  return nullptr;
}

const GgufTensor* GgufFile::find_tensor(const std::string& name) const {
  for (const GgufTensor& tensor : tensors_)
    if (tensor.name == name) return &tensor;
  return nullptr;
}

const std::byte* GgufFile::data(const GgufTensor& tensor) const {
  const Part& part = parts_[tensor.part];
  return part.file.data() + part.data_start + tensor.offset;
}

void GgufFile::release(const GgufTensor& tensor) const {
  const Part& part = parts_[tensor.part];
  part.file.release(part.data_start + tensor.offset, tensor.bytes());
}

}  // namespace strata
