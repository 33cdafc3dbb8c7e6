// MLX affine quantization: codes packed along a row, w = scale q + bias.
#include "strata/checkpoint/mlx_names.h"
#include "strata/checkpoint/packed_groups.h"
#include "strata/core/bit_packing.h"
#include "strata/core/error.h"
#include "strata/core/text.h"
#include "strata/core/threads.h"

namespace strata {
namespace {

struct MlxSettings {
  int bits = 0;
  int64_t group_size = 0;
};

MlxSettings read_settings(const Json& section, const std::string& where) {
  if (const auto mode = section.find("mode"); mode != section.end() && *mode != "affine")
    fail("{}: the quantization's mode is {}; affine was expected", where,
         printable(mode->dump(-1, ' ', true, Json::error_handler_t::replace)));
  return {static_cast<int>(packed_integer(section, "bits", 2, 8, where)),
          packed_integer(section, "group_size", 8, 1 << 20, where)};
}

// A module may have settings of its own in the section.
MlxSettings settings_of(const Json& section, const std::string& module, const std::string& where) {
  const auto own = section.find(module);
  return read_settings(own != section.end() && own->is_object() ? *own : section, where);
}

class MlxMatrix final : public PackedMatrix {
 public:
  MlxMatrix(const Checkpoint& stored, const std::string& stem, const MlxSettings& settings)
      : bits_(settings.bits), group_size_(settings.group_size), packed_(stem + ".weight") {
    parts = {packed_, stem + ".scales", stem + ".biases"};
    const TensorInfo& weight = stored.info(packed_);
    const TensorInfo& scale = stored.info(stem + ".scales");
    const int64_t rows = weight.rows(), cols = scale.cols() * group_size_;
    words_ = packed_words(cols, bits_);
    // Of experts the matrices of all of them one below the other.
    const auto shape = [&](int64_t last) {
      std::vector<int64_t> expected = weight.shape;
      expected.back() = last;
      return expected;
    };
    part_of_shape(stored, packed_, shape(words_));
    part_of_shape(stored, scale.name, shape(scale.cols()));
    part_of_shape(stored, stem + ".biases", shape(scale.cols()));
    describe(*this, stored, name_of_mlx(stem), rows, cols, packed_scheme_name(bits_, group_size_, ""));
  }

  void read_rows(const Checkpoint& stored, int64_t first, int64_t count, float* target) const override {
    const int64_t cols = info.cols(), groups = cols / group_size_;
    std::vector<uint32_t> words(static_cast<size_t>(count * words_));
    const uint64_t row_bytes = static_cast<uint64_t>(words_) * 4;
    stored.read_bytes(stored.info(packed_), static_cast<uint64_t>(first) * row_bytes,
                      static_cast<uint64_t>(count) * row_bytes, reinterpret_cast<std::byte*>(words.data()));
    std::vector<float> scales(static_cast<size_t>(count * groups)), biases(scales.size());
    stored.read_rows(stored.info(parts[1]), first, count, scales.data());
    stored.read_rows(stored.info(parts[2]), first, count, biases.data());
    parallel_for(count, kRowsPerTask, [&](int64_t begin, int64_t end) {
      std::vector<uint8_t> codes(static_cast<size_t>(cols));
      for (int64_t r = begin; r < end; ++r) {
        unpack_codes(words.data() + r * words_, cols, bits_, codes.data());
        for (int64_t k = 0; k < cols; ++k) {
          const int64_t group = r * groups + k / group_size_;
          target[r * cols + k] = scales[group] * static_cast<float>(codes[k]) + biases[group];
        }
      }
    });
  }

 private:
  int bits_;
  int64_t group_size_;
  std::string packed_;
  int64_t words_ = 0;
};

}  // namespace

PackedMatrices mlx_matrices(const Checkpoint& stored, const Json& section, const std::string& where) {
  PackedMatrices matrices;
  for (const TensorInfo& tensor : stored.tensors()) {
    const std::string stem = stem_of(tensor.name, ".scales");
    if (stem.empty()) continue;
    if (!stored.contains(stem + ".weight"))
      fail("{} has {} but no {}.weight", stored.path().string(), printable(tensor.name), printable(stem));
    matrices.push_back(std::make_unique<MlxMatrix>(stored, stem, settings_of(section, stem, where)));
  }
  return matrices;
}

}  // namespace strata
