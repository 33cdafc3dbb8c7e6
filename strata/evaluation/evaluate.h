#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <vector>

#include "strata/forward/decoder.h"

namespace strata {

// The protocol: the whole text tokenized at once and cut into windows.
struct EvaluationOptions {
  int64_t window = 512;
  int64_t stride = 0;  // 0 = window: no overlap. Otherwise only the last `stride` tokens of a window count
                       // (all but the first token for the first window)
  int64_t max_tokens = 0;  // 0 = all; otherwise the text's first max_tokens tokens
  int64_t batch = 0;       // windows at a time; 0 = chosen from the sizes
};

struct Evaluation {
  int64_t tokens = 0;                      // predicted
  double nll = 0, nll_standard_error = 0;  // mean negative log likelihood, nats; error over tokens
  double ppl = 0, ppl_standard_error = 0;
  // Against a reference, when there is one:
  std::optional<double> kld, kld_standard_error, kld_p99, top1;
};

// The whole text file as token ids, with the special tokens the vocabulary asks for. Throws when the text is
// empty or the tokenizer does not fit the model.
std::vector<int32_t> tokenize_file(const Model& model, const std::filesystem::path& text);

// The ids that are cut into windows: all, or the first max_tokens.
int64_t evaluated_tokens(const std::vector<int32_t>& ids, const EvaluationOptions& options);

// Throws when there are fewer ids than one window, an id lies outside the vocabulary, or the options
// contradict each other: to be asked before long work that ends with evaluate().
void require_evaluable(const std::vector<int32_t>& ids, const EvaluationOptions& options, const Model& model);

// Mean negative log likelihood of `ids` under a decoder; with a reference also the KL divergence
// KL(reference || decoder) of the next-token distributions and how often both predict the same token.
// Throws as require_evaluable() does, and when the vocabularies of the two differ.
Evaluation evaluate(Decoder& decoder, const std::vector<int32_t>& ids, const EvaluationOptions& options,
                    Decoder* reference = nullptr);

}  // namespace strata
