#include "strata/tokenizer/tokenizer_json.h"

#include <algorithm>
#include <unordered_map>

#include "strata/core/error.h"
#include "strata/core/text.h"
#include "strata/tokenizer/json_fields.h"
#include "strata/tokenizer/pre_tokenizers.h"
#include "strata/tokenizer/sentencepiece_model.h"

namespace strata {
namespace {

using TokenType = Vocabulary::TokenType;

const char* const kSpace = "\u2581";  // SentencePiece's

// A step itself, or the steps of a Sequence, which stand under `list`.
std::vector<LargeJson> steps_of(const LargeJson& step, const char* list) {
  if (step.is_null()) return {};
  if (text_of(step, "type") != "Sequence") return {step};
  const LargeJson& steps = field(step, list);
  return steps.is_array() ? std::vector<LargeJson>(steps.begin(), steps.end()) : std::vector<LargeJson>();
}

// Characters that are none of base64's end it.
std::string decoded_base64(std::string_view text) {
  constexpr std::string_view kDigits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string bytes;
  uint32_t bits = 0;
  int count = 0;
  for (const char c : text) {
    const size_t digit = kDigits.find(c);
    if (digit == std::string_view::npos) break;
    bits = bits << 6 | static_cast<uint32_t>(digit);
    count += 6;
    if (count < 8) continue;
    count -= 8;
    bytes += static_cast<char>(bits >> count & 0xff);
  }
  return bytes;
}

bool has_byte_level_step(const LargeJson& document) {
  for (const LargeJson& step : steps_of(field(document, "pre_tokenizer"), "pretokenizers"))
    if (text_of(step, "type") == "ByteLevel") return true;
  return false;
}

class Reader {
 public:
  Reader(const LargeJson& document, const std::filesystem::path& path)
      : document_(document), path_(path.string()) {}

  Vocabulary read() {
    read_tokens();
    read_added_tokens();
    check_gaps();
    read_merges();
    read_normalizer();
    read_pre_tokenizer();
    read_post_processor();
    vocabulary_.pre_tokenizer = pre_tokenizer_name(vocabulary_);
    return std::move(vocabulary_);
  }

  Vocabulary read_sentencepiece() {
    vocabulary_.model = Vocabulary::Model::SentencePiece;
    vocabulary_.pre_tokenizer = "default";
    vocabulary_.unigram = text_of(model(), "type") == "Unigram";
    if (vocabulary_.unigram)
      read_scored_tokens();
    else
      read_tokens();
    read_added_tokens();
    check_gaps();
    if (!vocabulary_.unigram) read_merges();
    read_spaces();
    read_post_processor();
    set_piece_types();
    if (!vocabulary_.unigram) set_scores();
    vocabulary_.scores.resize(vocabulary_.tokens.size(), 0);
    vocabulary_.merges.clear();
    if (!llama_cpp_knows(vocabulary_)) vocabulary_.pre_tokenizer.clear();
    vocabulary_.sentencepiece_model = build_sentencepiece_model(vocabulary_, path_);
    return std::move(vocabulary_);
  }

 private:
  const LargeJson& model() const { return field(document_, "model"); }

  int32_t id_of(const LargeJson& value, const std::string& token) const {
    if (!value.is_number_unsigned() || value.get<uint64_t>() > largest_id_)
      fail("{}: the token \"{}\" has the id {}; a whole number up to {} was expected", path_,
           printable(token), printable(value.dump(-1, ' ', true, LargeJson::error_handler_t::replace)),
           largest_id_);
    return value.get<int32_t>();
  }

  void place(int32_t id, const std::string& token, TokenType type) {
    const auto index = static_cast<size_t>(id);
    if (index >= vocabulary_.tokens.size()) {
      vocabulary_.tokens.resize(index + 1);
      vocabulary_.types.resize(index + 1, TokenType::Unused);
    }
    if (vocabulary_.types[index] != TokenType::Unused && vocabulary_.tokens[index] != token)
      fail("{}: the tokens \"{}\" and \"{}\" both have the id {}", path_,
           printable(vocabulary_.tokens[index]), printable(token), id);
    vocabulary_.tokens[index] = token;
    vocabulary_.types[index] = type;
  }

  void read_tokens() {
    const LargeJson& tokens = field(model(), "vocab");
    if (!tokens.is_object() || tokens.empty()) fail("{} has no vocabulary (model.vocab)", path_);
    const LargeJson& added = field(document_, "added_tokens");
    // Some vocabularies have gaps, but one that is mostly gaps is damaged and would cost much memory.
    largest_id_ = 2 * (tokens.size() + (added.is_array() ? added.size() : 0)) + 65536;
    for (const auto& [token, id] : tokens.items()) place(id_of(id, token), token, TokenType::Normal);
  }

  // Of a unigram model: a list of [piece, logarithm of its probability], and which one stands for unknown
  // text.
  void read_scored_tokens() {
    const LargeJson& tokens = field(model(), "vocab");
    if (!tokens.is_array() || tokens.empty()) fail("{} has no vocabulary (model.vocab)", path_);
    largest_id_ = 2 * tokens.size() + 65536;
    for (const LargeJson& entry : tokens) {
      if (!entry.is_array() || entry.size() != 2 || !entry[0].is_string() || !entry[1].is_number())
        fail("{}: entry {} of model.vocab is not a piece with its score", path_, vocabulary_.tokens.size());
      place(static_cast<int32_t>(vocabulary_.tokens.size()), entry[0].get<std::string>(), TokenType::Normal);
      vocabulary_.scores.push_back(entry[1].get<float>());
    }
    const LargeJson& unknown = field(model(), "unk_id");
    if (!unknown.is_null()) vocabulary_.unknown = id_of(unknown, "unk_id");
    if (vocabulary_.unknown && static_cast<size_t>(*vocabulary_.unknown) >= vocabulary_.tokens.size())
      fail("{}: model.unk_id is {}, beyond its {} pieces", path_, *vocabulary_.unknown,
           vocabulary_.tokens.size());
  }

  void read_added_tokens() {
    const LargeJson& list = field(document_, "added_tokens");
    if (list.is_null()) return;
    if (!list.is_array()) fail("{}: added_tokens is not a list", path_);
    for (const LargeJson& entry : list) {
      const std::string content = text_of(entry, "content");
      if (content.empty()) fail("{}: an added token has no content", path_);
      const int32_t id = id_of(field(entry, "id"), content);
      place(id, content, flag_of(entry, "special") ? TokenType::Control : TokenType::UserDefined);
      vocabulary_.added.push_back({id, flag_of(entry, "lstrip"), flag_of(entry, "rstrip"),
                                   flag_of(entry, "single_word"), flag_of(entry, "normalized")});
    }
  }

  // Ids that no token has still have rows in the embedding matrix.
  void check_gaps() {
    for (size_t id = 0; id < vocabulary_.tokens.size(); ++id)
      if (vocabulary_.types[id] == TokenType::Unused) vocabulary_.tokens[id] = fmt::format("[PAD{}]", id);
  }

  void read_merges() {
    const LargeJson& merges = field(model(), "merges");
    if (!merges.is_array()) fail("{} has no list of merges (model.merges)", path_);
    vocabulary_.merges.reserve(merges.size());
    for (const LargeJson& merge : merges) {
      const bool pair = merge.is_array() && merge.size() == 2 && merge[0].is_string() && merge[1].is_string();
      if (!pair && !merge.is_string())
        fail("{}: merge {} is neither a pair of tokens nor \"left right\"", path_, vocabulary_.merges.size());
      std::string text =
          pair ? merge[0].get<std::string>() + " " + merge[1].get<std::string>() : merge.get<std::string>();
      if (std::count(text.begin(), text.end(), ' ') != 1 || text.front() == ' ' || text.back() == ' ')
        fail("{}: merge {} (\"{}\") is not a pair of tokens without spaces", path_, vocabulary_.merges.size(),
             printable(text));
      vocabulary_.merges.push_back(std::move(text));
    }
    vocabulary_.ignore_merges = flag_of(model(), "ignore_merges");
    const std::string unknown = text_of(model(), "unk_token");
    if (!unknown.empty()) vocabulary_.unknown = find_token(unknown, "model.unk_token");
  }

  int32_t find_token(const std::string& token, const char* where) const {
    const auto found = std::find(vocabulary_.tokens.begin(), vocabulary_.tokens.end(), token);
    if (found == vocabulary_.tokens.end())
      fail("{}: {} is \"{}\", which is not in the vocabulary", path_, where, printable(token));
    return static_cast<int32_t>(found - vocabulary_.tokens.begin());
  }

  void read_normalizer() {
    for (const LargeJson& step : steps_of(field(document_, "normalizer"), "normalizers")) {
      if (text_of(step, "type") != "NFC")
        fail("{}: the normalizer \"{}\" is not supported; NFC or none was expected", path_,
             printable(text_of(step, "type")));
      vocabulary_.normalize_nfc = true;
    }
  }

  void read_pre_tokenizer() {
    bool byte_level = false;
    for (const LargeJson& step : steps_of(field(document_, "pre_tokenizer"), "pretokenizers")) {
      const std::string type = text_of(step, "type");
      if (byte_level)
        fail("{}: the pre-tokenizer \"{}\" follows ByteLevel, which is not supported", path_, type);
      if (type == "Split") {
        vocabulary_.word_patterns.push_back(split_pattern(step));
      } else if (type == "Digits") {
        vocabulary_.word_patterns.push_back(flag_of(step, "individual_digits") ? R"(\p{N})" : R"(\p{N}+)");
      } else if (type == "ByteLevel") {
        byte_level = true;
        vocabulary_.add_prefix_space = flag_of(step, "add_prefix_space", true);
        if (vocabulary_.add_prefix_space && !vocabulary_.word_patterns.empty())
          fail("{}: a ByteLevel step that adds a space before every word is not supported", path_);
        if (flag_of(step, "use_regex", true)) vocabulary_.word_patterns.push_back(kGpt2Pattern);
      } else {
        fail("{}: the pre-tokenizer \"{}\" is not supported; Split, Digits and ByteLevel are", path_,
             printable(type));
      }
    }
  }

  std::string split_pattern(const LargeJson& step) const {
    const std::string behavior = text_of(step, "behavior");
    const bool keeps_matches = behavior == "Removed" && flag_of(step, "invert");
    if (behavior != "Isolated" && !keeps_matches)
      fail("{}: a Split step with behavior \"{}\" is not supported; \"Isolated\" was expected", path_,
           printable(behavior));
    const std::string regex = text_of(field(step, "pattern"), "Regex");
    if (!regex.empty()) return regex;
    const std::string literal = text_of(field(step, "pattern"), "String");
    if (literal.empty() || literal.find("\\E") != std::string::npos)
      fail("{}: a Split step has no pattern that can be used", path_);
    return "\\Q" + literal + "\\E";
  }

  // How spaces become U+2581, whether one comes before the text, and what a unigram model does before.
  void read_spaces() {
    bool replaced = false;
    const auto refuse = [&](const char* what, const LargeJson& step) {
      fail("{}: the {} \"{}\" is not supported; what SentencePiece does was expected", path_, what,
           printable(text_of(step, "type")));
    };
    for (const LargeJson& step : steps_of(field(document_, "normalizer"), "normalizers")) {
      const std::string type = text_of(step, "type");
      if (type == "Prepend" && text_of(step, "prepend") == kSpace)
        vocabulary_.add_prefix_space = true;
      else if (type == "Replace" && text_of(field(step, "pattern"), "String") == " " &&
               text_of(step, "content") == kSpace)
        replaced = true;
      else if (vocabulary_.unigram && type == "Precompiled")
        vocabulary_.replacements = decoded_base64(text_of(step, "precompiled_charsmap"));
      else if (vocabulary_.unigram && type == "Replace" &&
               text_of(field(step, "pattern"), "Regex") == " {2,}")
        vocabulary_.removes_spaces = true;
      else if (!vocabulary_.unigram || type != "Strip" || flag_of(step, "strip_left"))
        refuse("normalizer", step);  // the end is stripped with repeated spaces
    }
    for (const LargeJson& step : steps_of(field(document_, "pre_tokenizer"), "pretokenizers")) {
      const std::string type = text_of(step, "type");
      const std::string scheme = text_of(step, "prepend_scheme");
      if (type == "Metaspace" && text_of(step, "replacement") == kSpace) {
        vocabulary_.add_prefix_space =
            scheme.empty() ? flag_of(step, "add_prefix_space", true) : scheme != "never";
        vocabulary_.space_is_prefix = vocabulary_.add_prefix_space && !vocabulary_.removes_spaces;
        replaced = true;
      } else if (type == "WhitespaceSplit" && !vocabulary_.replacements.empty()) {
        vocabulary_.removes_spaces = true;  // Metaspace comes behind it
      } else if (type != "Split" || text_of(field(step, "pattern"), "String") != " ") {
        refuse("pre-tokenizer", step);  // a split at spaces finds none that are left
      }
    }
    if (!replaced) fail("{}: no step writes spaces as {}, as SentencePiece does", path_, kSpace);
  }

  // "<0x0A>" stands for a byte.
  void set_piece_types() {
    for (int byte = 0; byte < 256; ++byte) {
      const auto found =
          std::find(vocabulary_.tokens.begin(), vocabulary_.tokens.end(), fmt::format("<0x{:02X}>", byte));
      if (found != vocabulary_.tokens.end())
        vocabulary_.types[static_cast<size_t>(found - vocabulary_.tokens.begin())] = TokenType::Byte;
    }
    if (vocabulary_.unknown)
      vocabulary_.types[static_cast<size_t>(*vocabulary_.unknown)] = TokenType::Unknown;
    vocabulary_.added.erase(
        std::remove_if(vocabulary_.added.begin(), vocabulary_.added.end(),
                       [&](const auto& added) { return added.id == vocabulary_.unknown; }),
        vocabulary_.added.end());
  }

  // Pieces that merges make come in their order, single characters behind them.
  void set_scores() {
    std::unordered_map<std::string, float> rank_of;
    for (size_t rank = 0; rank < vocabulary_.merges.size(); ++rank) {
      std::string piece = vocabulary_.merges[rank];
      piece.erase(piece.find(' '), 1);
      rank_of.emplace(std::move(piece), static_cast<float>(rank));
    }
    for (size_t id = 0; id < vocabulary_.tokens.size(); ++id) {
      const auto found = rank_of.find(vocabulary_.tokens[id]);
      const float rank =
          found == rank_of.end() ? static_cast<float>(vocabulary_.merges.size() + id) : found->second;
      vocabulary_.scores.push_back(vocabulary_.types[id] == TokenType::Normal ? -rank : 0);
    }
  }

  // BOS and EOS as the template of a single text adds them.
  void read_post_processor() {
    for (const LargeJson& step : steps_of(field(document_, "post_processor"), "processors")) {
      const std::string type = text_of(step, "type");
      if (type == "ByteLevel") continue;
      if (type != "TemplateProcessing")
        fail("{}: the post-processor \"{}\" is not supported; TemplateProcessing and ByteLevel are", path_,
             printable(type));
      read_template(step);
    }
  }

  void read_template(const LargeJson& step) {
    bool text_seen = false;
    const LargeJson& parts = field(step, "single");
    if (!parts.is_array()) fail("{}: the TemplateProcessing step has no template for a single text", path_);
    for (const LargeJson& part : parts) {
      if (part.is_object() && part.contains("Sequence")) {
        text_seen = true;
        continue;
      }
      const int32_t id = template_token(step, text_of(field(part, "SpecialToken"), "id"));
      bool& adds = text_seen ? vocabulary_.add_eos : vocabulary_.add_bos;
      if (adds)
        fail("{}: the TemplateProcessing step adds several tokens on one side, which is not supported",
             path_);
      adds = true;
      (text_seen ? vocabulary_.eos : vocabulary_.bos) = id;
    }
  }

  int32_t template_token(const LargeJson& step, const std::string& name) const {
    const LargeJson& ids = field(field(field(step, "special_tokens"), name.c_str()), "ids");
    const LargeJson first = ids.is_array() && ids.size() == 1 ? ids[0] : LargeJson();
    if (!first.is_number_unsigned() || first.get<uint64_t>() >= vocabulary_.tokens.size())
      fail("{}: the TemplateProcessing step's token \"{}\" does not stand for one token of the vocabulary",
           path_, printable(name));
    return first.get<int32_t>();
  }

  const LargeJson& document_;
  const std::string path_;
  uint64_t largest_id_ = 0;
  Vocabulary vocabulary_;
};

}  // namespace

bool is_byte_level_bpe(const LargeJson& document, std::string& kind) {
  const LargeJson& model = field(document, "model");
  const bool merges = model.is_object() && model.contains("merges");
  kind = text_of(model, "type");
  if (kind.empty()) kind = merges ? "BPE" : "unknown kind";
  if (kind != "BPE" || has_byte_level_step(document)) return kind == "BPE";
  kind = "SentencePiece-like BPE";
  return false;
}

bool is_sentencepiece(const LargeJson& document) {
  std::string kind;
  if (text_of(field(document, "model"), "type") == "Unigram") return true;
  return !is_byte_level_bpe(document, kind) && flag_of(field(document, "model"), "byte_fallback") &&
         field(document, "model").contains("merges");
}

Vocabulary vocabulary_from_json(const LargeJson& document, const std::filesystem::path& path) {
  return Reader(document, path).read();
}

Vocabulary sentencepiece_from_json(const LargeJson& document, const std::filesystem::path& path) {
  return Reader(document, path).read_sentencepiece();
}

}  // namespace strata
