#pragma once

#include <cmath>
#include <filesystem>
#include <string>
#include <vector>

#include "strata/checkpoint/safetensors_writer.h"
#include "strata/core/file.h"
#include "strata/core/json.h"
#include "strata/core/random.h"
#include "strata/model/layout.h"
#include "strata/model/model.h"

namespace strata {

// config.json of a small model of this architecture; tests change what they are about.
inline Json small_config(const std::string& architecture) {
  return Json{{"model_type", architecture},
              {"hidden_size", 64},
              {"intermediate_size", 96},
              {"num_hidden_layers", 2},
              {"num_attention_heads", 4},
              {"num_key_value_heads", 2},
              {"head_dim", 32},
              {"vocab_size", 320},
              {"max_position_embeddings", 512},
              {"rms_norm_eps", 1e-5},
              {"rope_theta", 10000.0},
              {"tie_word_embeddings", true},
              {"hidden_act", "silu"}};
}

// tokenizer.json of byte-level BPE with the 256 bytes and one special token.
inline Json byte_tokenizer() {
  Json vocab = Json::object();
  vocab["<|end|>"] = 0;
  int stand_in = 256;  // GPT-2's alphabet: printable bytes stand for themselves, others for U+0100 onwards
  for (int byte = 0; byte < 256; ++byte) {
    const bool printable = (byte >= 33 && byte <= 126) || (byte >= 161 && byte <= 172) || byte >= 174;
    const int code = printable ? byte : stand_in++;
    std::string utf8;
    if (code < 128) {
      utf8 += static_cast<char>(code);
    } else {
      utf8 += static_cast<char>(0xC0 | (code >> 6));
      utf8 += static_cast<char>(0x80 | (code & 0x3F));
    }
    vocab[utf8] = byte + 1;
  }
  return Json{
      {"version", "1.0"},
      {"added_tokens", Json::array({{{"id", 0},
                                     {"content", "<|end|>"},
                                     {"single_word", false},
                                     {"lstrip", false},
                                     {"rstrip", false},
                                     {"normalized", false},
                                     {"special", true}}})},
      {"normalizer", nullptr},
      {"pre_tokenizer",
       {{"type", "ByteLevel"}, {"add_prefix_space", false}, {"trim_offsets", true}, {"use_regex", true}}},
      {"post_processor", nullptr},
      {"decoder",
       {{"type", "ByteLevel"}, {"add_prefix_space", true}, {"trim_offsets", true}, {"use_regex", true}}},
      {"model", {{"type", "BPE"}, {"ignore_merges", false}, {"vocab", vocab}, {"merges", Json::array()}}}};
}

// Writes a Hugging Face directory with random weights: matrices with standard deviation 1 / sqrt(cols), norms
// near 1, biases of standard deviation 0.3, the embedding of 1.
inline void write_random_model(const std::filesystem::path& directory, const Json& config, DType type,
                               uint64_t seed = 1) {
  std::filesystem::create_directories(directory);
  write_json(directory / "config.json", config);
  write_json(directory / "tokenizer.json", byte_tokenizer());
  write_json(directory / "tokenizer_config.json", Json{{"eos_token", "<|end|>"}, {"bos_token", "<|end|>"}});
  const std::vector<ExpectedTensor> expected = expected_tensors(read_config(directory / "config.json"));
  std::vector<PlannedTensor> planned;
  for (const ExpectedTensor& tensor : expected) planned.push_back({tensor.name, tensor.shape, type});
  SafetensorsWriter writer(directory, planned);
  Random random(seed);
  for (const ExpectedTensor& tensor : expected) {
    const bool matrix = tensor.shape.size() > 1, embedding = tensor.name == "model.embed_tokens.weight";
    const bool bias = tensor.name.find(".bias") != std::string::npos;
    const double center = matrix || bias ? 0 : 1;
    const double deviation = embedding ? 1.0
                             : matrix  ? 1 / std::sqrt(static_cast<double>(tensor.shape[1]))
                             : bias    ? 0.3
                                       : 0.1;
    std::vector<float> values(static_cast<size_t>(tensor.shape[0] * (matrix ? tensor.shape[1] : 1)));
    for (float& value : values) value = static_cast<float>(center + deviation * random.normal());
    writer.write(values.data(), static_cast<int64_t>(values.size()));
  }
  writer.finish();
}

}  // namespace strata
