#pragma once

#include <filesystem>
#include <string>

#include "strata/core/dtype.h"
#include "strata/core/json.h"
#include "tests/support/tiny_model.h"

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

// tokenizer.json of byte-level BPE with one special token, the 256 bytes and one merge.
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
  vocab["in"] = 257;
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
      {"model",
       {{"type", "BPE"}, {"ignore_merges", false}, {"vocab", vocab}, {"merges", Json::array({"i n"})}}}};
}

// The random model of tiny_model.h that a config.json describes, with the byte tokenizer.
inline void write_random_model(const std::filesystem::path& directory, const Json& config, DType type) {
  TinyModel model;
  model.architecture = config["model_type"];
  model.hidden = config["hidden_size"];
  model.intermediate = config["intermediate_size"];
  model.layers = config["num_hidden_layers"];
  model.heads = config["num_attention_heads"];
  model.kv_heads = config["num_key_value_heads"];
  model.head_dim = config["head_dim"];
  model.vocab = config["vocab_size"];
  model.tied = config["tie_word_embeddings"];
  model.attention_bias = config.value("attention_bias", false);
  model.mlp_bias = config.value("mlp_bias", false);
  model.type = type;
  model.config = config;
  write_tiny_model(directory, model);
  write_json(directory / "tokenizer.json", byte_tokenizer());
  write_json(directory / "tokenizer_config.json", Json{{"bos_token", "<|end|>"}, {"eos_token", "<|end|>"}});
}

}  // namespace strata
