#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "strata/core/file.h"
#include "strata/evaluation/evaluate.h"

namespace strata {

// What llama-perplexity's --kl-divergence-base writes, and reads beside --kl-divergence: the tokens of a
// text, in windows, and the log probabilities of all tokens behind each of the second half of every window.
//
//   "_logits_"  int32 window, vocabulary, windows  int32 tokens [windows * window]
//   and for each predicted token  float scale, least  uint16 codes [vocabulary, and one more where it is odd]
//
// A log probability is scale * code + least; those more than 16 below the largest are cut off there.
// (llama.cpp, tools/perplexity/perplexity.cpp.)
class KlBase {
 public:
  explicit KlBase(const std::filesystem::path& path);  // throws for what is no such file, or is cut short

  struct Row {
    float scale, least;
    const uint16_t* codes;  // [vocabulary]
    float log_probability(int64_t token) const { return scale * static_cast<float>(codes[token]) + least; }
  };

  int64_t window() const { return window_; }
  int64_t vocabulary() const { return vocabulary_; }
  const std::vector<int32_t>& tokens() const { return tokens_; }
  int64_t rows() const;
  Row row(int64_t index) const;
  const std::filesystem::path& path() const { return file_.path(); }

 private:
  MappedFile file_;
  int64_t window_ = 0, vocabulary_ = 0, windows_ = 0;
  uint64_t first_row_ = 0;  // in the file
  std::vector<int32_t> tokens_;
};

// Writes such a file: the windows of `ids` as far as `options.max_tokens` go, each beginning with the token
// `bos` where there is one. Throws when there is no window, or one has fewer than 4 tokens.
void write_kl_base(Decoder& decoder, const std::vector<int32_t>& ids, const EvaluationOptions& options,
                   std::optional<int32_t> bos, const std::filesystem::path& path);

// A mean and its standard error.
struct MeanValue {
  double value = 0, error = 0;
};

// What llama-perplexity prints of a model beside a base, in its order.
struct BaseComparison {
  int64_t tokens = 0;
  MeanValue ppl, base_ppl, log_ppl_ratio, ppl_ratio, ppl_difference;
  double log_ppl_correlation = 0;
  MeanValue kld;                   // nats a token
  std::vector<double> klds;        // of every token
  MeanValue probability_change;    // of the text's tokens, model minus base
  std::vector<double> changes;     // of every token
  MeanValue rms_change, same_top;  // the latter a part of 1
};

// Throws when the vocabularies differ.
BaseComparison compare_with_base(Decoder& decoder, const KlBase& base, std::optional<int32_t> bos,
                                 int64_t batch = 0);

// Lines in llama-perplexity's words.
std::string text_of(const BaseComparison& comparison);

}  // namespace strata
