#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>

#include "strata/cli/common.h"
#include "strata/pipeline/vision.h"

namespace strata::cli {

// What the commands understand when MODEL is an .onnx file.
struct VisionArguments {
  vision::Request request;
  vision::WidthAllocation allocation;
  vision::OnnxExportOptions exporting;
  std::string compression, bitops, bitops_ratio;  // budgets, one or a list
  bool correlate = false;

  void add_images(Command& command);
  void add_scoring(Command& command);  // and quantization
  void add_budget(Command& command, bool several);
  void add_correlate(Command& command);
  void add_int8(Command& command);
};

// "infoq, kl, ..." for help texts.
std::string vision_method_list();

// Throws UsageError when a language model's text is missing.
void require_text(const std::string& text);

// The commands' work on ONNX models. `method` is empty where none was asked for.
void inspect_vision(const std::string& model, const CommonOptions& common);
void eval_vision(const std::string& model, const std::string& reference, const VisionArguments& arguments,
                 const CommonOptions& common);
void score_vision(const std::string& model, const std::string& method, const std::string& output,
                  const VisionArguments& arguments, const CommonOptions& common);
void quantize_vision(const std::string& model, const std::string& output, const std::string& method,
                     std::optional<uint64_t> bytes, const std::filesystem::path& plan_output,
                     const VisionArguments& arguments, const CommonOptions& common);
void compare_vision(const std::string& model, const std::string& methods, int seeds, bool markdown,
                    const VisionArguments& arguments, const CommonOptions& common);

}  // namespace strata::cli
