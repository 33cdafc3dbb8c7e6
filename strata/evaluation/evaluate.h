#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "strata/model/decoder.h"

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

// Mean negative log likelihood of `ids` under a decoder; with a reference also the KL divergence
// KL(reference || decoder) of the next-token distributions and how often both predict the same token.
Evaluation evaluate(Decoder& decoder, const std::vector<int32_t>& ids, const EvaluationOptions& options,
                    Decoder* reference = nullptr);

}  // namespace strata
