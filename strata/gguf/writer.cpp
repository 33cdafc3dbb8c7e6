#include <cstring>
#include <unordered_set>

#include "strata/core/error.h"
#include "strata/core/text.h"
#include "strata/gguf/file.h"

namespace strata {
namespace {

using Type = GgufValue::Type;

constexpr uint32_t kVersion = 3;
constexpr size_t kLongestName = 63;

class HeaderBytes {
 public:
  template <class T>
  void number(T value) {
    const size_t end = bytes_.size();
    bytes_.resize(end + sizeof(T));
    std::memcpy(bytes_.data() + end, &value, sizeof(T));
  }

  void string(const std::string& text) {
    number<uint64_t>(text.size());
    bytes_ += text;
  }

  void integer(Type type, uint64_t bits) {
    switch (type) {
      case Type::U8:
      case Type::I8:
        return number(static_cast<uint8_t>(bits));
      case Type::U16:
      case Type::I16:
        return number(static_cast<uint16_t>(bits));
      case Type::U32:
      case Type::I32:
        return number(static_cast<uint32_t>(bits));
      default:
        return number(bits);
    }
  }

  void real(Type type, double value) {
    if (type == Type::F32)
      number(static_cast<float>(value));
    else
      number(value);
  }

  const std::string& bytes() const { return bytes_; }

 private:
  std::string bytes_;
};

void put_value(HeaderBytes& header, const GgufValue& value) {
  header.number(static_cast<uint32_t>(value.type));
  const auto begin_array = [&](size_t count) {
    header.number(static_cast<uint32_t>(value.element_type));
    header.number<uint64_t>(count);
  };
  switch (value.type) {
    case Type::String:
      return header.string(std::get<std::string>(value.value));
    case Type::Bool:
      return header.number(static_cast<uint8_t>(std::get<bool>(value.value)));
    case Type::F32:
    case Type::F64:
      return header.real(value.type, std::get<double>(value.value));
    case Type::I8:
    case Type::I16:
    case Type::I32:
    case Type::I64:
      return header.integer(value.type, static_cast<uint64_t>(std::get<int64_t>(value.value)));
    default:
      return header.integer(value.type, std::get<uint64_t>(value.value));
    case Type::Array:
      break;
  }
  switch (value.element_type) {
    case Type::String: {
      const auto& elements = std::get<std::vector<std::string>>(value.value);
      begin_array(elements.size());
      for (const std::string& element : elements) header.string(element);
      return;
    }
    case Type::Bool: {
      const auto& elements = std::get<std::vector<bool>>(value.value);
      begin_array(elements.size());
      for (const bool element : elements) header.number(static_cast<uint8_t>(element));
      return;
    }
    case Type::F32:
    case Type::F64: {
      const auto& elements = std::get<std::vector<double>>(value.value);
      begin_array(elements.size());
      for (const double element : elements) header.real(value.element_type, element);
      return;
    }
    default: {
      const auto& elements = std::get<std::vector<int64_t>>(value.value);
      begin_array(elements.size());
      for (const int64_t element : elements)
        header.integer(value.element_type, static_cast<uint64_t>(element));
    }
  }
}

uint64_t aligned(uint64_t position, uint64_t alignment) {
  return (position + alignment - 1) / alignment * alignment;
}

std::string header_of(const std::vector<GgufKey>& keys, const std::vector<GgufTensor>& tensors) {
  HeaderBytes header;
  for (const char letter : {'G', 'G', 'U', 'F'}) header.number(letter);
  header.number(kVersion);
  header.number<uint64_t>(tensors.size());
  header.number<uint64_t>(keys.size());
  for (const GgufKey& key : keys) {
    header.string(key.name);
    put_value(header, key.value);
  }
  for (const GgufTensor& tensor : tensors) {
    header.string(tensor.name);
    header.number(static_cast<uint32_t>(tensor.shape.size()));
    for (auto dimension = tensor.shape.rbegin(); dimension != tensor.shape.rend(); ++dimension)
      header.number(static_cast<uint64_t>(*dimension));
    header.number(static_cast<uint32_t>(tensor.type));
    header.number(tensor.offset);
  }
  return header.bytes();
}

// Gives every tensor its offset; returns the size of the data section.
uint64_t place_tensors(std::vector<GgufTensor>& tensors, uint64_t alignment) {
  uint64_t position = 0;
  for (GgufTensor& tensor : tensors) {
    tensor.offset = position;
    position = aligned(position + tensor.bytes(), alignment);
  }
  return position;
}

void check_names(const std::string& path, const std::vector<GgufKey>& keys,
                 const std::vector<GgufTensor>& tensors) {
  std::unordered_set<std::string> names;
  for (const GgufKey& key : keys)
    if (key.name.empty() || !names.insert(key.name).second)
      fail("cannot write {}: the key \"{}\" appears twice or is empty", path, printable(key.name));
  names.clear();
  for (const GgufTensor& tensor : tensors) {
    if (tensor.name.empty() || tensor.name.size() > kLongestName)
      fail("cannot write {}: the tensor name \"{}\" has {} bytes; GGUF takes 1 to {}", path,
           printable(tensor.name), tensor.name.size(), kLongestName);
    if (!names.insert(tensor.name).second)
      fail("cannot write {}: tensor {} appears twice", path, printable(tensor.name));
  }
}

}  // namespace

GgufWriter::GgufWriter(const std::filesystem::path& path, const std::vector<GgufKey>& keys,
                       std::vector<GgufTensor> tensors)
    : file_(path),
      path_(path),
      tensors_(std::move(tensors)),
      alignment_(gguf_alignment(keys, path.string())) {
  check_names(path.string(), keys, tensors_);
  place_tensors(tensors_, alignment_);
  const std::string header = header_of(keys, tensors_);
  file_.write(header.data(), header.size());
  file_.pad_to(alignment_);
}

void GgufWriter::write(const std::byte* data, uint64_t size) {
  while (size > 0) {
    if (current_ == tensors_.size())
      fail("cannot write {}: {} bytes were given beyond the last tensor", path_.string(), size);
    const uint64_t piece = std::min(size, tensors_[current_].bytes() - written_);
    file_.write(data, piece);
    data += piece;
    size -= piece;
    written_ += piece;
    if (written_ < tensors_[current_].bytes()) continue;
    file_.pad_to(alignment_);
    ++current_;
    written_ = 0;
  }
}

void GgufWriter::commit() {
  if (current_ < tensors_.size())
    fail("cannot write {}: tensor {} has {} of its {} bytes", path_.string(),
         printable(tensors_[current_].name), written_, tensors_[current_].bytes());
  file_.commit();
}

uint64_t GgufWriter::file_size(const std::vector<GgufKey>& keys, const std::vector<GgufTensor>& tensors) {
  const uint64_t alignment = gguf_alignment(keys, "the keys");
  std::vector<GgufTensor> placed = tensors;
  return aligned(header_of(keys, tensors).size(), alignment) + place_tensors(placed, alignment);
}

}  // namespace strata
