#include "strata/checkpoint/packed_groups.h"

#include <fmt/ranges.h>

#include "strata/core/bit_packing.h"
#include "strata/core/error.h"
#include "strata/core/text.h"

namespace strata {

std::string stem_of(const std::string& name, std::string_view ending) {
  if (name.size() <= ending.size() || name.compare(name.size() - ending.size(), ending.size(), ending) != 0)
    return {};
  return name.substr(0, name.size() - ending.size());
}

const TensorInfo& part_of_shape(const Checkpoint& stored, const std::string& name,
                                const std::vector<int64_t>& shape) {
  const TensorInfo* part = stored.find(name);
  if (part == nullptr)
    fail("{} has no tensor {}, which a quantized matrix of its needs", stored.path().string(),
         printable(name));
  if (part->shape != shape)
    fail("{}: tensor {} has shape [{}], but the other parts of its matrix ask for [{}]",
         stored.path().string(), printable(name), fmt::join(part->shape, ", "), fmt::join(shape, ", "));
  return *part;
}

namespace {

template <class T>
std::vector<T> read_integers(const Checkpoint& stored, const std::string& name, const char* types) {
  const TensorInfo& info = stored.info(name);
  if (info.bytes != static_cast<uint64_t>(info.elements()) * sizeof(T) || info.type[0] == 'F')
    fail("{}: tensor {} has type {}; {} was expected", stored.path().string(), printable(name), info.type,
         types);
  std::vector<T> values(static_cast<size_t>(info.elements()));
  stored.read_bytes(info, 0, info.bytes, reinterpret_cast<std::byte*>(values.data()));
  return values;
}

}  // namespace

std::vector<uint32_t> read_words(const Checkpoint& stored, const std::string& name) {
  return read_integers<uint32_t>(stored, name, "I32 or U32");
}

std::vector<int64_t> read_long_integers(const Checkpoint& stored, const std::string& name) {
  return read_integers<int64_t>(stored, name, "I64");
}

std::vector<int32_t> groups_of_columns(const Checkpoint& stored, const std::string& index_tensor,
                                       int64_t cols, int64_t group_size, int64_t groups) {
  std::vector<int32_t> group_of(static_cast<size_t>(cols));
  if (!stored.contains(index_tensor)) {
    for (int64_t k = 0; k < cols; ++k) group_of[k] = static_cast<int32_t>(k / group_size);
  } else {
    part_of_shape(stored, index_tensor, {cols});
    const std::vector<uint32_t> indices = read_words(stored, index_tensor);
    for (int64_t k = 0; k < cols; ++k) group_of[k] = static_cast<int32_t>(indices[k]);
  }
  for (const int32_t group : group_of)
    if (group < 0 || group >= groups)
      fail("{}: a column of {} belongs to group {}, but its matrix has {}", stored.path().string(),
           printable(index_tensor), group, groups);
  return group_of;
}

void describe(PackedMatrix& matrix, const Checkpoint& stored, const std::string& stem, int64_t rows,
              int64_t cols, const std::string& scheme) {
  matrix.info.name = stem + ".weight";
  matrix.info.shape = {rows, cols};
  matrix.info.type = scheme;
  for (const std::string& part : matrix.parts) matrix.info.bytes += stored.info(part).bytes;
}

std::string packed_scheme_name(int bits, int64_t group_size, std::string_view zero) {
  return group_size == 0 ? fmt::format("w{}row{}", bits, zero)
                         : fmt::format("w{}g{}{}", bits, group_size, zero);
}

void decode_packed_row(const uint32_t* words, int bits, const std::vector<int32_t>& group_of,
                       const float* scales, const float* zeros, float* target) {
  std::vector<uint8_t> codes(group_of.size());
  unpack_codes(words, static_cast<int64_t>(codes.size()), bits, codes.data());
  for (size_t k = 0; k < codes.size(); ++k) {
    const int32_t group = group_of[k];
    target[k] = (static_cast<float>(codes[k]) - zeros[group]) * scales[group];
  }
}

int64_t packed_integer(const Json& section, const char* key, int64_t smallest, int64_t largest,
                       const std::string& where) {
  const auto found = section.find(key);
  if (found == section.end() || !found->is_number_integer() || found->get<int64_t>() < smallest ||
      found->get<int64_t>() > largest)
    fail("{}: the quantization's {} is {}; a whole number from {} to {} was expected", where, key,
         found == section.end() ? "missing"
                                : printable(found->dump(-1, ' ', true, Json::error_handler_t::replace)),
         smallest, largest);
  return found->get<int64_t>();
}

}  // namespace strata
