#include "strata/pipeline/model_card.h"

#include <fmt/format.h>

#include "strata/core/error.h"
#include "strata/core/file.h"
#include "strata/core/units.h"
#include "strata/export/formats.h"
#include "strata/export/run_commands.h"
#include "strata/pipeline/quantize_report.h"

namespace strata {
namespace {

constexpr const char* kMark = "quantized_by: strata\n";  // in the header of every card

// As YAML reads it, whatever characters it has.
std::string quoted(const std::string& text) {
  return Json(text).dump(-1, ' ', true, Json::error_handler_t::replace);
}

std::string name_of_model(const QuantizeRequest& request) {
  const std::filesystem::path path = std::filesystem::absolute(request.model).lexically_normal();
  return (path.has_filename() ? path : path.parent_path()).filename().string();
}

// The program that hubs show how to load it with.
std::string library_of(const std::string& format) {
  if (format == "gguf" || format == "mlx") return format;
  return format == "strata" ? "strata" : "transformers";
}

Table losses_table(const QuantizeResult& result) {
  double weights = 0;
  for (const Assignment& one : result.plan.assignments) weights += static_cast<double>(one.rows * one.cols);
  Table table;
  table.column("", Table::Align::Left);
  for (const char* title : {"bits a weight", "PPL", "KLD", "top-1 %"}) table.column(title);
  for (const Measurement& m : result.measurements) {
    const Evaluation& e = m.evaluation;
    table.row({m.name, fmt::format("{:.4f}", 8 * static_cast<double>(m.bytes) / weights),
               fmt::format("{:.3f} ± {:.3f}", e.ppl, e.ppl_standard_error),
               e.kld ? fmt::format("{:.4f}", *e.kld) : "",
               e.top1 ? fmt::format("{:.2f}", 100 * *e.top1) : ""});
  }
  return table;
}

}  // namespace

std::string model_card(const QuantizeRequest& request, const QuantizeResult& result) {
  const std::string name = name_of_model(request);
  const Plan& plan = result.plan;
  std::string card = fmt::format(
      "---\nbase_model: {}\nbase_model_relation: quantized\n{}library_name: {}\npipeline_tag: "
      "text-generation\ntags:\n- strata\n- quantized\n- mixed-precision\n- {}\n---\n\n",
      quoted(name), kMark, library_of(result.format), result.format);
  card += fmt::format("# {}, {:.2f} bits a weight\n\n", name, plan.bits_per_weight);
  card += fmt::format(
      "{} quantized by {}: every matrix has the scheme that its sensitivity deserves. The layers' matrices "
      "take "
      "{:.4f} stored bits a weight, scales and padding included; the whole file takes {:.4f}, {} ({} "
      "bytes).\n\n",
      name, request.program, plan.bits_per_weight, plan.file_bits.value_or(0),
      format_bytes(result.exported.file_bytes), result.exported.file_bytes);
  if (!result.measurements.empty())
    card += fmt::format(
        "## What was lost\n\nOn {}, {} tokens predicted in windows of {}; KLD is the KL divergence from the "
        "unquantized model in nats a token, and bits are those of the layers' matrices.\n\n{}\n",
        request.text.filename().string(), result.measurements.back().evaluation.tokens,
        request.evaluation.window, losses_table(result).markdown());
  if (result.held_back_kld)
    card += fmt::format("On tokens held back from scoring the KL divergence is {:.4f}.\n\n",
                        *result.held_back_kld);
  card += "## Recipe\n\n" + recipe_table(result).markdown() +
          fmt::format(
              "\nMethod {}, allocator {}, budget {}.\n\n", plan.method.empty() ? "given" : plan.method,
              plan.allocator.empty() ? "none" : plan.allocator, plan.budget.empty() ? "none" : plan.budget);
  // Where the reader has the files, wherever they were written.
  const auto at = std::filesystem::absolute(result.exported.path).lexically_normal().filename();
  card += "## To run it\n\n```\n";
  for (const std::string& command : run_commands(result.format, at)) card += command + "\n";
  return card + "```\n";
}

std::filesystem::path card_path(const std::filesystem::path& output) {
  return format_for(output).ending.empty() ? output / "README.md" : output.parent_path() / "README.md";
}

void require_card_of_ours(const std::filesystem::path& output) {
  const std::filesystem::path path = card_path(output);
  std::error_code ignored;
  if (!std::filesystem::exists(path, ignored)) return;
  const std::string there = read_text(path);
  if (there.rfind("---\n", 0) != 0 || there.find(kMark) == std::string::npos)
    fail_usage("{} is there and strata did not write it; move it away, or leave --card out", path.string());
}

void write_card(const QuantizeRequest& request, const QuantizeResult& result) {
  write_text(card_path(request.output), model_card(request, result));
}

}  // namespace strata
