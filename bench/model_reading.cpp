// Speed of reading: a whole text to tokens, and weights of each stored type to float.
//
//   bench_model_reading MODEL TEXT
//     MODEL a directory with a tokenizer, such as models/tiny-llama; prints processor seconds of the fastest
//     of several runs on one thread
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <ctime>
#include <filesystem>
#include <limits>

#include "strata/checkpoint/checkpoint.h"
#include "strata/checkpoint/safetensors_writer.h"
#include "strata/core/error.h"
#include "strata/core/file.h"
#include "strata/core/random.h"
#include "strata/tokenizer/tokenizer.h"

namespace {

using namespace strata;

template <class Action>
double fastest(int runs, Action action) {
  double best = std::numeric_limits<double>::infinity();
  for (int run = 0; run < runs; ++run) {
    const std::clock_t start = std::clock();
    action();
    best = std::min(best, static_cast<double>(std::clock() - start) / CLOCKS_PER_SEC);
  }
  return best;
}

void tokenize(const std::filesystem::path& model, const std::filesystem::path& file) {
  const std::string text = read_text(file);
  Vocabulary vocabulary;
  std::unique_ptr<Tokenizer> tokenizer;
  const double reading = fastest(5, [&] { vocabulary = read_vocabulary(model); });
  const double making = fastest(5, [&] { tokenizer = make_tokenizer(vocabulary); });
  size_t tokens = 0;
  const double encoding = fastest(10, [&] { tokens = tokenizer->encode(text).size(); });
  fmt::print("read the vocabulary of {} tokens {:.4f} s, build the tokenizer {:.4f} s\n",
             vocabulary.tokens.size(), reading, making);
  fmt::print("encode {} bytes to {} tokens {:.4f} s, {:.1f} MB/s\n", text.size(), tokens, encoding,
             static_cast<double>(text.size()) / encoding / 1e6);
}

void read_weights(DType type) {
  const int64_t rows = 4096, cols = 4096;
  const auto directory = std::filesystem::temp_directory_path() / fmt::format("strata-bench-{}", getpid());
  std::filesystem::create_directory(directory);
  std::vector<float> values(static_cast<size_t>(rows * cols));
  Random random(1);
  for (float& value : values) value = static_cast<float>(random.uniform() - 0.5);
  {
    SafetensorsWriter writer(directory, {{"weight", {rows, cols}, type}});
    writer.write(values.data(), rows * cols);
    writer.finish();
  }
  const auto checkpoint = open_safetensors(directory);
  const TensorInfo& tensor = checkpoint->info("weight");
  const double whole = fastest(5, [&] { checkpoint->read(tensor, values.data()); });
  const double pieces = fastest(5, [&] {
    for (int64_t row = 0; row < rows; row += 64) checkpoint->read_rows(tensor, row, 64, values.data());
  });
  fmt::print("read {} x {} {} at once {:.4f} s, {:.2f} G weights/s; 64 rows at a time {:.4f} s\n", rows, cols,
             name_of(type), whole, static_cast<double>(rows * cols) / whole / 1e9, pieces);
  remove_tree(directory);
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 3) {
    fmt::print(stderr, "usage: bench_model_reading MODEL TEXT\n");
    return 2;
  }
  try {
    tokenize(argv[1], argv[2]);
    for (const DType type : {DType::F32, DType::F16, DType::BF16}) read_weights(type);
  } catch (const Error& error) {
    fmt::print(stderr, "{}\n", error.what());
    return 1;
  }
}
