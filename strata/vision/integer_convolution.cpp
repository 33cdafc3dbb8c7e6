#include "strata/vision/integer_convolution.h"

#include <algorithm>
#include <cstring>

#include "strata/vision/rounding.h"

#if defined(__x86_64__)
#include <immintrin.h>
#define STRATA_VNNI __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")))
#endif

namespace strata::vision {
namespace {

constexpr int64_t kLanes = 16;     // outputs in a register
constexpr int64_t kQuad = 4;       // channels that one instruction sums
constexpr int64_t kPixels = 8;     // of a tile
constexpr int64_t kRegisters = 2;  // of outputs in a tile

int64_t rounded_up(int64_t value, int64_t step) {
  return (value + step - 1) / step * step;
}

// Maps as codes, with their borders: [N, height, width, channels], channels a multiple of four.
struct CodedMaps {
  int64_t height = 0, width = 0, channels = 0;
  std::vector<uint8_t> codes;

  const uint8_t* at(int64_t image, int64_t y, int64_t x) const {
    return codes.data() + ((image * height + y) * width + x) * channels;
  }
};

#if defined(__x86_64__)

// What is no number becomes the lowest code.
STRATA_VNNI void round_to_codes(const float* values, int64_t count, const ActivationCode& code,
                                uint8_t* codes) {
  const float step = code.scale, zero = static_cast<float>(code.zero_point);
  const float highest = static_cast<float>((1 << code.bits) - 1) - zero;
  for (int64_t i = 0; i < count; ++i)
    codes[i] = static_cast<uint8_t>(
        static_cast<int32_t>(nearest(std::min(std::max(-zero, values[i] / step), highest)) + zero));
}

CodedMaps code_maps(const at::Tensor& given, const ActivationCode& code, const std::vector<int64_t>& pads) {
  const at::Tensor maps = given.contiguous(at::MemoryFormat::ChannelsLast);
  const int64_t images = maps.size(0), channels = maps.size(1), height = maps.size(2), width = maps.size(3);
  CodedMaps coded{height + pads[0] + pads[2], width + pads[1] + pads[3], rounded_up(channels, kQuad), {}};
  coded.codes.assign(static_cast<size_t>(images * coded.height * coded.width * coded.channels),
                     static_cast<uint8_t>(code.zero_point));
  const float* values = maps.data_ptr<float>();
  const int64_t run = coded.channels == channels ? width : 1;  // pixels that lie together on both sides
  for (int64_t n = 0; n < images; ++n)
    for (int64_t y = 0; y < height; ++y)
      for (int64_t x = 0; x < width; x += run, values += run * channels)
        round_to_codes(values, run * channels, code,
                       const_cast<uint8_t*>(coded.at(n, y + pads[0], x + pads[1])));
  return coded;
}

// Of up to `registers` * 16 outputs: the part of the packed weights, and what belongs to each output.
struct OutputBlock {
  const int8_t* weights;
  const float *factors, *bias;
  const int32_t* corrections;
  __mmask16 last;  // outputs of the last register
};

constexpr auto kAll = static_cast<__mmask16>(-1);

// kPixels pixels, of which `count` are written, from the first place of their windows on.
template <int registers>
STRATA_VNNI void compute_tile(const uint8_t* const* pixels, int64_t count, const std::vector<int64_t>& places,
                              int64_t quads, const OutputBlock& block, float* to, int64_t outputs) {
  __m512i sums[kPixels][registers];
  for (int p = 0; p < kPixels; ++p)
    for (int r = 0; r < registers; ++r) sums[p][r] = _mm512_loadu_si512(block.corrections + r * kLanes);
  const int8_t* weights = block.weights;
  for (const int64_t place : places)
    for (int64_t q = 0; q < quads; ++q, weights += registers * kLanes * kQuad) {
      __m512i factors[registers];
      for (int r = 0; r < registers; ++r) factors[r] = _mm512_loadu_si512(weights + r * kLanes * kQuad);
      for (int p = 0; p < kPixels; ++p) {
        int32_t four;
        std::memcpy(&four, pixels[p] + place + q * kQuad, sizeof four);
        const __m512i codes = _mm512_set1_epi32(four);
        for (int r = 0; r < registers; ++r) sums[p][r] = _mm512_dpbusd_epi32(sums[p][r], codes, factors[r]);
      }
    }
  for (int64_t p = 0; p < count; ++p)
    for (int r = 0; r < registers; ++r) {
      const __m512 scaled = _mm512_mul_ps(_mm512_maskz_cvtepi32_ps(kAll, sums[p][r]),
                                          _mm512_loadu_ps(block.factors + r * kLanes));
      const __m512 result = _mm512_add_ps(scaled, _mm512_loadu_ps(block.bias + r * kLanes));
      const __mmask16 wanted = r == registers - 1 ? block.last : kAll;
      _mm512_mask_storeu_ps(to + p * outputs + r * kLanes, wanted, result);
    }
}

#endif

// Outputs that are computed together from `first` on.
int64_t block_size(int64_t outputs, int64_t first) {
  return outputs - first > kLanes ? kRegisters * kLanes : kLanes;
}

}  // namespace

bool multiplies_bytes() {
#if defined(__x86_64__)
  __builtin_cpu_init();
  return __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
         __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512vnni");
#else
  return false;
#endif
}

PackedWeights pack_weights(const WeightCodes& weights) {
  const at::Tensor codes = weights.codes.permute({0, 2, 3, 1}).contiguous();  // channels last
  PackedWeights packed;
  packed.outputs = codes.size(0), packed.channels = codes.size(3);
  packed.scales = weights.scales;
  const int64_t places = codes.size(1) * codes.size(2), quads = rounded_up(packed.channels, kQuad) / kQuad;
  const int8_t* from = codes.data_ptr<int8_t>();
  for (int64_t first = 0; first < packed.outputs; first += block_size(packed.outputs, first))
    for (int64_t place = 0; place < places; ++place)
      for (int64_t q = 0; q < quads; ++q)
        for (int64_t o = first; o < first + block_size(packed.outputs, first); ++o)
          for (int64_t c = q * kQuad; c < (q + 1) * kQuad; ++c)
            packed.codes.push_back(o < packed.outputs && c < packed.channels
                                       ? from[(o * places + place) * packed.channels + c]
                                       : int8_t{0});
  for (int64_t o = 0; o < packed.outputs; ++o) {
    int32_t sum = 0;
    for (int64_t i = 0; i < places * packed.channels; ++i) sum += from[o * places * packed.channels + i];
    packed.sums.push_back(sum);
  }
  return packed;
}

at::Tensor integer_convolution(const at::Tensor& maps, const ActivationCode& code,
                               const PackedWeights& weights, const at::Tensor& bias, const Window& window) {
#if defined(__x86_64__)
  const std::vector<int64_t> pads = window.pads_for(maps);
  const CodedMaps coded = code_maps(maps, code, pads);
  const auto places_along = [&](size_t d, int64_t size) {
    return (size - (window.kernel[d] - 1) * window.dilations[d] - 1) / window.strides[d] + 1;
  };
  const int64_t rows = places_along(0, coded.height), columns = places_along(1, coded.width);
  const int64_t outputs = weights.outputs, pixels = maps.size(0) * rows * columns;
  at::Tensor result =
      at::empty({maps.size(0), outputs, rows, columns}, maps.options(), at::MemoryFormat::ChannelsLast);
  auto* target = result.data_ptr<float>();

  std::vector<const uint8_t*> starts;  // of the window for every pixel, the last one again to fill a tile
  for (int64_t n = 0; n < maps.size(0); ++n)
    for (int64_t y = 0; y < rows; ++y)
      for (int64_t x = 0; x < columns; ++x)
        starts.push_back(coded.at(n, y * window.strides[0], x * window.strides[1]));
  starts.insert(starts.end(), kPixels - 1, starts.back());
  std::vector<int64_t> places;  // of the window, from its first
  for (int64_t y = 0; y < window.kernel[0]; ++y)
    for (int64_t x = 0; x < window.kernel[1]; ++x)
      places.push_back((y * window.dilations[0] * coded.width + x * window.dilations[1]) * coded.channels);
  // value = step * scale * (sum of codes * weights - zero point * sum of weights) + bias
  const auto padded = static_cast<size_t>(rounded_up(outputs, kRegisters * kLanes));
  std::vector<float> factors(padded, 0.0f), biases(padded, 0.0f);
  std::vector<int32_t> corrections(padded, 0);
  for (size_t o = 0; o < static_cast<size_t>(outputs); ++o) {
    factors[o] = code.scale * weights.scales[o];
    corrections[o] = -code.zero_point * weights.sums[o];
  }
  if (bias.defined()) std::copy_n(bias.data_ptr<float>(), outputs, biases.data());

  const int64_t quads = coded.channels / kQuad;
  const int8_t* packed = weights.codes.data();
  for (int64_t first = 0; first < outputs; first += block_size(outputs, first)) {
    const int64_t size = block_size(outputs, first), wanted = std::min(size, outputs - first);
    const auto last = static_cast<__mmask16>((1u << (wanted - (wanted - 1) / kLanes * kLanes)) - 1);
    const OutputBlock block{packed, &factors[static_cast<size_t>(first)], &biases[static_cast<size_t>(first)],
                            &corrections[static_cast<size_t>(first)], last};
    for (int64_t pixel = 0; pixel < pixels; pixel += kPixels) {
      const auto compute = size == kLanes ? compute_tile<1> : compute_tile<kRegisters>;
      compute(&starts[static_cast<size_t>(pixel)], std::min(kPixels, pixels - pixel), places, quads, block,
              target + pixel * outputs + first, outputs);
    }
    packed += static_cast<int64_t>(places.size()) * quads * kQuad * size;
  }
  return result;
#else
  return at::Tensor();
#endif
}

}  // namespace strata::vision
