// GPTQ checkpoints: codes packed down the columns of a transposed matrix, zero points along its rows; version
// 1 stores a zero point less one.
#include "strata/checkpoint/packed_groups.h"
#include "strata/core/bit_packing.h"
#include "strata/core/error.h"
#include "strata/core/regex.h"
#include "strata/core/text.h"
#include "strata/core/threads.h"

namespace strata {
namespace {

constexpr int64_t kLargestGroup = int64_t{1} << 24;

struct GptqSettings {
  int bits = 0;
  int64_t group_size = 0;  // -1: a whole row
  bool symmetric = true;
};

// A rule of "dynamic": modules that match have settings of their own, or are not quantized ("-:").
struct Rule {
  Regex pattern;
  bool excludes;
  GptqSettings settings;
};

class Config {
 public:
  Config(const Json& section, const std::string& where) : where_(where) {
    general_ = settings(section, {});
    version_1_ = format_of(section) == "gptq";
    const auto dynamic = section.find("dynamic");
    if (dynamic == section.end() || dynamic->is_null()) return;
    if (!dynamic->is_object()) fail("{}: the quantization's dynamic is not an object", where);
    for (const auto& [key, entry] : dynamic->items()) {
      const bool excludes = key.rfind("-:", 0) == 0;
      const std::string pattern = excludes || key.rfind("+:", 0) == 0 ? key.substr(2) : key;
      if (!entry.is_object()) fail("{}: the rule {} of dynamic is not an object", where, printable(key));
      rules_.push_back({Regex(pattern), excludes, settings(entry, general_)});
    }
  }

  const GptqSettings& of(const std::string& module) const {
    for (const Rule& rule : rules_)
      if (const auto match = Regex::Matcher(rule.pattern).find(module, 0);
          !rule.excludes && match && match->begin == 0)
        return rule.settings;
    return general_;
  }

  bool version_1() const { return version_1_; }
  const std::string& where() const { return where_; }

 private:
  GptqSettings settings(const Json& section, GptqSettings otherwise) const {
    if (otherwise.bits == 0 || section.contains("bits"))
      otherwise.bits = static_cast<int>(packed_integer(section, "bits", 2, 8, where_));
    if (otherwise.group_size == 0 || section.contains("group_size"))
      otherwise.group_size = packed_integer(section, "group_size", -1, kLargestGroup, where_);
    if (const auto found = section.find("sym"); found != section.end() && found->is_boolean())
      otherwise.symmetric = found->get<bool>();
    const int bits = otherwise.bits;
    if ((bits != 2 && bits != 3 && bits != 4 && bits != 8) || otherwise.group_size == 0)
      fail("{}: {} bits in groups of {} are not GPTQ's; 2, 3, 4 or 8 bits were expected", where_, bits,
           otherwise.group_size);
    return otherwise;
  }

  std::string format_of(const Json& section) const {
    for (const char* key : {"checkpoint_format", "format"}) {
      const auto found = section.find(key);
      if (found == section.end() || found->is_null()) continue;
      if (*found != "gptq" && *found != "gptq_v2")
        fail("{}: the checkpoint format is {}; gptq or gptq_v2 was expected", where_,
             printable(found->dump(-1, ' ', true, Json::error_handler_t::replace)));
      return found->get<std::string>();
    }
    return "gptq";
  }

  std::string where_;
  GptqSettings general_;
  bool version_1_ = true;
  std::vector<Rule> rules_;
};

class GptqMatrix final : public PackedMatrix {
 public:
  GptqMatrix(const Checkpoint& stored, const std::string& stem, const Config& config)
      : bits_(config.of(stem).bits), packed_(stem + ".qweight") {
    parts = {packed_, stem + ".qzeros", stem + ".scales"};
    if (stored.contains(stem + ".g_idx")) parts.push_back(stem + ".g_idx");
    const TensorInfo& weight = stored.info(packed_);
    if (weight.shape.size() != 2 || weight.shape[0] < 1 || weight.shape[1] < 1 ||
        weight.shape[0] * 32 % bits_ != 0)
      fail("{}: tensor {} does not have the shape of {}-bit codes", config.where(), printable(packed_),
           bits_);
    const int64_t cols = weight.shape[0] * 32 / bits_, rows = weight.shape[1];
    const GptqSettings& settings = config.of(stem);
    const int64_t group_size = settings.group_size < 0 ? cols : settings.group_size;
    groups_ = (cols + group_size - 1) / group_size;
    part_of_shape(stored, stem + ".scales", {groups_, rows});
    part_of_shape(stored, stem + ".qzeros", {groups_, packed_words(rows, bits_)});
    columns_ = groups_of_columns(stored, stem + ".g_idx", cols, group_size, groups_);
    read_parameters(stored, stem, rows, config.version_1());
    describe(
        *this, stored, stem, rows, cols,
        packed_scheme_name(bits_, settings.group_size < 0 ? 0 : group_size, settings.symmetric ? "s" : "z"));
  }

  void read_rows(const Checkpoint& stored, int64_t first, int64_t count, float* target) const override {
    const TensorInfo& weight = stored.info(packed_);
    const int64_t words = weight.shape[0], rows = weight.shape[1], cols = info.cols();
    std::vector<uint32_t> packed(static_cast<size_t>(words * count));
    for (int64_t w = 0; w < words; ++w)
      stored.read_bytes(weight, static_cast<uint64_t>(w * rows + first) * 4, static_cast<uint64_t>(count) * 4,
                        reinterpret_cast<std::byte*>(packed.data() + w * count));
    parallel_for(count, kRowsPerTask, [&](int64_t begin, int64_t end) {
      std::vector<uint32_t> row(static_cast<size_t>(words));
      for (int64_t r = begin; r < end; ++r) {
        for (int64_t w = 0; w < words; ++w) row[w] = packed[w * count + r];
        decode_packed_row(row.data(), bits_, columns_, scales_.data() + (first + r) * groups_,
                          zeros_.data() + (first + r) * groups_, target + r * cols);
      }
    });
  }

 private:
  void read_parameters(const Checkpoint& stored, const std::string& stem, int64_t rows, bool version_1) {
    const std::vector<float> scales = stored.read(stem + ".scales");
    const std::vector<uint32_t> packed = read_words(stored, stem + ".qzeros");
    const int64_t words = packed_words(rows, bits_);
    std::vector<uint8_t> codes(static_cast<size_t>(rows));
    scales_.resize(scales.size());
    zeros_.resize(scales.size());
    for (int64_t g = 0; g < groups_; ++g) {
      unpack_codes(packed.data() + g * words, rows, bits_, codes.data());
      for (int64_t r = 0; r < rows; ++r) {
        scales_[r * groups_ + g] = scales[g * rows + r];
        zeros_[r * groups_ + g] = static_cast<float>((codes[r] + (version_1 ? 1 : 0)) & ((1 << bits_) - 1));
      }
    }
  }

  int bits_;
  std::string packed_;
  int64_t groups_ = 0;
  std::vector<int32_t> columns_;
  std::vector<float> scales_, zeros_;  // [rows, groups]
};

}  // namespace

PackedMatrices gptq_matrices(const Checkpoint& stored, const Json& section, const std::string& where) {
  const Config config(section, where);
  PackedMatrices matrices;
  for (const TensorInfo& tensor : stored.tensors()) {
    const std::string stem = stem_of(tensor.name, ".qweight");
    if (!stem.empty()) matrices.push_back(std::make_unique<GptqMatrix>(stored, stem, config));
  }
  return matrices;
}

}  // namespace strata
