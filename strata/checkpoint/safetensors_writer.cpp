#include "strata/checkpoint/safetensors_writer.h"

#include <algorithm>
#include <numeric>
#include <unordered_set>

#include "strata/core/error.h"
#include "strata/core/file.h"
#include "strata/core/json.h"
#include "strata/core/text.h"

namespace strata {
namespace fs = std::filesystem;
namespace {

constexpr uint64_t kHeaderAlignment = 8;
constexpr int64_t kPiece = 1 << 18;  // weights converted at once

int64_t elements_of(const PlannedTensor& tensor) {
  return std::accumulate(tensor.shape.begin(), tensor.shape.end(), int64_t{1}, std::multiplies<>());
}

uint64_t bytes_of(const PlannedTensor& tensor) {
  return static_cast<uint64_t>(elements_of(tensor)) * size_of(tensor.type);
}

// Where a tensor goes: its shard and its offset from the start of the shard's data.
struct Place {
  size_t shard = 0;
  uint64_t offset = 0;
};

// Fills shard after shard in the order planned. Within one, wide types come first, so that every tensor is
// aligned to its type, which readers that map the file rely on.
std::vector<Place> place_tensors(const std::vector<PlannedTensor>& tensors, uint64_t shard_bytes) {
  std::vector<Place> places(tensors.size());
  size_t shard = 0, first = 0;
  const auto lay_out = [&](size_t end) {
    std::vector<size_t> order(end - first);
    std::iota(order.begin(), order.end(), first);
    std::stable_sort(order.begin(), order.end(),
                     [&](size_t a, size_t b) { return size_of(tensors[a].type) > size_of(tensors[b].type); });
    uint64_t offset = 0;
    for (const size_t i : order) {
      places[i] = {shard, offset};
      offset += bytes_of(tensors[i]);
    }
    ++shard;
    first = end;
  };
  uint64_t filled = 0;
  for (size_t i = 0; i < tensors.size(); ++i) {
    if (i > first && filled + bytes_of(tensors[i]) > shard_bytes) {
      lay_out(i);
      filled = 0;
    }
    filled += bytes_of(tensors[i]);
  }
  lay_out(tensors.size());
  return places;
}

void check_plan(const fs::path& directory, const std::vector<PlannedTensor>& tensors) {
  std::unordered_set<std::string> names;
  for (const PlannedTensor& tensor : tensors) {
    const bool negative =
        std::any_of(tensor.shape.begin(), tensor.shape.end(), [](int64_t d) { return d < 0; });
    if (tensor.name.empty() || tensor.name == "__metadata__" || negative || !names.insert(tensor.name).second)
      fail("cannot write {}: the tensor \"{}\" appears twice or has a name or shape that cannot be stored",
           directory.string(), printable(tensor.name));
  }
}

std::string header_of(const std::vector<PlannedTensor>& tensors, const std::vector<Place>& places,
                      size_t shard, const std::map<std::string, std::string>& metadata) {
  LargeJson header = LargeJson::object();
  if (!metadata.empty()) header["__metadata__"] = metadata;
  for (size_t i = 0; i < tensors.size(); ++i)
    if (places[i].shard == shard)
      header[tensors[i].name] = {
          {"dtype", name_of(tensors[i].type)},
          {"shape", tensors[i].shape},
          {"data_offsets", {places[i].offset, places[i].offset + bytes_of(tensors[i])}}};
  std::string text = header.dump(-1, ' ', false, LargeJson::error_handler_t::replace);
  text.resize((text.size() + kHeaderAlignment - 1) / kHeaderAlignment * kHeaderAlignment, ' ');
  return text;
}

}  // namespace

struct SafetensorsWriter::State {
  fs::path directory;
  std::vector<PlannedTensor> tensors;
  std::vector<Place> places;
  std::map<std::string, std::string> metadata;
  std::vector<std::unique_ptr<OutputFile>> shards;
  std::vector<uint64_t> data_starts;
  size_t current = 0;   // tensor being written
  int64_t written = 0;  // of its elements
  std::vector<std::byte> buffer;

  size_t shard_count() const { return places.empty() ? 1 : places.back().shard + 1; }

  std::string shard_name(size_t shard) const {
    return shard_count() == 1 ? "model.safetensors"
                              : fmt::format("model-{:05}-of-{:05}.safetensors", shard + 1, shard_count());
  }

  void open_shard(size_t shard) {
    shards.push_back(std::make_unique<OutputFile>(directory / shard_name(shard)));
    const std::string header = header_of(tensors, places, shard, metadata);
    const uint64_t length = header.size();
    shards.back()->write(&length, sizeof(length));
    shards.back()->write(header.data(), header.size());
    data_starts.push_back(shards.back()->position());
  }

  void skip_complete_tensors() {
    while (current < tensors.size() && written == elements_of(tensors[current])) {
      ++current;
      written = 0;
      if (current < tensors.size() && places[current].shard == shards.size()) open_shard(shards.size());
    }
  }

  int64_t missing() const { return elements_of(tensors[current]) - written; }

  void write_piece(const float* values, int64_t count) {
    const DType type = tensors[current].type;
    buffer.resize(static_cast<size_t>(count) * size_of(type));
    from_float(type, values, buffer.data(), count);
    write_stored(buffer.data(), count);
  }

  void write_stored(const std::byte* bytes, int64_t count) {
    const Place& place = places[current];
    const size_t size = size_of(tensors[current].type);
    shards[place.shard]->write_at(
        data_starts[place.shard] + place.offset + static_cast<uint64_t>(written) * size, bytes,
        static_cast<size_t>(count) * size);
    written += count;
  }

  void write_index() const {
    LargeJson weight_map = LargeJson::object();
    uint64_t total = 0;
    for (size_t i = 0; i < tensors.size(); ++i) {
      weight_map[tensors[i].name] = shard_name(places[i].shard);
      total += bytes_of(tensors[i]);
    }
    const LargeJson index = {{"metadata", {{"total_size", total}}}, {"weight_map", std::move(weight_map)}};
    write_text(directory / "model.safetensors.index.json",
               index.dump(2, ' ', false, LargeJson::error_handler_t::replace) + "\n");
  }
};

SafetensorsWriter::SafetensorsWriter(fs::path directory, std::vector<PlannedTensor> tensors,
                                     std::map<std::string, std::string> metadata, uint64_t shard_bytes)
    : state_(std::make_unique<State>()) {
  check_plan(directory, tensors);
  state_->directory = std::move(directory);
  state_->places = place_tensors(tensors, shard_bytes);
  state_->tensors = std::move(tensors);
  state_->metadata = std::move(metadata);
  state_->open_shard(0);
  state_->skip_complete_tensors();
}

SafetensorsWriter::~SafetensorsWriter() = default;

void SafetensorsWriter::write(const float* values, int64_t count) {
  while (count > 0) {
    State& state = *state_;
    if (state.current == state.tensors.size())
      fail("cannot write {}: {} weights were given beyond the last tensor", state.directory.string(), count);
    const int64_t piece = std::min({count, state.missing(), kPiece});
    state.write_piece(values, piece);
    values += piece;
    count -= piece;
    state.skip_complete_tensors();
  }
}

void SafetensorsWriter::write_bytes(const std::byte* bytes, uint64_t count) {
  while (count > 0) {
    State& state = *state_;
    const uint64_t size =
        state.current < state.tensors.size() ? size_of(state.tensors[state.current].type) : 0;
    if (size == 0 || count % size != 0)
      fail("cannot write {}: {} bytes were given beyond the last tensor, or not whole elements",
           state.directory.string(), count);
    const int64_t piece = std::min(static_cast<int64_t>(count / size), state.missing());
    state.write_stored(bytes, piece);
    bytes += static_cast<uint64_t>(piece) * size;
    count -= static_cast<uint64_t>(piece) * size;
    state.skip_complete_tensors();
  }
}

uint64_t SafetensorsWriter::file_bytes(const std::vector<PlannedTensor>& tensors,
                                       const std::map<std::string, std::string>& metadata,
                                       uint64_t shard_bytes) {
  const std::vector<Place> places = place_tensors(tensors, shard_bytes);
  uint64_t bytes = 0;
  for (const PlannedTensor& tensor : tensors) bytes += bytes_of(tensor);
  const size_t shards = places.empty() ? 1 : places.back().shard + 1;
  for (size_t shard = 0; shard < shards; ++shard)
    bytes += sizeof(uint64_t) + header_of(tensors, places, shard, metadata).size();
  return bytes;
}

void SafetensorsWriter::finish() {
  State& state = *state_;
  if (state.current < state.tensors.size())
    fail("cannot write {}: tensor {} has {} of its {} weights", state.directory.string(),
         printable(state.tensors[state.current].name), state.written,
         elements_of(state.tensors[state.current]));
  for (const auto& shard : state.shards) shard->commit();
  if (state.shards.size() > 1) state.write_index();
}

}  // namespace strata
