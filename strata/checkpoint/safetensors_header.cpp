#include "strata/checkpoint/safetensors_header.h"

#include <algorithm>
#include <cstring>
#include <limits>
#include <string_view>
#include <unordered_set>

#include "strata/core/error.h"
#include "strata/core/json.h"
#include "strata/core/text.h"

namespace strata {
namespace {

constexpr uint64_t kLengthBytes = 8;
constexpr uint64_t kLargestHeader = 100'000'000;  // the limit of the format's own library

struct StoredType {
  std::string_view name;
  uint64_t bytes;
  std::optional<DType> type;
};

constexpr StoredType kStoredTypes[] = {
    {"F64", 8, DType::F64},      {"F32", 4, DType::F32},       {"F16", 2, DType::F16},
    {"BF16", 2, DType::BF16},    {"I64", 8, DType::I64},       {"I32", 4, DType::I32},
    {"I16", 2, DType::I16},      {"I8", 1, DType::I8},         {"U8", 1, DType::U8},
    {"BOOL", 1, DType::Bool},    {"U16", 2, std::nullopt},     {"U32", 4, DType::U32},
    {"U64", 8, std::nullopt},    {"F8_E4M3", 1, std::nullopt}, {"F8_E5M2", 1, std::nullopt},
    {"F8_E8M0", 1, std::nullopt}};

// One entry of the header as it was written, before anything about it is believed.
struct RawEntry {
  std::string name, type;
  std::vector<uint64_t> shape, offsets;
  bool has_type = false, has_shape = false, has_offsets = false;
};

// Collects the entries while the JSON is parsed, so that duplicate names are seen and nothing but the
// header's own content takes memory.
class HeaderHandler : public nlohmann::json_sax<nlohmann::json> {
 public:
  explicit HeaderHandler(const std::filesystem::path& path) : path_(path.string()) {}

  std::vector<RawEntry> take() {
    if (place_ != Place::After) fail("{}: the header is not a JSON object of tensors", path_);
    return std::move(entries_);
  }

  bool null() override { return refuse("null"); }
  bool boolean(bool value) override { return refuse(value ? "true" : "false"); }
  bool number_integer(number_integer_t value) override { return refuse(fmt::format("{}", value)); }
  bool number_float(number_float_t, const string_t& text) override { return refuse(text); }
  bool binary(binary_t&) override { return refuse("binary data"); }

  bool number_unsigned(number_unsigned_t value) override {
    if (place_ == Place::Shape)
      entries_.back().shape.push_back(value);
    else if (place_ == Place::Offsets)
      entries_.back().offsets.push_back(value);
    else
      refuse(fmt::format("{}", value));
    return true;
  }

  bool string(string_t& value) override {
    if (place_ == Place::Metadata) return true;
    if (place_ != Place::Tensor || field_ != "dtype") return refuse('"' + printable(value) + '"');
    entries_.back().type = std::move(value);
    return true;
  }

  bool start_object(size_t) override {
    if (place_ == Place::Before)
      place_ = Place::Top;
    else if (place_ == Place::Top)
      place_ = in_metadata_ ? Place::Metadata : Place::Tensor;
    else
      refuse("an object");
    return true;
  }

  bool end_object() override {
    place_ = place_ == Place::Top ? Place::After : Place::Top;
    return true;
  }

  bool start_array(size_t) override {
    if (place_ == Place::Tensor && field_ == "shape")
      place_ = Place::Shape;
    else if (place_ == Place::Tensor && field_ == "data_offsets")
      place_ = Place::Offsets;
    else
      refuse("an array");
    return true;
  }

  bool end_array() override {
    place_ = Place::Tensor;
    return true;
  }

  bool key(string_t& name) override {
    if (place_ == Place::Top) {
      in_metadata_ = name == "__metadata__";
      if (!names_.insert(name).second) fail("{}: the header names tensor {} twice", path_, printable(name));
      if (!in_metadata_) entries_.emplace_back().name = std::move(name);
    } else if (place_ == Place::Tensor) {
      field_ = name;
      RawEntry& entry = entries_.back();
      bool* seen = name == "dtype"          ? &entry.has_type
                   : name == "shape"        ? &entry.has_shape
                   : name == "data_offsets" ? &entry.has_offsets
                                            : nullptr;
      if (seen == nullptr || *seen)
        fail("{}: tensor {} has {} field {}; one each of dtype, shape and data_offsets was expected", path_,
             printable(entry.name), seen == nullptr ? "the unknown" : "twice the", printable(name));
      *seen = true;
    }
    return true;
  }

  bool parse_error(size_t position, const std::string&, const nlohmann::detail::exception&) override {
    fail("{}: the header is not valid JSON (parsing stopped at its byte {}); the file is damaged", path_,
         position);
  }

 private:
  enum class Place { Before, Top, Metadata, Tensor, Shape, Offsets, After };

  bool refuse(const std::string& found) const {
    if (place_ == Place::Before)
      fail("{}: the header is {}; a JSON object was expected", path_, printable(found));
    if (in_metadata_)
      fail("{}: the header's __metadata__ contains {}; strings alone were expected", path_, printable(found));
    if (place_ == Place::Top)
      fail("{}: tensor {} is {}; an object with dtype, shape and data_offsets was expected", path_,
           printable(entries_.back().name), printable(found));
    fail("{}: field {} of tensor {} contains {}; {} was expected", path_, printable(field_),
         printable(entries_.back().name), printable(found),
         field_ == "dtype" ? "a type's name" : "an array of whole numbers from 0 to 2^64 - 1");
  }

  std::string path_, field_;
  Place place_ = Place::Before;
  bool in_metadata_ = false;
  std::vector<RawEntry> entries_;
  std::unordered_set<std::string> names_;
};

std::string_view header_text(const MappedFile& file) {
  const std::string path = file.path().string();
  const char* bytes = reinterpret_cast<const char*>(file.data());
  if (file.size() < kLengthBytes)
    fail("{} has {} bytes, too few for a safetensors file; it is truncated or something else", path,
         file.size());
  constexpr std::string_view kPointer = "version https://git-lfs";
  if (std::string_view(bytes, std::min(file.size(), kPointer.size())) == kPointer)
    fail("{} is a Git LFS pointer and not the weights; fetch them with git lfs pull", path);
  uint64_t length = 0;
  std::memcpy(&length, bytes, kLengthBytes);
  if (length > kLargestHeader)
    fail(
        "{} announces a header of {} bytes; at most {} were expected, so it is damaged or not a safetensors "
        "file",
        path, length, kLargestHeader);
  if (length > file.size() - kLengthBytes)
    fail("{} announces a header of {} bytes but has only {} after the length; it is truncated", path, length,
         file.size() - kLengthBytes);
  return {bytes + kLengthBytes, static_cast<size_t>(length)};
}

std::string shape_text(const RawEntry& raw) {
  std::string text = "[";
  for (size_t i = 0; i < raw.shape.size(); ++i) text += (i > 0 ? ", " : "") + std::to_string(raw.shape[i]);
  return printable(text) + "]";
}

const StoredType& stored_type(const std::string& path, const RawEntry& raw) {
  for (const StoredType& known : kStoredTypes)
    if (known.name == raw.type) return known;
  fail("{}: tensor {} has the unknown type {}; F64, F32, F16, BF16 or an integer type was expected", path,
       printable(raw.name), printable(raw.type));
}

// The entry with offsets from the start of the data, checked against itself alone.
SafetensorsEntry checked_entry(const std::string& path, RawEntry raw) {
  const std::string name = printable(raw.name);
  if (raw.name.empty()) fail("{}: the header has a tensor without a name", path);
  if (!raw.has_type || !raw.has_shape || !raw.has_offsets)
    fail("{}: tensor {} has no {}", path, name,
         !raw.has_type    ? "dtype"
         : !raw.has_shape ? "shape"
                          : "data_offsets");
  if (raw.offsets.size() != 2)
    fail("{}: tensor {} has {} data_offsets; 2 were expected", path, name, raw.offsets.size());
  const uint64_t begin = raw.offsets[0], end = raw.offsets[1];
  if (begin > end)
    fail("{}: the data of tensor {} ends at {} before it begins at {}", path, name, end, begin);

  const StoredType& type = stored_type(path, raw);
  // Products of any dimensions must fit, also where a zero elsewhere makes the tensor empty.
  uint64_t bytes = type.bytes;
  bool overflow = false, empty = false;
  for (const uint64_t dimension : raw.shape) {
    empty |= dimension == 0;
    overflow |= __builtin_mul_overflow(bytes, std::max<uint64_t>(dimension, 1), &bytes);
  }
  if (overflow || bytes > uint64_t{1} << 62)
    fail("{}: the shape of tensor {} is impossibly large: {}", path, name, shape_text(raw));
  if (empty) bytes = 0;
  if (bytes != end - begin)
    fail("{}: tensor {} of type {} and shape {} takes {} bytes, but its offsets give it {}", path, name,
         raw.type, shape_text(raw), bytes, end - begin);

  SafetensorsEntry entry;
  entry.type = type.type;
  entry.begin = begin;
  entry.info = {std::move(raw.name), {raw.shape.begin(), raw.shape.end()}, std::move(raw.type), bytes};
  return entry;
}

// Tensors must follow one another without a gap and fill the file.
void check_layout(const std::string& path, const std::vector<SafetensorsEntry>& entries,
                  uint64_t data_bytes) {
  uint64_t position = 0;
  for (const SafetensorsEntry& entry : entries) {
    const std::string name = printable(entry.info.name);
    if (entry.begin < position)
      fail("{}: the data of tensor {} begins at {}, inside the tensor before it, which ends at {}", path,
           name, entry.begin, position);
    if (entry.begin > position)
      fail("{}: the data of tensor {} begins at {}, {} bytes after the tensor before it; no gap was expected",
           path, name, entry.begin, entry.begin - position);
    if (entry.info.bytes > data_bytes - position)
      fail("{}: the data of tensor {} ends at {}, beyond the file's {} bytes of data; it is truncated", path,
           name, position + entry.info.bytes, data_bytes);
    position += entry.info.bytes;
  }
  if (position != data_bytes)
    fail("{} has {} bytes of data, but its tensors take {}; bytes that belong to no tensor follow them", path,
         data_bytes, position);
}

}  // namespace

std::vector<SafetensorsEntry> read_safetensors_header(const MappedFile& file) {
  const std::string path = file.path().string();
  const std::string_view header = header_text(file);
  HeaderHandler handler(file.path());
  nlohmann::json::sax_parse(header.begin(), header.end(), &handler);

  std::vector<SafetensorsEntry> entries;
  for (RawEntry& raw : handler.take()) entries.push_back(checked_entry(path, std::move(raw)));
  std::stable_sort(entries.begin(), entries.end(), [](const auto& a, const auto& b) {
    return std::make_pair(a.begin, a.info.bytes) < std::make_pair(b.begin, b.info.bytes);
  });
  check_layout(path, entries, file.size() - kLengthBytes - header.size());
  for (SafetensorsEntry& entry : entries) entry.begin += kLengthBytes + header.size();
  return entries;
}

}  // namespace strata
