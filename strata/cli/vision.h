#pragma once

#include <CLI/CLI.hpp>
#include <optional>
#include <string>
#include <vector>

#include "strata/cli/common.h"
#include "strata/pipeline/vision.h"
#include "strata/sensitivity/method.h"

namespace strata::cli {

// What the commands understand when MODEL is an .onnx file.
struct VisionCliOptions {
  // images
  std::string images, labels, mean, deviation, layout = "nchw";
  int64_t count = 0, resize = 0, crop = 0, calibration = 512;
  bool equalize = false;
  // quantization
  std::string weight_range = "mse", activation_range = "mse";
  double percentile = 99.99;
  bool no_bias_correction = false;
  // scores
  std::string evidence = "labels", observers = "blocks", embedding;
  bool no_inverse_width = false, free_ends = false;
  int64_t directions = 128, hessian_images = 128;
  int neighbours = 3, hessian_samples = 8;
  // budget
  std::string compression, bitops, bitops_ratio;
  double alpha = 1;
  // output
  bool int8_only = false;
  // compare
  bool correlate = false;

  void add_images(CLI::App& command);
  void add_scoring(CLI::App& command);  // and quantization
  void add_budget(CLI::App& command, bool several);
  void add_correlate(CLI::App& command);
  void add_int8(CLI::App& command);

  // What language models share with CNNs.
  void apply_to(InfoqOptions& infoq) const;

  vision::VisionRequest resolve(const std::string& model, const CommonOptions& common,
                                bool needs_images = true) const;
};

// "infoq, kl, ..." for help texts.
std::string vision_method_list();

// What was given for an option; empty where its default stands.
std::string given(const CLI::App& command, const std::string& option, const std::string& value);

// Throws UsageError when a language model's text is missing.
void require_text(const std::string& text);

// The commands' work on ONNX models. `method` is empty where none was asked for.
void inspect_vision(const std::string& model, const CommonOptions& common);
void eval_vision(const std::string& model, const VisionCliOptions& options, const CommonOptions& common);
void score_vision_model(const std::string& model, const std::string& method, const std::string& output,
                        const VisionCliOptions& options, const CommonOptions& common);
void quantize_vision_model(const std::string& model, const std::string& output, const std::string& method,
                           const std::string& size, const std::string& plan_output,
                           const VisionCliOptions& options, const CommonOptions& common);
void compare_vision_methods(const std::string& model, const std::string& methods, int seeds, bool markdown,
                            const VisionCliOptions& options, const CommonOptions& common);

}  // namespace strata::cli
