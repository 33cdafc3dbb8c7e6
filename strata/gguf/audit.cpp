#include "strata/gguf/audit.h"

#include <fmt/format.h>

#include <cstring>
#include <optional>
#include <set>

#include "strata/core/error.h"
#include "strata/core/text.h"
#include "strata/gguf/file.h"

namespace strata {
namespace {

constexpr uint64_t kUsualAlignment = 32;

struct FoundTensor {
  std::string name;
  std::vector<uint64_t> dimensions;  // as in the file, the fastest first
  uint32_t type;
  uint64_t offset;
};

// A file's header, read from front to back; `at` is beyond the file once something did not fit.
class Header {
 public:
  Header(const MappedFile& file, std::vector<std::string>& faults) : file_(file), faults_(faults) { read(); }

  bool is_sound() const { return sound_; }

  uint64_t alignment = kUsualAlignment, data = 0;
  std::vector<FoundTensor> tensors;

 private:
  void read() {
    if (file_.size() < 24 || std::memcmp(file_.data(), "GGUF", 4) != 0)
      return add("it does not begin as a GGUF file");
    at_ = 4;
    const auto version = number<uint32_t>();
    if (version != 2 && version != 3)
      return add(fmt::format("its version is {}; 2 or 3 was expected", version));
    const auto count = number<uint64_t>(), keys = number<uint64_t>();
    for (uint64_t key = 0; key < keys && sound_; ++key) read_key();
    for (uint64_t tensor = 0; tensor < count && sound_; ++tensor) read_tensor();
    if (!sound_) return;
    if (alignment == 0 || (alignment & (alignment - 1)) != 0)
      add(fmt::format("its alignment is {}, which is no power of two", alignment));
    else
      data = (at_ + alignment - 1) / alignment * alignment;
  }

  void add(const std::string& fault) {
    faults_.push_back(file_.path().string() + ": " + fault);
    sound_ = false;
  }

  bool has(uint64_t bytes) {
    if (bytes <= file_.size() - at_) return true;
    if (sound_) add(fmt::format("its header ends at byte {}, in the middle", file_.size()));
    return false;
  }

  template <class T>
  T number() {
    T value{};
    if (!sound_ || !has(sizeof(T))) return value;
    std::memcpy(&value, file_.data() + at_, sizeof(T));
    at_ += sizeof(T);
    return value;
  }

  std::string string() {
    const auto length = number<uint64_t>();
    if (!sound_ || !has(length)) return "";
    std::string text(reinterpret_cast<const char*>(file_.data() + at_), static_cast<size_t>(length));
    at_ += length;
    return text;
  }

  void skip(uint64_t count, uint64_t size) {
    if (count > 0 && count > (file_.size() - at_) / size)
      add(fmt::format("its header ends at byte {}, in the middle", file_.size()));
    else
      at_ += count * size;
  }

  void skip_values(uint32_t type, uint64_t count) {
    constexpr uint64_t kSizes[] = {1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8};
    constexpr uint32_t kString = 8, kArray = 9;
    if (type > 12 || (type == kArray && count > 0))
      return add(fmt::format("a key has a value of type {}", type));
    if (type != kString) return skip(count, kSizes[type]);
    for (uint64_t i = 0; i < count && sound_; ++i) string();
  }

  void read_key() {
    constexpr uint32_t kU32 = 4, kArray = 9;
    const std::string name = string();
    const auto type = number<uint32_t>();
    if (!sound_) return;
    if (!keys_.insert(name).second) add(fmt::format("the key {} stands there twice", printable(name)));
    if (type == kArray) {
      const auto elements = number<uint32_t>();
      const auto count = number<uint64_t>();
      if (sound_) skip_values(elements, count);
    } else if (name == "general.alignment" && type == kU32) {
      alignment = number<uint32_t>();
    } else {
      skip_values(type, 1);
    }
  }

  void read_tensor() {
    FoundTensor tensor;
    tensor.name = string();
    const auto dimensions = number<uint32_t>();
    if (sound_ && dimensions > 4)
      return add(fmt::format("{} has {} dimensions", printable(tensor.name), dimensions));
    for (uint32_t i = 0; i < dimensions; ++i) tensor.dimensions.push_back(number<uint64_t>());
    tensor.type = number<uint32_t>();
    tensor.offset = number<uint64_t>();
    if (sound_) tensors.push_back(std::move(tensor));
  }

  const MappedFile& file_;
  std::vector<std::string>& faults_;
  std::set<std::string> keys_;
  uint64_t at_ = 0;
  bool sound_ = true;
};

// Bytes of a tensor by ggml's sizes of blocks; nothing where that cannot be said.
std::optional<uint64_t> bytes_of(const FoundTensor& tensor) {
  if (!is_known_gguf_type(tensor.type)) return std::nullopt;
  const GgufTypeTraits& traits = traits_of(static_cast<GgufType>(tensor.type));
  const auto block = static_cast<uint64_t>(traits.block_elements);
  uint64_t blocks = 1;
  for (size_t i = 0; i < tensor.dimensions.size(); ++i) {
    uint64_t factor = tensor.dimensions[i];
    if (i == 0 && factor % block != 0) return std::nullopt;
    if (i == 0) factor /= block;
    if (factor == 0 || __builtin_mul_overflow(blocks, factor, &blocks)) return std::nullopt;
  }
  uint64_t bytes = 0;
  if (__builtin_mul_overflow(blocks, static_cast<uint64_t>(traits.block_bytes), &bytes)) return std::nullopt;
  return bytes;
}

// Tensors one behind the other, each at the next multiple of the alignment, up to the end of the file.
void check_data(const MappedFile& file, const Header& header, std::vector<std::string>& faults) {
  const auto add = [&](const std::string& fault) { faults.push_back(file.path().string() + ": " + fault); };
  std::set<std::string> names;
  uint64_t end = 0;
  for (const FoundTensor& tensor : header.tensors) {
    const std::string name = printable(tensor.name);
    if (!names.insert(tensor.name).second) add(fmt::format("the tensor {} stands there twice", name));
    if (tensor.name.empty() || tensor.name.size() > 63)
      add(fmt::format("the name {} has {} bytes", name, tensor.name.size()));
    const std::optional<uint64_t> bytes = bytes_of(tensor);
    if (!bytes) {
      add(fmt::format("{} has type {} and a first dimension of {}, which no type stores", name, tensor.type,
                      tensor.dimensions.empty() ? 1 : tensor.dimensions.front()));
      return;  // what follows lies nobody knows where
    }
    const uint64_t expected = (end + header.alignment - 1) / header.alignment * header.alignment;
    if (tensor.offset != expected)
      add(fmt::format("{} begins at byte {} of the data; {} was expected", name, tensor.offset, expected));
    if (__builtin_add_overflow(tensor.offset, *bytes, &end))
      return add(fmt::format("{} ends beyond all bytes", name));
  }
  const uint64_t there = file.size() - std::min<uint64_t>(file.size(), header.data);
  if (end > there)
    add(fmt::format("it is cut short: its tensors take {} bytes, and {} are there", end, there));
  const uint64_t padded = (end + header.alignment - 1) / header.alignment * header.alignment;
  if (there > padded) add(fmt::format("{} bytes stand behind its last tensor", there - end));
}

// What GgufFile sees, beside what stands in the headers.
void compare(const std::vector<FoundTensor>& found, const std::filesystem::path& path,
             std::vector<std::string>& faults) {
  const GgufFile file(path);
  if (file.tensors().size() != found.size())
    return faults.push_back(fmt::format("{}: {} tensors are read of it, and {} stand in its header",
                                        path.string(), file.tensors().size(), found.size()));
  for (size_t i = 0; i < found.size(); ++i) {
    const GgufTensor& read = file.tensors()[i];
    const std::vector<uint64_t> shape(read.shape.rbegin(), read.shape.rend());
    if (read.name != found[i].name || shape != found[i].dimensions || read.offset != found[i].offset ||
        static_cast<uint32_t>(read.type) != found[i].type)
      faults.push_back(fmt::format("{}: {} is not read as it stands in the header", path.string(),
                                   printable(found[i].name)));
  }
}

std::vector<std::filesystem::path> parts_of(const std::filesystem::path& path) {
  const std::string name = path.stem().string();  // NAME-00001-of-00003
  constexpr size_t kEnding = 15;
  std::vector<std::filesystem::path> parts = {path};
  if (name.size() <= kEnding || name.substr(name.size() - kEnding, 9) != "-00001-of") return parts;
  const size_t count = std::strtoul(name.c_str() + name.size() - 5, nullptr, 10);
  const std::filesystem::path whole =
      path.parent_path() / (name.substr(0, name.size() - kEnding) + path.extension().string());
  for (size_t part = 1; part < count; ++part) parts.push_back(gguf_part_path(whole, part, count));
  return parts;
}

}  // namespace

std::vector<std::string> gguf_faults(const std::filesystem::path& path) {
  std::vector<std::string> faults;
  std::vector<FoundTensor> found;
  for (const std::filesystem::path& part : parts_of(path)) {
    const MappedFile file(part);
    const Header header(file, faults);
    if (!header.is_sound()) continue;
    check_data(file, header, faults);
    found.insert(found.end(), header.tensors.begin(), header.tensors.end());
  }
  if (faults.empty()) compare(found, path, faults);
  return faults;
}

}  // namespace strata
