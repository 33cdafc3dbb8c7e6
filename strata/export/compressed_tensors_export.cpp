// compressed-tensors `pack-quantized`, which vLLM, SGLang and transformers load.
#include <cstring>

#include "strata/core/bit_packing.h"
#include "strata/export/packed_format.h"

namespace strata {
namespace {

class CompressedTensors final : public AffinePackedFormat {
 public:
  std::string affine_refusal(const AffineScheme& scheme, int64_t, int64_t cols) const override {
    if (!scheme.symmetric && !scheme.integer_zero)
      return "stores zero points as codes: choose a scheme that ends in z or s";
    return common_refusal(scheme, cols);
  }

  std::vector<PackedTensor> affine_tensors(const AffineScheme& scheme, int64_t rows,
                                           int64_t cols) const override {
    const int64_t groups = scheme.group_size == 0 ? 1 : cols / scheme.group_size;
    std::vector<PackedTensor> parts = {
        {".weight_packed", DType::I32, {rows, packed_words(cols, scheme.bits)}},
        {".weight_scale", DType::F16, {rows, groups}},
        {".weight_shape", DType::I64, {2}}};
    if (!scheme.symmetric)
      parts.push_back({".weight_zero_point", DType::I32, {packed_words(rows, scheme.bits), groups}});
    return parts;
  }

  void store_affine(AffineMatrix&) const override {}

  // Unsigned codes and zero points are what the format's signed ones become when it adds 2^(b-1) to pack
  // them.
  void pack_affine(const AffineMatrix& part, int64_t first_row, int64_t rows,
                   PackedBytes& bytes) const override {
    const int bits = part.scheme.bits;
    const int64_t words = packed_words(part.cols, bits);
    const int64_t groups = static_cast<int64_t>(part.scales.size()) / part.rows;
    for (int64_t r = 0; r < part.rows; ++r)
      pack_codes(part.codes.data() + r * part.cols, part.cols, bits,
                 values_of<uint32_t>(bytes[kCodes]) + (first_row + r) * words);
    from_float(DType::F16, part.scales.data(), bytes[kScales].data() + first_row * groups * 2,
               static_cast<int64_t>(part.scales.size()));
    const int64_t shape[2] = {rows, part.cols};
    std::memcpy(bytes[kShape].data(), shape, sizeof(shape));
    if (!part.scheme.symmetric) pack_zeros(part, first_row, groups, bytes[kZeros]);
  }

  Json config_entries(const PackedModules& modules) const override {
    Json groups = Json::object();
    for (const auto& [name, members] : modules.by_scheme) {
      const AffineScheme& scheme = modules.schemes.at(name).affine;
      Json targets = Json::array();
      for (const std::string& pattern : module_patterns(members, modules.layers, false, modules.experts))
        targets.push_back("re:" + pattern);
      groups["group_" + std::to_string(groups.size())] = {
          {"targets", targets},
          {"weights",
           {{"num_bits", scheme.bits},
            {"type", "int"},
            {"symmetric", scheme.symmetric},
            {"strategy", scheme.group_size == 0 ? "channel" : "group"},
            {"group_size", scheme.group_size == 0 ? Json(nullptr) : Json(scheme.group_size)},
            {"dynamic", false}}},
          {"input_activations", nullptr},
          {"output_activations", nullptr}};
    }
    Json ignore = Json::array({"lm_head"});
    for (const std::string& pattern : module_patterns(modules.kept, modules.layers, false, modules.experts))
      ignore.push_back("re:" + pattern);
    return {{"quantization_config",
             {{"quant_method", "compressed-tensors"},
              {"format", "pack-quantized"},
              {"quantization_status", "compressed"},
              {"config_groups", groups},
              {"ignore", ignore}}}};
  }

 private:
  enum Part { kCodes, kScales, kShape, kZeros };  // of affine_tensors(), in order

  // Packed down the rows: word w of a group holds the zero points of rows from 32 w / b on.
  static void pack_zeros(const AffineMatrix& part, int64_t first_row, int64_t groups,
                         std::vector<std::byte>& bytes) {
    const int bits = part.scheme.bits;
    std::vector<uint8_t> column(static_cast<size_t>(part.rows));
    std::vector<uint32_t> words(static_cast<size_t>(packed_words(part.rows, bits)));
    const int64_t first_word = first_row * bits / 32;
    for (int64_t g = 0; g < groups; ++g) {
      for (int64_t r = 0; r < part.rows; ++r) column[r] = static_cast<uint8_t>(part.zeros[r * groups + g]);
      pack_codes(column.data(), part.rows, bits, words.data());
      for (size_t w = 0; w < words.size(); ++w)
        values_of<uint32_t>(bytes)[(first_word + static_cast<int64_t>(w)) * groups + g] = words[w];
    }
  }
};

}  // namespace

const PackedFormat& compressed_tensors_format() {
  static const CompressedTensors format;
  return format;
}

}  // namespace strata
