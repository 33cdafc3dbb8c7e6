#pragma once

#include <string>
#include <vector>

#include "strata/evaluation/evaluate.h"

namespace strata {

// Where in a text a model is far from its reference, in nats: KL(reference || decoder) of single predictions.
struct LossByToken {
  // A token that was predicted much worse than by the reference, and the text around it.
  struct Token {
    std::string before, text, after;
    double divergence = 0;
  };
  // Mean of the tokens at each place of a window, counted from 0; 0 at places where none is predicted.
  std::vector<double> by_position;
  std::vector<Token> worst;  // the largest first
};

// evaluate() with a reference, and its loss by token: `worst` of them by name.
Evaluation evaluate_by_token(Decoder& decoder, const std::vector<int32_t>& ids,
                             const EvaluationOptions& options, Decoder& reference, size_t worst,
                             LossByToken& losses);

// From the divergences of the predicted tokens, in the order of the windows.
LossByToken loss_by_token(const std::vector<double>& divergences, const std::vector<int32_t>& ids,
                          const EvaluationOptions& options, const Tokenizer& tokenizer, size_t worst);

}  // namespace strata
