// Makes a checkpoint of Llama-3.1-8B's layer shape with heavy-tailed random fp16 weights, as large as asked
// for, to show that strata works on models larger than memory. The vocabulary has 8,192 tokens where no other
// number is given (Llama-3.1's has 128,256).
//
//   bench_checkpoint_synthetic DIRECTORY GIGABYTES [VOCABULARY]
#include <fmt/format.h>

#include <cmath>
#include <cstdlib>
#include <filesystem>

#include "strata/checkpoint/safetensors_writer.h"
#include "strata/core/error.h"
#include "strata/core/file.h"
#include "strata/core/json.h"
#include "strata/core/random.h"

namespace strata {
namespace {

constexpr int64_t kHidden = 4096, kFeedForward = 14336, kHeads = 32, kKvHeads = 8, kHeadDim = 128;

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

std::vector<PlannedTensor> planned_tensors(int64_t layers, int64_t vocabulary) {
  std::vector<PlannedTensor> tensors = {{"model.embed_tokens.weight", {vocabulary, kHidden}, DType::F16}};
  for (int64_t layer = 0; layer < layers; ++layer) {
    const auto add = [&](const char* name, std::vector<int64_t> shape) {
      tensors.push_back(
          {fmt::format("model.layers.{}.{}.weight", layer, name), std::move(shape), DType::F16});
    };
    add("input_layernorm", {kHidden});
    add("self_attn.q_proj", {kHeads * kHeadDim, kHidden});
    add("self_attn.k_proj", {kKvHeads * kHeadDim, kHidden});
    add("self_attn.v_proj", {kKvHeads * kHeadDim, kHidden});
    add("self_attn.o_proj", {kHidden, kHeads * kHeadDim});
    add("post_attention_layernorm", {kHidden});
    add("mlp.gate_proj", {kFeedForward, kHidden});
    add("mlp.up_proj", {kFeedForward, kHidden});
    add("mlp.down_proj", {kHidden, kFeedForward});
  }
  tensors.push_back({"model.norm.weight", {kHidden}, DType::F16});
  return tensors;
}

void make(const std::filesystem::path& directory, double gigabytes, int64_t vocabulary) {
  const double layer_bytes =
      2.0 * (2 * kHidden * kHidden + 2 * kKvHeads * kHeadDim * kHidden + 3 * kHidden * kFeedForward);
  const auto layers = static_cast<int64_t>(
      std::ceil((gigabytes * 1e9 - 2.0 * static_cast<double>(vocabulary * kHidden)) / layer_bytes));
  std::filesystem::create_directories(directory);
  write_json(directory / "config.json", {{"model_type", "llama"},
                                         {"architectures", {"LlamaForCausalLM"}},
                                         {"hidden_size", kHidden},
                                         {"intermediate_size", kFeedForward},
                                         {"num_hidden_layers", layers},
                                         {"num_attention_heads", kHeads},
                                         {"num_key_value_heads", kKvHeads},
                                         {"head_dim", kHeadDim},
                                         {"vocab_size", vocabulary},
                                         {"max_position_embeddings", 8192},
                                         {"rms_norm_eps", 1e-5},
                                         {"rope_theta", 500000.0},
                                         {"tie_word_embeddings", true},
                                         {"torch_dtype", "float16"}});
  const std::vector<PlannedTensor> tensors = planned_tensors(layers, vocabulary);
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

}  // namespace
}  // namespace strata

int main(int argc, char** argv) {
  const int64_t vocabulary = argc == 4 ? std::atoll(argv[3]) : 8192;
  if (argc < 3 || argc > 4 || std::atof(argv[2]) <= 0 || vocabulary <= 0) {
    fmt::print(stderr, "usage: bench_checkpoint_synthetic DIRECTORY GIGABYTES [VOCABULARY]\n");
    return 2;
  }
  try {
    strata::make(argv[1], std::atof(argv[2]), vocabulary);
  } catch (const strata::Error& error) {
    fmt::print(stderr, "{}\n", error.what());
    return 1;
  }
}
