// compressed-tensors `pack-quantized`: codes packed along a row, q - 2^(b-1) being the signed integer that
// the format speaks of; zero points packed down the rows.
#include <optional>

#include "strata/checkpoint/packed_groups.h"
#include "strata/core/bit_packing.h"
#include "strata/core/error.h"
#include "strata/core/regex.h"
#include "strata/core/text.h"
#include "strata/core/threads.h"

namespace strata {
namespace {

constexpr int64_t kLongestRow = int64_t{1} << 32;

// One entry of config_groups.
struct Group {
  int bits = 0;
  bool symmetric = true;
  std::vector<std::string> names;  // of modules, or of their class
  std::vector<Regex> patterns;

  bool names_module(const std::string& module) const {
    for (const std::string& name : names)
      if (name == module) return true;
    for (const Regex& pattern : patterns)
      if (const auto match = Regex::Matcher(pattern).find(module, 0); match && match->begin == 0) return true;
    return false;
  }
  bool names_class() const {
    for (const std::string& name : names)
      if (name == "Linear") return true;
    return false;
  }
};

Group read_group(const Json& entry, const std::string& where) {
  const auto weights = entry.find("weights");
  const auto targets = entry.find("targets");
  if (!entry.is_object() || weights == entry.end() || !weights->is_object() || targets == entry.end() ||
      !targets->is_array())
    fail("{}: a group of the quantization lacks its \"weights\" or \"targets\"", where);
  Group group;
  group.bits = static_cast<int>(packed_integer(*weights, "num_bits", 1, 8, where));
  if (weights->value("type", "int") != "int")
    fail("{}: a group stores weights of type {}; int was expected", where, weights->value("type", ""));
  group.symmetric = weights->value("symmetric", true);
  for (const Json& target : *targets) {
    if (!target.is_string()) fail("{}: a target of the quantization is not a string", where);
    const std::string text = target.get<std::string>();
    if (text.rfind("re:", 0) == 0)
      group.patterns.emplace_back(text.substr(3));
    else
      group.names.push_back(text);
  }
  return group;
}

std::vector<Group> read_groups(const Json& section, const std::string& where) {
  if (const auto format = section.find("format"); format != section.end() && *format != "pack-quantized")
    fail("{}: the format of the compressed tensors is {}; pack-quantized was expected", where,
         printable(format->dump(-1, ' ', true, Json::error_handler_t::replace)));
  const auto entries = section.find("config_groups");
  if (entries == section.end() || !entries->is_object())
    fail("{}: the quantization has no config_groups", where);
  std::vector<Group> groups;
  try {
    for (const auto& [name, entry] : entries->items()) groups.push_back(read_group(entry, where));
  } catch (const Json::exception&) {
    fail("{}: a field of config_groups has an unexpected type", where);
  }
  return groups;
}

const Group& group_of(const std::vector<Group>& groups, const std::string& module, const std::string& where) {
  for (const Group& group : groups)
    if (group.names_module(module)) return group;
  for (const Group& group : groups)
    if (group.names_class()) return group;
  fail("{}: no group of the quantization names {}, whose weights are packed", where, printable(module));
}

class CompressedTensorsMatrix final : public PackedMatrix {
 public:
  CompressedTensorsMatrix(const Checkpoint& stored, const std::string& stem, const Group& group,
                          const std::string& where)
      : bits_(group.bits), packed_(stem + ".weight_packed") {
    parts = {packed_, stem + ".weight_scale", stem + ".weight_shape"};
    if (!group.symmetric) parts.push_back(stem + ".weight_zero_point");
    const bool indexed = stored.contains(stem + ".weight_g_idx");
    if (indexed) parts.push_back(stem + ".weight_g_idx");

    part_of_shape(stored, stem + ".weight_shape", {2});
    const std::vector<int64_t> shape = read_long_integers(stored, stem + ".weight_shape");
    const int64_t rows = shape[0], cols = shape[1];
    if (rows < 1 || cols < 1 || cols > kLongestRow)
      fail("{}: tensor {}.weight_shape says [{}, {}]; the shape of a matrix was expected", where,
           printable(stem), rows, cols);
    words_ = packed_words(cols, bits_);
    part_of_shape(stored, packed_, {rows, words_});
    const TensorInfo& scale = stored.info(stem + ".weight_scale");
    groups_ = scale.cols();
    part_of_shape(stored, scale.name, {rows, groups_});
    if (groups_ < 1 || groups_ > cols || (!indexed && cols % groups_ != 0))
      fail("{}: {} has {} scales a row for {} columns, which they do not divide", where,
           printable(scale.name), groups_, cols);
    columns_ = groups_of_columns(stored, stem + ".weight_g_idx", cols, cols / groups_, groups_);
    scales_ = stored.read(scale.name);
    read_zeros(stored, stem, group.symmetric, rows);
    describe(*this, stored, stem, rows, cols,
             packed_scheme_name(bits_, groups_ == 1 ? 0 : cols / groups_, group.symmetric ? "s" : "z"));
  }

  void read_rows(const Checkpoint& stored, int64_t first, int64_t count, float* target) const override {
    std::vector<uint32_t> words(static_cast<size_t>(count * words_));
    const uint64_t row_bytes = static_cast<uint64_t>(words_) * 4;
    stored.read_bytes(stored.info(packed_), static_cast<uint64_t>(first) * row_bytes,
                      static_cast<uint64_t>(count) * row_bytes, reinterpret_cast<std::byte*>(words.data()));
    parallel_for(count, kRowsPerTask, [&](int64_t begin, int64_t end) {
      for (int64_t r = begin; r < end; ++r)
        decode_packed_row(words.data() + r * words_, bits_, columns_, scales_.data() + (first + r) * groups_,
                          zeros_.data() + (first + r) * groups_, target + r * info.cols());
    });
  }

 private:
  void read_zeros(const Checkpoint& stored, const std::string& stem, bool symmetric, int64_t rows) {
    zeros_.assign(scales_.size(), static_cast<float>(1 << (bits_ - 1)));
    if (symmetric) return;
    const std::string name = stem + ".weight_zero_point";
    const int64_t words = packed_words(rows, bits_);
    part_of_shape(stored, name, {words, groups_});
    const std::vector<uint32_t> packed = read_words(stored, name);
    std::vector<uint32_t> column(static_cast<size_t>(words));
    std::vector<uint8_t> codes(static_cast<size_t>(rows));
    for (int64_t g = 0; g < groups_; ++g) {
      for (int64_t w = 0; w < words; ++w) column[w] = packed[w * groups_ + g];
      unpack_codes(column.data(), rows, bits_, codes.data());
      for (int64_t r = 0; r < rows; ++r) zeros_[r * groups_ + g] = codes[r];
    }
  }

  int bits_;
  std::string packed_;
  int64_t words_ = 0, groups_ = 0;
  std::vector<int32_t> columns_;
  std::vector<float> scales_, zeros_;  // [rows, groups]
};

}  // namespace

PackedMatrices compressed_tensors_matrices(const Checkpoint& stored, const Json& section,
                                           const std::string& where) {
  const std::vector<Group> groups = read_groups(section, where);
  PackedMatrices matrices;
  for (const TensorInfo& tensor : stored.tensors()) {
    const std::string stem = stem_of(tensor.name, ".weight_packed");
    if (!stem.empty())
      matrices.push_back(
          std::make_unique<CompressedTensorsMatrix>(stored, stem, group_of(groups, stem, where), where));
  }
  return matrices;
}

}  // namespace strata
