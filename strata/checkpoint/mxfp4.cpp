// MXFP4 of gpt-oss (OCP Microscaling Formats 1.0): NAME_blocks U8 [..., groups, 16] and NAME_scales U8 [...,
// groups] are the tensor NAME [..., 32 groups]. A byte is two codes, the first in its low half, of a sign,
// two bits of exponent and one of mantissa; a scale is the exponent of a power of two, plus 127.
#include <array>
#include <cmath>

#include <fmt/ranges.h>

#include "strata/checkpoint/packed_checkpoint.h"
#include "strata/core/error.h"
#include "strata/core/text.h"

namespace strata {
namespace {

constexpr int64_t kGroup = 32, kBytes = kGroup / 2;
const std::string kBlocks = "_blocks", kScales = "_scales";

constexpr std::array<float, 16> kValues = {0,     0.5f,  1,  1.5f,  2,  3,  4,  6,
                                           -0.0f, -0.5f, -1, -1.5f, -2, -3, -4, -6};

class Mxfp4Matrix : public PackedMatrix {
 public:
  Mxfp4Matrix(const Checkpoint& stored, const TensorInfo& blocks) {
    info.name = blocks.name.substr(0, blocks.name.size() - kBlocks.size());
    const TensorInfo& scales = stored.info(info.name + kScales);
    std::vector<int64_t> groups = blocks.shape;
    if (groups.size() < 3 || groups.back() != kBytes || blocks.type != "U8")
      fail("{}: the tensor {} is {} of shape [{}], but MXFP4 has bytes in groups of {}",
           stored.path().string(), printable(blocks.name), blocks.type, fmt::join(blocks.shape, ", "),
           kBytes);
    groups.pop_back();
    if (scales.shape != groups || scales.type != "U8")
      fail("{}: the tensor {} is {} of shape [{}], but its blocks ask for U8 of [{}]", stored.path().string(),
           printable(scales.name), scales.type, fmt::join(scales.shape, ", "), fmt::join(groups, ", "));
    info.shape = groups;
    info.shape.back() *= kGroup;
    info.type = "MXFP4";
    info.bytes = blocks.bytes + scales.bytes;
    parts = {blocks.name, scales.name};
  }

  void read_rows(const Checkpoint& stored, int64_t first, int64_t count, float* target) const override {
    const auto groups = static_cast<uint64_t>(info.cols() / kGroup);
    const auto read = [&](size_t part, uint64_t of_group) {
      std::vector<std::byte> bytes(static_cast<uint64_t>(count) * groups * of_group);
      stored.read_bytes(stored.info(parts[part]), static_cast<uint64_t>(first) * groups * of_group,
                        bytes.size(), bytes.data());
      return bytes;
    };
    const std::vector<std::byte> blocks = read(0, kBytes), scales = read(1, 1);
    for (size_t group = 0; group < scales.size(); ++group) {
      const float scale = std::ldexp(1.0f, static_cast<int>(scales[group]) - 127);
      for (size_t i = 0; i < kBytes; ++i) {
        const auto codes = static_cast<unsigned>(blocks[group * kBytes + i]);
        *target++ = scale * kValues[codes & 15];
        *target++ = scale * kValues[codes >> 4];
      }
    }
  }
};

}  // namespace

PackedMatrices mxfp4_matrices(const Checkpoint& stored) {
  PackedMatrices matrices;
  for (const TensorInfo& tensor : stored.tensors()) {
    const size_t ending = tensor.name.rfind(kBlocks);
    if (ending != std::string::npos && ending + kBlocks.size() == tensor.name.size())
      matrices.push_back(std::make_unique<Mxfp4Matrix>(stored, tensor));
  }
  return matrices;
}

}  // namespace strata
