#include "strata/export/hf_files.h"

#include <algorithm>
#include <array>
#include <cmath>

#include "strata/checkpoint/packed_checkpoint.h"
#include "strata/core/error.h"
#include "strata/core/file.h"
#include "strata/gguf/file.h"
#include "strata/model/architecture.h"
#include "strata/model/rope_scaling.h"

namespace strata {
namespace fs = std::filesystem;
namespace {

constexpr std::array<const char*, 14> kCopied = {"config.json",
                                                 "generation_config.json",
                                                 "tokenizer.json",
                                                 "tokenizer.model",
                                                 "tokenizer_config.json",
                                                 "special_tokens_map.json",
                                                 "added_tokens.json",
                                                 "vocab.json",
                                                 "merges.txt",
                                                 "chat_template.jinja",
                                                 "chat_template.json",
                                                 "LICENSE",
                                                 "LICENSE.txt",
                                                 "NOTICE"};

void copy_model_files(const fs::path& source, const fs::path& directory) {
  for (const char* name : kCopied)
    if (fs::is_regular_file(source / name)) write_text(directory / name, read_text(source / name));
}

// Llama 3's parameters whose divisors are those of a GGUF's rope_freqs.weight. All Llama 3 models use low and
// high factors of 1 and 4 and an original context of 8192; `factor` is the largest divisor.
RopeScaling llama3_from_divisors(const ModelConfig& config, const std::string& where) {
  const std::vector<float>& divisors = config.rope.scaling.divisors;
  ModelConfig candidate = config;
  candidate.rope.scaling = {};
  candidate.rope.scaling.type = RopeScaling::Type::Llama3;
  candidate.rope.scaling.factor =
      divisors.empty() ? 1 : std::round(*std::max_element(divisors.begin(), divisors.end()));
  candidate.rope.scaling.original_max_position_embeddings = 8192;
  const std::vector<double> expected = rope_divisors(candidate.rope);
  bool equal = expected.size() == divisors.size();
  for (size_t i = 0; equal && i < expected.size(); ++i)
    equal = std::abs(expected[i] - divisors[i]) <= 1e-3 * expected[i];
  if (!equal)
    fail(
        "the rope_freqs.weight of {} follows none of the rules a config.json can name; export it as GGUF "
        "instead",
        where);
  return candidate.rope.scaling;
}

Json rope_scaling_json(const ModelConfig& config, const std::string& where) {
  RopeScaling scaling = config.rope.scaling;
  if (scaling.type == RopeScaling::Type::Divisors) scaling = llama3_from_divisors(config, where);
  if (scaling.type == RopeScaling::Type::None) return nullptr;
  if (scaling.type == RopeScaling::Type::Linear)
    return Json{{"rope_type", "linear"}, {"type", "linear"}, {"factor", scaling.factor}};
  if (scaling.type == RopeScaling::Type::Dynamic)
    return Json{{"rope_type", "dynamic"}, {"type", "dynamic"}, {"factor", scaling.factor}};
  if (scaling.type == RopeScaling::Type::Proportional)
    return Json{{"rope_type", "proportional"}, {"partial_rotary_factor", scaling.turning_part}};
  if (scaling.type == RopeScaling::Type::Yarn)
    return Json{{"rope_type", "yarn"},
                {"type", "yarn"},
                {"factor", scaling.factor},
                {"attention_factor", scaling.attention_factor},
                {"beta_fast", scaling.beta_fast},
                {"beta_slow", scaling.beta_slow},
                {"truncate", scaling.truncate},
                {"original_max_position_embeddings", scaling.original_max_position_embeddings}};
  if (scaling.type == RopeScaling::Type::Long)
    return Json{{"rope_type", "longrope"},
                {"type", "longrope"},
                {"factor", scaling.factor},
                {"attention_factor", scaling.attention_factor},
                {"short_factor", scaling.divisors},
                {"long_factor", scaling.long_divisors},
                {"original_max_position_embeddings", scaling.original_max_position_embeddings}};
  return Json{{"rope_type", "llama3"},
              {"factor", scaling.factor},
              {"low_freq_factor", scaling.low_freq_factor},
              {"high_freq_factor", scaling.high_freq_factor},
              {"original_max_position_embeddings", scaling.original_max_position_embeddings}};
}

Json added_token(const Vocabulary::AddedToken& token, const Vocabulary& vocabulary) {
  const auto id = static_cast<size_t>(token.id);
  return Json{{"id", token.id},
              {"content", vocabulary.tokens.at(id)},
              {"single_word", token.single_word},
              {"lstrip", token.lstrip},
              {"rstrip", token.rstrip},
              {"normalized", token.normalized},
              {"special", vocabulary.types.at(id) == Vocabulary::TokenType::Control}};
}

Json byte_level(bool use_regex) {
  return Json{
      {"type", "ByteLevel"}, {"add_prefix_space", false}, {"trim_offsets", true}, {"use_regex", use_regex}};
}

// Each pattern cuts the pieces of the one before; then bytes become the letters of the tokens.
Json pre_tokenizer_json(const Vocabulary& vocabulary) {
  Json steps = Json::array();
  for (const std::string& pattern : vocabulary.word_patterns)
    steps.push_back(
        {{"type", "Split"}, {"pattern", {{"Regex", pattern}}}, {"behavior", "Isolated"}, {"invert", false}});
  steps.push_back(byte_level(false));
  return Json{{"type", "Sequence"}, {"pretokenizers", steps}};
}

// BOS before the text, as the vocabulary asks.
Json post_processor_json(const Vocabulary& vocabulary) {
  if (!vocabulary.add_bos || !vocabulary.bos) return nullptr;
  const std::string bos = vocabulary.tokens.at(static_cast<size_t>(*vocabulary.bos));
  const Json special = {{"SpecialToken", {{"id", bos}, {"type_id", 0}}}};
  const auto sequence = [](const char* id, int type) {
    return Json{{"Sequence", {{"id", id}, {"type_id", type}}}};
  };
  Json tokens = Json::object();
  tokens[bos] = {{"id", bos}, {"ids", Json::array({*vocabulary.bos})}, {"tokens", Json::array({bos})}};
  return Json{{"type", "TemplateProcessing"},
              {"single", Json::array({special, sequence("A", 0)})},
              {"pair", Json::array({special, sequence("A", 0), sequence("B", 1)})},
              {"special_tokens", tokens}};
}

Json tokenizer_config_json(const Vocabulary& vocabulary) {
  const bool bpe = vocabulary.model == Vocabulary::Model::Bpe;
  Json json = {{"tokenizer_class", bpe ? "PreTrainedTokenizerFast" : "LlamaTokenizer"}};
  const auto token = [&](const char* name, const std::optional<int32_t>& id) {
    if (id) json[name] = vocabulary.tokens.at(static_cast<size_t>(*id));
  };
  token("bos_token", vocabulary.bos);
  token("eos_token", vocabulary.eos);
  token("unk_token", vocabulary.unknown);
  token("pad_token", vocabulary.padding);
  json["add_bos_token"] = vocabulary.add_bos;
  json["add_eos_token"] = vocabulary.add_eos;
  json["clean_up_tokenization_spaces"] = false;
  if (!vocabulary.chat_template.empty()) json["chat_template"] = vocabulary.chat_template;
  return json;
}

void write_tokenizer(const Vocabulary& vocabulary, const fs::path& directory, const std::string& where) {
  if (vocabulary.model == Vocabulary::Model::Bpe)
    write_json(directory / "tokenizer.json", tokenizer_json(vocabulary));
  else if (!vocabulary.sentencepiece_model.empty())
    write_text(directory / "tokenizer.model", vocabulary.sentencepiece_model);
  else
    fail(
        "{} holds a SentencePiece tokenizer without its tokenizer.model, which a Hugging Face directory "
        "needs; "
        "export it as GGUF instead",
        where);
  write_json(directory / "tokenizer_config.json", tokenizer_config_json(vocabulary));
}

}  // namespace

Json config_json(const ModelConfig& config, const std::string& dtype, const std::string& where) {
  const Architecture& architecture = architecture_of(config);
  Json json = {{"architectures", Json::array({architecture.class_name})},
               {"model_type", architecture.model_type},
               {"hidden_size", config.hidden_size},
               {"intermediate_size", config.intermediate_size},
               {"num_hidden_layers", config.num_layers},
               {"num_attention_heads", config.num_heads},
               {"num_key_value_heads", config.num_kv_heads},
               {"head_dim", config.head_dim},
               {"hidden_act", architecture.activations.front()},
               {"vocab_size", config.vocab_size},
               {"max_position_embeddings", config.max_position_embeddings},
               {"rms_norm_eps", config.rms_norm_eps},
               {"rope_theta", config.rope.theta},
               {"rope_scaling", rope_scaling_json(config, where)},
               {"tie_word_embeddings", config.tied_embeddings},
               {"torch_dtype", dtype}};
  if (config.rope.rotary_dim != config.head_dim)
    json["partial_rotary_factor"] =
        static_cast<double>(config.rope.rotary_dim) / static_cast<double>(config.head_dim);
  if (config.rope.scaling.type == RopeScaling::Type::Long)
    json["original_max_position_embeddings"] = config.rope.scaling.original_max_position_embeddings;
  if (architecture.write_json != nullptr) architecture.write_json(config, where, json);
  if (config.bos) json["bos_token_id"] = *config.bos;
  if (config.eos) json["eos_token_id"] = *config.eos;
  return json;
}

Json tokenizer_json(const Vocabulary& vocabulary) {
  Json added = Json::array(), ids = Json::object();
  for (const Vocabulary::AddedToken& token : vocabulary.added)
    added.push_back(added_token(token, vocabulary));
  for (size_t id = 0; id < vocabulary.tokens.size(); ++id) ids[vocabulary.tokens[id]] = id;
  return Json{{"version", "1.0"},
              {"truncation", nullptr},
              {"padding", nullptr},
              {"added_tokens", added},
              {"normalizer", vocabulary.normalize_nfc ? Json{{"type", "NFC"}} : Json(nullptr)},
              {"pre_tokenizer", pre_tokenizer_json(vocabulary)},
              {"post_processor", post_processor_json(vocabulary)},
              {"decoder", byte_level(true)},
              {"model",
               {{"type", "BPE"},
                {"dropout", nullptr},
                {"unk_token", nullptr},
                {"continuing_subword_prefix", nullptr},
                {"end_of_word_suffix", nullptr},
                {"fuse_unk", false},
                {"byte_fallback", false},
                {"ignore_merges", vocabulary.ignore_merges},
                {"vocab", ids},
                {"merges", vocabulary.merges}}}};
}

void describe_quantization(const fs::path& directory, const Json& entries, const Label& label) {
  const fs::path path = directory / "config.json";
  Json config = read_json(path);
  for (const char* key : {"quantization_config", "quantization", "compression_config", "strata"})
    config.erase(key);
  config.update(entries);
  if (!label.empty()) config["strata"] = to_json(label);
  write_json(path, config);
}

void write_model_files(const Model& model, const fs::path& directory) {
  if (!is_gguf(model.path)) {
    const bool is_directory = fs::is_directory(model.path);
    copy_model_files(is_directory ? model.path : fs::absolute(model.path).parent_path(), directory);
    const Json config = read_json(directory / "config.json");
    if (is_packed(config) || config.contains("strata")) describe_quantization(directory, Json::object());
    return;
  }
  const std::string where = model.path.string();
  write_json(directory / "config.json", config_json(model.config, "float16", where));
  write_tokenizer(model.vocabulary(), directory, where);
}

}  // namespace strata
