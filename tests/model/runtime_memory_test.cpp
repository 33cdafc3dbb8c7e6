#include "strata/model/runtime_memory.h"

#include <gtest/gtest.h>

namespace strata {
namespace {

constexpr uint64_t kMib = 1024 * 1024;

ModelConfig llama_3_8b() {
  ModelConfig config;
  config.hidden_size = 4096;
  config.intermediate_size = 14336;
  config.num_layers = 32;
  config.num_heads = 32;
  config.num_kv_heads = 8;
  config.head_dim = 128;
  config.vocab_size = 128256;
  return config;
}

// llama.cpp prints for it: 1024.00 MiB of keys and values for 8192 tokens, and compute buffers of 258.50 MiB
// on the device and 24.01 MiB beside it.
TEST(RuntimeMemory, IsLittleMoreThanLlamaCppPrintsForLlama3) {
  const RuntimeMemory memory = llama_cpp_memory(llama_3_8b(), 8192, 16);
  EXPECT_EQ(memory.cache, 1024 * kMib);
  EXPECT_EQ(memory.state, 0u);
  EXPECT_GT(memory.buffers, 282 * kMib);
  EXPECT_LT(memory.buffers, 310 * kMib);
  EXPECT_EQ(llama_cpp_memory(llama_3_8b(), 8192, 8.5).cache, 544 * kMib);  // q8_0
}

TEST(RuntimeMemory, OfLayersThatSlideIsTheirWindowAndABatch) {
  ModelConfig config = llama_3_8b();
  config.sliding_window = 1024;
  config.sliding_layers.assign(32, true);
  config.sliding_layers[31] = false;
  const uint64_t one = 2 * 8 * 128 * 2;  // bytes of a token in a layer
  EXPECT_EQ(llama_cpp_memory(config, 8192, 16).cache, 31 * 1536 * one + 8192 * one);
  EXPECT_EQ(llama_cpp_memory(config, 1000, 16).cache, 32 * 1024 * one);
}

TEST(RuntimeMemory, OfSharedKeysLatentVectorsAndStates) {
  ModelConfig config = llama_3_8b();
  config.kv_shared_layers = 12;
  EXPECT_EQ(llama_cpp_memory(config, 4096, 16).cache, 20u * 4096 * 2 * 8 * 128 * 2);

  ModelConfig latent = llama_3_8b();
  latent.latent.rank = 512;
  latent.latent.turning_dim = 64;
  EXPECT_EQ(llama_cpp_memory(latent, 4096, 16).cache, 32u * 4096 * 576 * 2);

  ModelConfig hybrid = llama_3_8b();  // three layers of four keep a state
  hybrid.attention_layers.assign(32, false);
  for (int layer = 3; layer < 32; layer += 4) hybrid.attention_layers[static_cast<size_t>(layer)] = true;
  hybrid.convolution.width = 4;
  hybrid.recurrence = {16, 32, 128, 128, false};
  const RuntimeMemory memory = llama_cpp_memory(hybrid, 4096, 16);
  EXPECT_EQ(memory.cache, 8u * 4096 * 2 * 8 * 128 * 2);
  EXPECT_EQ(memory.state, 24u * 4 * (32 * 128 * 128 + 3 * (32 * 128 + 2 * 16 * 128)));
}

}  // namespace
}  // namespace strata
