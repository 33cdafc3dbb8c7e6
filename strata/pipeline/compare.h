#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "strata/allocation/allocator.h"
#include "strata/evaluation/evaluate.h"
#include "strata/pipeline/workbench.h"

namespace strata {

// Methods side by side: every method plans the same matrices from the same schemes under the same stored
// bytes; embedding and head stay as they are.
struct CompareRequest {
  std::filesystem::path model;
  std::vector<std::filesystem::path> texts;
  std::vector<std::string> methods;  // as parse_method() takes them
  std::vector<double> budgets;       // stored bits a weight
  std::string schemes = "w2g128,w3g128,w4g128,w5g128,w6g128,w8g128";
  std::vector<QuantizerChoice> quantizers = {{}};  // calibrated as `workbench` says
  int seeds = 5;                                   // of the method "random"
  // Finished rows are saved here as they come and are not computed again by a later run; empty = nowhere.
  std::filesystem::path results;
  bool correlations = false;          // measure what each layer alone loses, and rank the scores against it
  int64_t correlation_tokens = 4096;  // of the first text
  WorkbenchOptions workbench;
  AllocatorOptions allocator;
  EvaluationOptions evaluation;
};

struct CompareRow {
  std::string method, quantizer;
  double budget = 0;
  double bits_per_weight = 0;
  uint64_t bytes = 0;
  std::string text;
  Evaluation evaluation;         // means over seeds
  std::optional<double> spread;  // standard deviation of the perplexity over seeds
  double seconds = 0;            // scoring, planning and quantizing; not the evaluation
};

// How well a method's scores order the layers, beside the truth: the KL divergence of the model in which one
// layer alone takes the smallest scheme.
struct ScoreCorrelation {
  std::string method;
  double rank_correlation = 0;  // Spearman's, over the layers; 0 for constant scores
};

struct Comparison {
  // Stored bits a weight of embedding and head, which stay as they are; the head's is 0 where they are one.
  double embedding_bits = 0, head_bits = 0;
  std::vector<CompareRow> unquantized;  // one a text
  std::vector<CompareRow> rows;         // the texts of one cell follow each other
  std::vector<double> layer_kld;        // with `correlations`
  std::vector<ScoreCorrelation> correlations;
};

Comparison compare(const CompareRequest& request);

}  // namespace strata
