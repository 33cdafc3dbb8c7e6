#pragma once

#include <ATen/ATen.h>

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "strata/vision/agreement.h"
#include "strata/vision/onnx_export.h"
#include "strata/vision/top_k.h"
#include "strata/vision/width_costs.h"
#include "strata/vision/width_plan.h"

namespace strata::vision {

// What all work on an ONNX model starts from.
struct Request {
  std::filesystem::path model;
  at::Device device = at::kCPU;
  ImageOptions images;
  int64_t calibration_images = 512;  // the first so many calibrate and score, the others measure
  bool equalize = false;             // cross-layer equalization
  bool equalize_if_better = false;   // the same where equalizing_helps()
  LayerQuantizationOptions quantization;
  WidthScoreOptions scoring;
};

Graph open_graph(const Request& request);

// Whether cross-layer equalization brings the network closer to what it computes in float32, with weights at
// 4 bits: of the images that calibrate the last quarter is held back, and judges.
bool equalizing_helps(const Request& request);

struct EvaluateResult {
  int64_t images = 0;
  std::optional<Accuracy> accuracy;    // with labels
  std::optional<Agreement> agreement;  // with a reference
};

// Measures a network on images, against their labels and, where one is named, against another network. Throws
// UsageError where there are neither.
EvaluateResult evaluate(const Request& request, const std::filesystem::path& reference);

// A method's costs of widths.
struct ScoreResult {
  std::vector<LayerSize> sizes;
  WidthCosts costs;
  double seconds = 0;
  Json json;
};

ScoreResult score(const Request& request, const std::string& method);

struct QuantizeRequest : Request {
  std::string method = "infoq";
  std::filesystem::path output;
  WidthBudget budget;
  WidthAllocation allocation;
  OnnxExportOptions exporting;
};

// What a network gives on images: how often it is right, where they have labels, and how close it stays to
// the float network.
struct Measured {
  std::optional<Accuracy> accuracy;
  Agreement agreement;
};

struct QuantizeResult {
  std::vector<LayerSize> sizes;
  WidthPlan plan;
  double score_seconds = 0, plan_seconds = 0;
  uint64_t file_bytes = 0;
  std::optional<Accuracy> original;
  Measured simulated, written;  // written: read back from the file
};

QuantizeResult quantize(const QuantizeRequest& request);

struct CompareRequest : Request {
  std::vector<std::string> methods;  // empty = what the images serve
  std::vector<WidthBudget> budgets;
  WidthAllocation allocation;
  int seeds = 5;           // of random
  bool correlate = false;  // measure what narrowing every single layer costs on the reporting images, too
};

struct CompareRow {
  std::string method;
  WidthPlan plan;                // of the last seed
  Measured measured;             // means over seeds
  std::optional<double> spread;  // standard deviation of top-1 over seeds
};

struct Correlation {
  std::string method;
  double drop = 0, cross_entropy = 0;  // Spearman's, with the drop of top-1 and the rise of cross-entropy
  double seconds = 0;                  // scoring
};

struct Comparison {
  int64_t scored = 0, reported = 0;  // images
  std::optional<Accuracy> original;
  Measured eight_bits;
  std::vector<CompareRow> rows;
  std::vector<Correlation> correlations;
};

Comparison compare(const CompareRequest& request);

}  // namespace strata::vision
