// GGUF models in several files.
#include <algorithm>
#include <limits>

#include "strata/core/error.h"
#include "strata/gguf/file.h"

namespace strata {
namespace {

struct PlannedPart {
  std::vector<GgufKey> keys;
  std::vector<GgufTensor> tensors;
  uint64_t bytes = 0;
};

GgufValue number_of_type(GgufValue::Type type, uint64_t value) {
  GgufValue number;
  number.type = type;
  if (type == GgufValue::Type::I32)
    number.value = static_cast<int64_t>(value);
  else
    number.value = value;
  return number;
}

// Tensors in order, as many to a part as fit. llama.cpp asks every part for its number, the number of parts
// and of all tensors; one part alone is a file like others.
std::vector<PlannedPart> plan_parts(const std::vector<GgufKey>& keys, const std::vector<GgufTensor>& tensors,
                                    uint64_t part_bytes) {
  std::vector<PlannedPart> parts(1);
  for (const GgufTensor& tensor : tensors) {
    const bool full =
        part_bytes > 0 && !parts.back().tensors.empty() && parts.back().bytes + tensor.bytes() > part_bytes;
    if (full) parts.emplace_back();
    parts.back().tensors.push_back(tensor);
    parts.back().bytes += tensor.bytes();
  }
  parts.front().keys = keys;
  if (parts.size() == 1) return parts;
  if (parts.size() > std::numeric_limits<uint16_t>::max())
    fail("a model in {} files cannot be written; choose a larger --shard-size", parts.size());
  for (size_t i = 0; i < parts.size(); ++i) {
    for (const GgufKey& key : keys)
      if (i > 0 && key.name == "general.alignment") parts[i].keys.push_back(key);
    parts[i].keys.push_back({"split.no", number_of_type(GgufValue::Type::U16, i)});
    parts[i].keys.push_back({"split.count", number_of_type(GgufValue::Type::U16, parts.size())});
    parts[i].keys.push_back({"split.tensors.count", number_of_type(GgufValue::Type::I32, tensors.size())});
  }
  return parts;
}

}  // namespace

GgufPartsWriter::GgufPartsWriter(const std::filesystem::path& path, const std::vector<GgufKey>& keys,
                                 const std::vector<GgufTensor>& tensors, uint64_t part_bytes) {
  const std::vector<PlannedPart> parts = plan_parts(keys, tensors, part_bytes);
  for (size_t i = 0; i < parts.size(); ++i) {
    paths_.push_back(parts.size() == 1 ? path : gguf_part_path(path, i, parts.size()));
    writers_.push_back(std::make_unique<GgufWriter>(paths_.back(), parts[i].keys, parts[i].tensors));
    missing_.push_back(parts[i].bytes);
  }
}

void GgufPartsWriter::write(const std::byte* data, uint64_t size) {
  while (size > 0) {
    while (missing_[current_] == 0 && current_ + 1 < missing_.size()) ++current_;
    const uint64_t piece = missing_[current_] == 0 ? size : std::min(size, missing_[current_]);
    writers_[current_]->write(data, piece);
    missing_[current_] -= std::min(piece, missing_[current_]);
    data += piece;
    size -= piece;
  }
}

void GgufPartsWriter::commit() {
  for (const auto& writer : writers_) writer->commit();
}

uint64_t GgufPartsWriter::file_size(const std::vector<GgufKey>& keys, const std::vector<GgufTensor>& tensors,
                                    uint64_t part_bytes) {
  uint64_t bytes = 0;
  for (const PlannedPart& part : plan_parts(keys, tensors, part_bytes))
    bytes += GgufWriter::file_size(part.keys, part.tensors);
  return bytes;
}

}  // namespace strata
