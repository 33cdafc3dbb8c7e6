#include <algorithm>
#include <cmath>
#include <cstring>
#include <unordered_map>

#include "strata/checkpoint/checkpoint.h"
#include "strata/checkpoint/safetensors_header.h"
#include "strata/checkpoint/stored_values.h"
#include "strata/core/error.h"
#include "strata/core/file.h"
#include "strata/core/json.h"
#include "strata/core/progress.h"
#include "strata/core/text.h"

namespace strata {
namespace fs = std::filesystem;
namespace {

constexpr const char* kIndexName = "model.safetensors.index.json";
constexpr uint64_t kReleasedBytes = 32 << 10;  // reads of at least this size give their pages back

// Position of the first value that is NaN or infinite; n when all are finite.
int64_t first_not_finite(const float* values, int64_t n) {
  constexpr int64_t kChunk = 4096;
  for (int64_t begin = 0; begin < n; begin += kChunk) {
    const int64_t end = std::min(n, begin + kChunk);
    uint32_t bad = 0;
    for (int64_t i = begin; i < end; ++i) {
      uint32_t bits;
      std::memcpy(&bits, values + i, 4);
      bad |= static_cast<uint32_t>((bits & 0x7f800000u) == 0x7f800000u);
    }
    if (bad == 0) continue;
    for (int64_t i = begin; i < end; ++i)
      if (!std::isfinite(values[i])) return i;
  }
  return n;
}

class SafetensorsCheckpoint final : public Checkpoint {
 public:
  SafetensorsCheckpoint(fs::path path, const std::vector<fs::path>& shards) : path_(std::move(path)) {
    for (const fs::path& shard : shards) add_shard(shard);
  }

  const std::vector<TensorInfo>& tensors() const override { return tensors_; }
  const fs::path& path() const override { return path_; }

  const TensorInfo* find(const std::string& name) const override {
    const auto found = by_name_.find(name);
    return found == by_name_.end() ? nullptr : &tensors_[found->second];
  }

  void read_rows(const TensorInfo& tensor, int64_t first, int64_t count, float* target) const override {
    const auto found = by_name_.find(tensor.name);
    if (found == by_name_.end()) fail("{} has no tensor {}", path_.string(), printable(tensor.name));
    const Place& place = places_[found->second];
    const TensorInfo& info = tensors_[found->second];
    const MappedFile& file = files_[place.file];
    if (first < 0 || count < 0 || first > info.rows() || count > info.rows() - first)
      fail("{}: rows {} to {} of tensor {} were asked for, which has {}", file.path().string(), first,
           first + count, printable(info.name), info.rows());
    if (!place.type)
      fail("{}: tensor {} has type {}, which cannot be read as weights; F64, F32, F16 or BF16 was expected",
           file.path().string(), printable(info.name), info.type);

    const uint64_t row_bytes = static_cast<uint64_t>(info.cols()) * size_of(*place.type);
    const uint64_t begin = place.begin + static_cast<uint64_t>(first) * row_bytes;
    const int64_t n = count * info.cols();
    if (n == 0) return;
    try {
      to_float(*place.type, file.data() + begin, target, n);
    } catch (const Error& error) {
      fail("{}: tensor {}: {}", file.path().string(), printable(info.name), error.what());
    }
    const uint64_t bytes = static_cast<uint64_t>(count) * row_bytes;
    if (bytes >= kReleasedBytes) file.release(begin, bytes);
    const int64_t bad = first_not_finite(target, n);
    if (bad < n)
      fail("{}: tensor {} holds {} at row {}, column {}; finite weights were expected", file.path().string(),
           printable(info.name), std::isnan(target[bad]) ? "NaN" : "infinity", first + bad / info.cols(),
           bad % info.cols());
  }

  void read_bytes(const TensorInfo& tensor, uint64_t first, uint64_t count,
                  std::byte* target) const override {
    const auto found = by_name_.find(tensor.name);
    if (found == by_name_.end()) fail("{} has no tensor {}", path_.string(), printable(tensor.name));
    const Place& place = places_[found->second];
    const uint64_t bytes = tensors_[found->second].bytes;
    if (first > bytes || count > bytes - first)
      fail("{}: bytes {} to {} of tensor {} were asked for, which has {}", path_.string(), first,
           first + count, printable(tensor.name), bytes);
    if (count > 0) std::memcpy(target, files_[place.file].data() + place.begin + first, count);
    if (count >= kReleasedBytes) files_[place.file].release(place.begin + first, count);
  }

  const std::byte* bytes_of(const std::string& name) const {
    const auto found = by_name_.find(name);
    if (found == by_name_.end()) return nullptr;
    const Place& place = places_[found->second];
    return files_[place.file].data() + place.begin;
  }

  // The shard that holds a tensor; none when no shard does.
  std::optional<fs::path> shard_of(const std::string& name) const {
    const auto found = by_name_.find(name);
    if (found == by_name_.end()) return std::nullopt;
    return files_[places_[found->second].file].path();
  }

 private:
  struct Place {
    size_t file;
    uint64_t begin;
    std::optional<DType> type;
  };

  void add_shard(const fs::path& shard) {
    files_.emplace_back(shard);
    for (SafetensorsEntry& entry : read_safetensors_header(files_.back())) {
      const auto [earlier, fresh] = by_name_.emplace(entry.info.name, tensors_.size());
      if (!fresh)
        fail("{}: tensor {} is also in {}", shard.string(), printable(entry.info.name),
             files_[places_[earlier->second].file].path().string());
      places_.push_back({files_.size() - 1, entry.begin, entry.type});
      tensors_.push_back(std::move(entry.info));
    }
  }

  fs::path path_;
  std::vector<MappedFile> files_;
  std::vector<TensorInfo> tensors_;
  std::vector<Place> places_;
  std::unordered_map<std::string, size_t> by_name_;
};

// The weight_map of an index: tensor to file name.
std::vector<std::pair<std::string, std::string>> read_weight_map(const fs::path& index) {
  const std::string where = index.string();
  const LargeJson document = read_large_json(index);
  if (!document.is_object() || !document.contains("weight_map") || !document["weight_map"].is_object())
    fail("{} has no weight_map object that names the file of every tensor", where);
  std::vector<std::pair<std::string, std::string>> map;
  for (const auto& [tensor, file] : document["weight_map"].items()) {
    if (!file.is_string()) fail("{}: the file of tensor {} is not a name", where, printable(tensor));
    const std::string name = file.get<std::string>();
    if (name.empty() || name == "." || name == ".." || name.find('/') != std::string::npos ||
        name.find('\0') != std::string::npos)
      fail("{}: the file of tensor {} is \"{}\"; the name of a file in the same directory was expected",
           where, printable(tensor), printable(name));
    map.emplace_back(tensor, name);
  }
  if (map.empty()) fail("{}: the weight_map is empty; the file of every tensor was expected", where);
  return map;
}

std::unique_ptr<Checkpoint> open_index(const fs::path& path, const fs::path& index) {
  const auto weight_map = read_weight_map(index);
  const fs::path directory = index.parent_path();
  std::vector<fs::path> shards;
  for (const auto& [tensor, file] : weight_map) {
    std::error_code no_such_name;  // one too long for a name, for example
    if (!fs::exists(directory / file, no_such_name))
      fail("{} puts tensor {} into {}, but that file is missing; the download is incomplete", index.string(),
           printable(tensor), printable(file));
    shards.push_back(directory / file);
  }
  std::sort(shards.begin(), shards.end());
  shards.erase(std::unique(shards.begin(), shards.end()), shards.end());

  auto checkpoint = std::make_unique<SafetensorsCheckpoint>(path, shards);
  std::vector<std::string> absent;
  for (const auto& [tensor, file] : weight_map) {
    const std::optional<fs::path> shard = checkpoint->shard_of(tensor);
    if (!shard)
      absent.push_back(printable(tensor));
    else if (*shard != directory / file)
      fail("{} puts tensor {} into {}, but it is in {}", index.string(), printable(tensor), file,
           shard->filename().string());
  }
  // Whoever needs one of them says so: indexes name tied heads and buffers that were not saved.
  if (!absent.empty())
    show_note(fmt::format("{} lists {} tensors that no file holds, {} among them", index.string(),
                          absent.size(), absent.front()));
  return checkpoint;
}

std::unique_ptr<Checkpoint> open_directory(const fs::path& path) {
  if (fs::is_regular_file(path / "model.safetensors"))
    return std::make_unique<SafetensorsCheckpoint>(path, std::vector<fs::path>{path / "model.safetensors"});
  if (fs::is_regular_file(path / kIndexName)) return open_index(path, path / kIndexName);
  std::vector<fs::path> files;
  for (const auto& entry : fs::directory_iterator(path))
    if (entry.path().extension() == ".safetensors") files.push_back(entry.path());
  if (files.empty())
    fail("{} holds no .safetensors file; convert the checkpoint to safetensors first", path.string());
  if (files.size() > 1)
    fail("{} holds {} .safetensors files but no {} that says which tensor is where", path.string(),
         files.size(), kIndexName);
  return std::make_unique<SafetensorsCheckpoint>(path, files);
}

bool is_index(const fs::path& path) {
  const std::string name = path.filename().string();
  constexpr std::string_view kEnding = ".index.json";
  return name.size() > kEnding.size() && name.substr(name.size() - kEnding.size()) == kEnding;
}

}  // namespace

std::unique_ptr<Checkpoint> open_safetensors(const fs::path& path) {
  if (!fs::exists(path))
    fail("{} does not exist; a .safetensors file or its directory was expected", path.string());
  try {
    if (fs::is_directory(path)) return open_directory(path);
  } catch (const fs::filesystem_error& error) {
    fail("cannot read the directory {}: {}", path.string(), error.code().message());
  }
  if (is_index(path)) return open_index(path, path);
  return std::make_unique<SafetensorsCheckpoint>(path, std::vector<fs::path>{path});
}

const std::byte* mapped_bytes(const Checkpoint& safetensors, const std::string& name) {
  const auto* own = dynamic_cast<const SafetensorsCheckpoint*>(&safetensors);
  return own == nullptr ? nullptr : own->bytes_of(name);
}

}  // namespace strata
