// MLX affine quantization, which mlx-lm and LM Studio load.
#include <algorithm>
#include <cmath>

#include <fmt/format.h>

#include "strata/checkpoint/mlx_names.h"
#include "strata/core/bit_packing.h"
#include "strata/export/packed_format.h"

namespace strata {
namespace {

constexpr float kLargestHalf = 65504;

// The bias w = scale q + bias that a zero point amounts to, as stored.
float stored_bias(float scale, float zero) {
  return half_to_float(float_to_half(std::clamp(-scale * zero, -kLargestHalf, kLargestHalf)));
}

class Mlx final : public AffinePackedFormat {
 public:
  std::string affine_refusal(const AffineScheme& scheme, int64_t, int64_t cols) const override {
    if (scheme.symmetric || scheme.integer_zero)
      return "stores a scale and a bias for every group: choose a scheme without s or z";
    if (scheme.bits == 7) return "holds 2, 3, 4, 5, 6 and 8 bits, not 7";
    if (scheme.group_size == 0) return "holds groups of 32, 64 and 128, not whole rows";
    return common_refusal(scheme, cols);
  }

  std::vector<PackedTensor> affine_tensors(const AffineScheme& scheme, int64_t rows,
                                           int64_t cols) const override {
    return {{".weight", DType::U32, {rows, packed_words(cols, scheme.bits)}},
            {".scales", DType::F16, {rows, cols / scheme.group_size}},
            {".biases", DType::F16, {rows, cols / scheme.group_size}}};
  }

  bool stores_otherwise() const override { return true; }

  bool stacks_experts() const override { return true; }
  std::string name_of(const Model& model, const std::string& module) const override {
    return mlx_name(module, mlx_experts_of(model));
  }

  // The bias is rounded to fp16 once more.
  void store_affine(AffineMatrix& matrix) const override {
    for (size_t g = 0; g < matrix.scales.size(); ++g)
      if (matrix.scales[g] != 0)
        matrix.zeros[g] = -stored_bias(matrix.scales[g], matrix.zeros[g]) / matrix.scales[g];
  }

  void pack_affine(const AffineMatrix& part, int64_t first_row, int64_t, PackedBytes& bytes) const override {
    const int bits = part.scheme.bits;
    const int64_t words = packed_words(part.cols, bits);
    for (int64_t r = 0; r < part.rows; ++r)
      pack_codes(part.codes.data() + r * part.cols, part.cols, bits,
                 values_of<uint32_t>(bytes[kCodes]) + (first_row + r) * words);
    const auto count = static_cast<int64_t>(part.scales.size());
    const int64_t first_group = first_row * (count / part.rows);
    std::vector<float> biases(part.scales.size());
    for (size_t g = 0; g < biases.size(); ++g) biases[g] = stored_bias(part.scales[g], part.zeros[g]);
    from_float(DType::F16, part.scales.data(), bytes[kScales].data() + first_group * 2, count);
    from_float(DType::F16, biases.data(), bytes[kBiases].data() + first_group * 2, count);
  }

  // Settings of most modules at the top, and an entry for every packed module. mlx-lm reads "quantization",
  // transformers and others look for "quantization_config".
  Json config_entries(const PackedModules& modules) const override {
    std::string most;
    for (const auto& [name, members] : modules.by_scheme)
      if (most.empty() || members.size() > modules.by_scheme.at(most).size()) most = name;
    Json section = settings(most.empty() ? AffineScheme{} : modules.schemes.at(most).affine);
    for (const auto& [name, members] : modules.by_scheme)
      for (const LayerModule& module : members)
        section[path_of(modules, module)] = settings(modules.schemes.at(name).affine);
    for (const auto& [tensor, matrix] : modules.beside_layers)
      section[stem_of(tensor)] = settings(matrix.scheme.affine);
    for (const LayerModule& module : modules.kept) section[path_of(modules, module)] = false;
    return {{"quantization", section}, {"quantization_config", section}};
  }

  std::map<std::string, std::string> metadata() const override { return {{"format", "mlx"}}; }

 private:
  enum Part { kCodes, kScales, kBiases };  // of affine_tensors(), in order

  static std::string stem_of(const std::string& tensor) { return tensor.substr(0, tensor.rfind('.')); }

  static std::string path_of(const PackedModules& modules, const LayerModule& module) {
    return mlx_name(fmt::format("{}{}.{}", modules.prefix, module.layer, module.name), modules.mlx_experts);
  }

  static Json settings(const AffineScheme& scheme) {
    return {{"group_size", scheme.group_size}, {"bits", scheme.bits}};
  }
};

}  // namespace

const PackedFormat& mlx_format() {
  static const Mlx format;
  return format;
}

}  // namespace strata
