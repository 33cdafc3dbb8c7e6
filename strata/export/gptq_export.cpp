// GPTQ checkpoints, which GPTQModel, SGLang and vLLM load.
#include <algorithm>

#include <fmt/format.h>

#include "strata/core/bit_packing.h"
#include "strata/core/threads.h"
#include "strata/export/packed_format.h"

namespace strata {
namespace {

class Gptq final : public AffinePackedFormat {
 public:
  explicit Gptq(bool version_2) : version_2_(version_2) {}

  std::string affine_refusal(const AffineScheme& scheme, int64_t rows, int64_t cols) const override {
    if (!scheme.symmetric && !scheme.integer_zero)
      return "stores zero points as codes: choose a scheme that ends in z or s";
    if (scheme.bits != 2 && scheme.bits != 3 && scheme.bits != 4 && scheme.bits != 8)
      return fmt::format("holds 2, 3, 4 and 8 bits, not {}", scheme.bits);
    if (rows % 32 != 0 || cols % 32 != 0)
      return fmt::format("needs rows and columns in multiples of 32, not [{}, {}]", rows, cols);
    return common_refusal(scheme, cols);
  }

  std::vector<PackedTensor> affine_tensors(const AffineScheme& scheme, int64_t rows,
                                           int64_t cols) const override {
    const int64_t groups = scheme.group_size == 0 ? 1 : cols / scheme.group_size;
    return {{".qweight", DType::I32, {packed_words(cols, scheme.bits), rows}},
            {".qzeros", DType::I32, {groups, packed_words(rows, scheme.bits)}},
            {".scales", DType::F16, {groups, rows}},
            {".g_idx", DType::I32, {cols}}};
  }

  bool stores_otherwise() const override { return !version_2_; }

  // Version 1 stores a zero point less one, and its readers disagree about the one that would wrap around: a
  // group with zero point 0 (no negative weights) moves up by one code, which clips its largest one.
  void store_affine(AffineMatrix& matrix) const override {
    if (version_2_) return;
    const auto top = static_cast<uint8_t>((1 << matrix.scheme.bits) - 1);
    const int64_t groups = static_cast<int64_t>(matrix.scales.size()) / matrix.rows;
    for (int64_t r = 0; r < matrix.rows; ++r)
      for (int64_t k = 0; k < matrix.cols; ++k) {
        uint8_t& code = matrix.codes[static_cast<size_t>(r * matrix.cols + k)];
        if (matrix.zeros[static_cast<size_t>(r * groups + group_of(matrix, k, groups))] == 0 && code < top)
          ++code;
      }
    for (float& zero : matrix.zeros) zero = std::max(zero, 1.0f);
  }

  void pack_affine(const AffineMatrix& part, int64_t first_row, int64_t rows,
                   PackedBytes& bytes) const override {
    const int bits = part.scheme.bits;
    const int64_t groups = static_cast<int64_t>(part.scales.size()) / part.rows;
    pack_transposed(part, first_row, rows, values_of<uint32_t>(bytes[kCodes]));
    std::vector<uint8_t> zeros(static_cast<size_t>(part.rows));
    std::vector<float> scales(zeros.size());
    for (int64_t g = 0; g < groups; ++g) {
      for (int64_t r = 0; r < part.rows; ++r) {
        zeros[r] = static_cast<uint8_t>(part.zeros[r * groups + g] - (version_2_ ? 0 : 1));
        scales[r] = part.scales[r * groups + g];
      }
      pack_codes(zeros.data(), part.rows, bits,
                 values_of<uint32_t>(bytes[kZeros]) + (g * rows + first_row) * bits / 32);
      from_float(DType::F16, scales.data(), bytes[kScales].data() + (g * rows + first_row) * 2, part.rows);
    }
    for (int64_t k = 0; k < part.cols; ++k) values_of<int32_t>(bytes[kGroups])[k] = group_of(part, k, groups);
  }

  // The settings of most modules stand at the top; the others are rules, of which the first match wins.
  Json config_entries(const PackedModules& modules) const override {
    std::string most;
    for (const auto& [name, members] : modules.by_scheme)
      if (most.empty() || members.size() > modules.by_scheme.at(most).size()) most = name;
    Json section = settings(most.empty() ? AffineScheme{4, 128, true} : modules.schemes.at(most).affine);
    Json dynamic = Json::object();
    for (const auto& [name, members] : modules.by_scheme)
      for (const std::string& pattern : module_patterns(members, modules.layers, true, modules.experts))
        if (name != most) dynamic["+:" + pattern] = settings(modules.schemes.at(name).affine);
    for (const std::string& pattern : module_patterns(modules.kept, modules.layers, true, modules.experts))
      dynamic["-:" + pattern] = Json::object();
    section["quant_method"] = "gptq";
    section["checkpoint_format"] = version_2_ ? "gptq_v2" : "gptq";
    section["desc_act"] = modules.scattered_groups;
    section["lm_head"] = false;
    section["pack_dtype"] = "int32";
    if (!dynamic.empty()) section["dynamic"] = dynamic;
    return {{"quantization_config", section}};
  }

  bool holds_scattered_groups() const override { return true; }

 private:
  enum Part { kCodes, kZeros, kScales, kGroups };  // of affine_tensors(), in order

  static int32_t group_of(const AffineMatrix& matrix, int64_t column, int64_t groups) {
    if (!matrix.group_of_column.empty()) return matrix.group_of_column[static_cast<size_t>(column)];
    return static_cast<int32_t>(column * groups / matrix.cols);
  }

  static Json settings(const AffineScheme& scheme) {
    return {{"bits", scheme.bits},
            {"group_size", scheme.group_size == 0 ? -1 : scheme.group_size},
            {"sym", scheme.symmetric}};
  }

  // Words of packed rows become columns of qweight.
  static void pack_transposed(const AffineMatrix& part, int64_t first_row, int64_t rows, uint32_t* target) {
    constexpr int64_t kBlock = 32;
    const int64_t words = packed_words(part.cols, part.scheme.bits);
    parallel_for(part.rows, kBlock, [&](int64_t begin, int64_t end) {
      std::vector<uint32_t> block(static_cast<size_t>((end - begin) * words));
      for (int64_t r = begin; r < end; ++r)
        pack_codes(part.codes.data() + r * part.cols, part.cols, part.scheme.bits,
                   block.data() + (r - begin) * words);
      for (int64_t w = 0; w < words; ++w)
        for (int64_t r = begin; r < end; ++r)
          target[w * rows + first_row + r] = block[static_cast<size_t>((r - begin) * words + w)];
    });
  }

  bool version_2_;
};

}  // namespace

const PackedFormat& gptq_format(bool version_2) {
  static const Gptq first(false), second(true);
  return version_2 ? second : first;
}

}  // namespace strata
