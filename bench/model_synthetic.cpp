// Makes a checkpoint with heavy-tailed random fp16 weights, as large as asked for, of as many layers as that
// takes: of Llama-3.1-8B's shape, with 8,192 tokens in the vocabulary where no other number is given
// (Llama-3.1's has 128,256), or of the shape that a config.json describes.
//
//   bench_model_synthetic DIRECTORY GIGABYTES [VOCABULARY|CONFIG]
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <filesystem>

#include "strata/checkpoint/safetensors_writer.h"
#include "strata/core/error.h"
#include "strata/core/file.h"
#include "strata/core/json.h"
#include "strata/core/random.h"
#include "strata/model/config_json.h"
#include "strata/model/layout.h"

namespace strata {
namespace {

// Student's t with 5 degrees of freedom, scaled like trained weights; rows are cut out of one pool at random
// offsets.
class RowSource {
 public:
  RowSource() : pool_(int64_t{1} << 22) {
    for (float& value : pool_) {
      double squares = 0;
      for (int i = 0; i < 5; ++i) {
        const double x = random_.normal();
        squares += x * x;
      }
      value = static_cast<float>(0.02 * random_.normal() / std::sqrt(squares / 5));
    }
  }
  const float* row(int64_t length) {
    return &pool_[random_.below(pool_.size() - static_cast<size_t>(length))];
  }

 private:
  Random random_{1};
  std::vector<float> pool_;
};

Json llama_8b() {
  return {{"model_type", "llama"},
          {"architectures", {"LlamaForCausalLM"}},
          {"hidden_size", 4096},
          {"intermediate_size", 14336},
          {"num_attention_heads", 32},
          {"num_key_value_heads", 8},
          {"head_dim", 128},
          {"vocab_size", 8192},
          {"max_position_embeddings", 8192},
          {"rms_norm_eps", 1e-5},
          {"rope_theta", 500000.0},
          {"tie_word_embeddings", true},
          {"torch_dtype", "float16"}};
}

// Every tensor of a directory with this config and so many layers; experts each for themselves.
std::vector<PlannedTensor> planned_tensors(const std::filesystem::path& directory, Json config,
                                           int64_t layers) {
  config["num_hidden_layers"] = layers;
  write_json(directory / "config.json", config);
  std::vector<PlannedTensor> planned;
  for (const ExpectedTensor& tensor : expected_tensors(read_config(directory / "config.json"))) {
    if (tensor.experts == 0) {
      planned.push_back({tensor.name, tensor.shape, DType::F16});
      continue;
    }
    const std::string ending = ".weight", stack = tensor.name.substr(0, tensor.name.size() - ending.size());
    for (int64_t expert = 0; expert < tensor.experts; ++expert)
      planned.push_back({expert_name(stack, expert) + ending,
                         {tensor.shape[0] / tensor.experts, tensor.shape[1]},
                         DType::F16});
  }
  return planned;
}

double bytes_of(const std::vector<PlannedTensor>& tensors) {
  double bytes = 0;
  for (const PlannedTensor& tensor : tensors) {
    double count = 2;
    for (const int64_t length : tensor.shape) count *= static_cast<double>(length);
    bytes += count;
  }
  return bytes;
}

void make(const std::filesystem::path& directory, double gigabytes, const Json& config) {
  std::filesystem::create_directories(directory);
  const double one = bytes_of(planned_tensors(directory, config, 1)),
               layer = bytes_of(planned_tensors(directory, config, 2)) - one;
  const auto layers = std::max<int64_t>(1, std::llround(std::ceil((gigabytes * 1e9 - one) / layer)) + 1);
  const std::vector<PlannedTensor> tensors = planned_tensors(directory, config, layers);
  SafetensorsWriter writer(directory, tensors);
  RowSource source;
  for (const PlannedTensor& tensor : tensors) {
    if (tensor.shape.size() == 1) {
      const std::vector<float> ones(static_cast<size_t>(tensor.shape[0]), 1.0f);
      writer.write(ones.data(), tensor.shape[0]);
    } else {
      for (int64_t row = 0; row < tensor.shape[0]; ++row)
        writer.write(source.row(tensor.shape[1]), tensor.shape[1]);
    }
  }
  writer.finish();
  fmt::print("{}: {} layers\n", directory.string(), layers);
}

int run(int count, char** arguments) {
  if (count < 3 || count > 4 || std::atof(arguments[2]) <= 0) {
    fmt::print(stderr, "usage: bench_model_synthetic DIRECTORY GIGABYTES [VOCABULARY|CONFIG]\n");
    return 2;
  }
  Json config = llama_8b();
  if (count == 4 && std::filesystem::exists(arguments[3]))
    config = read_json(arguments[3]);
  else if (count == 4)
    config["vocab_size"] = std::atoll(arguments[3]);
  make(arguments[1], std::atof(arguments[2]), config);
  return 0;
}

}  // namespace
}  // namespace strata

int main(int argc, char** argv) {
  try {
    return strata::run(argc, argv);
  } catch (const strata::Error& error) {
    fmt::print(stderr, "{}\n", error.what());
    return 1;
  }
}
