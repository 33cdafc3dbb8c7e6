// Speed and error of the GGUF encoders on one core.
//
//   bench_gguf_codec
//     a table over all types, on Gaussian rows of 4096, and how fast `strata verify` looks through their
//     blocks
//   bench_gguf_codec TYPE COLS ROWS.f32 BLOCKS.bin [IMPORTANCE.f32]
//     encodes raw floats, writes the blocks and prints the processor seconds of the fastest of several runs
//     (ggml_encoders.py compares them with ggml's)
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <ctime>
#include <fstream>
#include <limits>
#include <string>
#include <vector>

#include "strata/core/error.h"
#include "strata/core/random.h"
#include "strata/core/threads.h"
#include "strata/gguf/codec.h"

namespace {

using strata::GgufType;

std::vector<float> read_floats(const std::string& path) {
  std::ifstream file(path, std::ios::binary | std::ios::ate);
  if (!file) strata::fail("{} cannot be read", path);
  std::vector<float> values(static_cast<size_t>(file.tellg()) / sizeof(float));
  file.seekg(0);
  file.read(reinterpret_cast<char*>(values.data()),
            static_cast<std::streamsize>(values.size() * sizeof(float)));
  return values;
}

struct Rows {
  std::vector<float> weights, importance;
  int64_t cols;

  int64_t rows() const { return static_cast<int64_t>(weights.size()) / cols; }
};

Rows gaussian_rows() {
  Rows rows{std::vector<float>(64 * 4096), {}, 4096};
  strata::Random random(1);
  for (float& w : rows.weights) w = static_cast<float>(random.normal());
  return rows;
}

// Encodes on one thread; the seconds of the fastest run.
double encode(GgufType type, const Rows& rows, std::vector<std::byte>& blocks) {
  blocks.resize(static_cast<size_t>(rows.rows() * strata::row_bytes(type, rows.cols)));
  const float* importance = rows.importance.empty() ? nullptr : rows.importance.data();
  double fastest = std::numeric_limits<double>::infinity(), spent = 0;
  for (int run = 0; run < 3 || (spent < 0.4 && run < 50); ++run) {
    const std::clock_t start = std::clock();  // processor time: other programs may be running
    strata::encode_gguf(type, rows.weights.data(), rows.rows(), rows.cols, importance, blocks.data());
    const double seconds = static_cast<double>(std::clock() - start) / CLOCKS_PER_SEC;
    fastest = std::min(fastest, seconds);
    spent += seconds;
  }
  return fastest;
}

// GB/s at which the blocks are seen to hold finite numbers, from more memory than caches hold.
double look_through(GgufType type, const std::vector<std::byte>& blocks, int64_t weights) {
  constexpr size_t kBytes = size_t{1} << 29;
  std::vector<std::byte> many;
  const size_t copies = kBytes / blocks.size();
  for (size_t i = 0; i < copies; ++i) many.insert(many.end(), blocks.begin(), blocks.end());
  double fastest = std::numeric_limits<double>::infinity();
  for (int run = 0; run < 3; ++run) {
    const std::clock_t start = std::clock();
    if (!strata::is_finite_gguf(type, many.data(), weights * static_cast<int64_t>(copies)))
      strata::fail("blocks of Gaussian weights are not finite");
    fastest = std::min(fastest, static_cast<double>(std::clock() - start) / CLOCKS_PER_SEC);
  }
  return static_cast<double>(many.size()) / fastest * 1e-9;
}

void print_table() {
  const Rows rows = gaussian_rows();
  fmt::print("{:8} {:>16} {:>10} {:>16}\n", "type", "million weights/s", "RMSE", "verified GB/s");
  for (const strata::GgufTypeTraits& traits : strata::gguf_types()) {
    std::vector<std::byte> blocks;
    const double seconds = encode(traits.type, rows, blocks);
    std::vector<float> decoded(rows.weights.size());
    strata::decode_gguf(traits.type, blocks.data(), static_cast<int64_t>(decoded.size()), decoded.data());
    double error = 0;
    for (size_t i = 0; i < decoded.size(); ++i) error += std::pow(double(decoded[i]) - rows.weights[i], 2);
    const double count = static_cast<double>(decoded.size());
    fmt::print("{:8} {:16.1f} {:10.6f} {:16.1f}\n", traits.name, count / seconds * 1e-6,
               std::sqrt(error / count), look_through(traits.type, blocks, static_cast<int64_t>(count)));
  }
}

void encode_file(int count, char** arguments) {
  Rows rows{read_floats(arguments[3]), {}, std::stoll(arguments[2])};
  if (count > 5) rows.importance = read_floats(arguments[5]);
  std::vector<std::byte> blocks;
  const double seconds = encode(strata::parse_gguf_type(arguments[1]), rows, blocks);
  std::ofstream(arguments[4], std::ios::binary)
      .write(reinterpret_cast<const char*>(blocks.data()), static_cast<std::streamsize>(blocks.size()));
  fmt::print("{}\n", seconds);
}

}  // namespace

int main(int count, char** arguments) {
  strata::set_thread_count(1);
  try {
    if (count == 5 || count == 6)
      encode_file(count, arguments);
    else
      print_table();
  } catch (const std::exception& error) {
    fmt::print(stderr, "{}\n", error.what());
    return 1;
  }
  return 0;
}
