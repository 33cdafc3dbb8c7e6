// strata compare MODEL --text FILE --methods a,b,c --bpw 2.5,3,4: the methods side by side at equal stored
// bytes.
#include "strata/pipeline/compare.h"

#include <fmt/format.h>

#include "strata/cli/budget.h"
#include "strata/cli/common.h"
#include "strata/cli/quantizer.h"
#include "strata/cli/sensitivity.h"
#include "strata/cli/vision.h"
#include "strata/core/error.h"
#include "strata/report/table.h"

namespace strata::cli {
namespace {

struct Options {
  CompareRequest request;
  std::string model, methods = "uniform,random,first-last,weight-error,zd,ewq,kurtboost,nsds",
                     budgets = "2.5,3,3.5,4.5";
  std::vector<std::string> texts;
  bool markdown = false;
  SensitivityCliOptions sensitivity;
  QuantizerCliOptions quantizer;
  AllocationOptions allocation;
  VisionCliOptions vision;
};

double parse_budget(const std::string& text) {
  char* end = nullptr;
  const double value = std::strtod(text.c_str(), &end);
  if (end == text.c_str() || *end != '\0' || !(value > 0))
    fail_usage("--bpw {} is not a number of bits above 0", text);
  return value;
}

Json row_json(const CompareRow& row) {
  Json json = {{"method", row.method},
               {"budget", row.budget},
               {"bits_per_weight", row.bits_per_weight},
               {"bytes", row.bytes},
               {"text", row.text},
               {"ppl", row.evaluation.ppl},
               {"ppl_standard_error", row.evaluation.ppl_standard_error}};
  if (row.evaluation.kld) {
    json["kld"] = *row.evaluation.kld;
    json["kld_p99"] = *row.evaluation.kld_p99;
    json["top1"] = *row.evaluation.top1;
  }
  if (!row.quantizer.empty()) json["quantizer"] = row.quantizer;
  if (row.spread) json["ppl_spread"] = *row.spread;
  json["seconds"] = row.seconds;
  return json;
}

// One line a method and budget, the texts side by side.
Table table_of(const Comparison& comparison) {
  Table table;
  table.column("asked bpw");
  table.column("method", Table::Align::Left);
  table.column("quantizer", Table::Align::Left);
  table.column("bpw");
  table.column("bytes");
  for (const CompareRow& row : comparison.unquantized) {
    table.column("PPL " + row.text);
    table.column("KLD");
    table.column("top-1 %");
  }
  table.column("seconds");
  const size_t texts = comparison.unquantized.size();
  const auto add = [&](const CompareRow* rows, const std::string& asked) {
    std::vector<std::string> cells = {asked, rows->method, rows->quantizer,
                                      fmt::format("{:.3f}", rows->bits_per_weight),
                                      fmt::format("{}", rows->bytes)};
    for (size_t t = 0; t < texts; ++t) {
      const Evaluation& e = rows[t].evaluation;
      cells.push_back(
          fmt::format("{:.3f}{}", e.ppl, rows[t].spread ? fmt::format(" ± {:.2f}", *rows[t].spread) : ""));
      cells.push_back(e.kld ? fmt::format("{:.4f}", *e.kld) : "");
      cells.push_back(e.top1 ? fmt::format("{:.2f}", 100 * *e.top1) : "");
    }
    cells.push_back(fmt::format("{:.1f}", rows->seconds));
    table.row(std::move(cells));
  };
  add(comparison.unquantized.data(), "");
  for (size_t i = 0; i < comparison.rows.size(); i += texts)
    add(&comparison.rows[i], fmt::format("{:g}", comparison.rows[i].budget));
  return table;
}

void run(Options& options, const CommonOptions& common, const CLI::App& command) {
  if (is_onnx(options.model)) {
    compare_vision_methods(options.model, given(command, "--methods", options.methods), options.request.seeds,
                           options.markdown, options.vision, common);
    return;
  }
  require_text(options.texts.empty() ? "" : options.texts.front());
  CompareRequest& request = options.request;
  request.model = options.model;
  for (const std::string& text : options.texts) request.texts.emplace_back(text);
  request.methods = split(options.methods);
  for (const std::string& budget : split(options.budgets)) request.budgets.push_back(parse_budget(budget));
  request.sensitivity = options.sensitivity.resolve(common);
  request.quantizers = options.quantizer.resolve();
  request.allocator = options.allocation.resolve();
  const Comparison comparison = compare(request);
  if (common.json) {
    Json rows = Json::array();
    for (const CompareRow& row : comparison.unquantized) rows.push_back(row_json(row));
    for (const CompareRow& row : comparison.rows) rows.push_back(row_json(row));
    print_json({{"model", options.model}, {"schemes", request.schemes}, {"rows", rows}});
    return;
  }
  const Table table = table_of(comparison);
  fmt::print("{}", options.markdown ? table.markdown() : table.text());
}

}  // namespace

void add_compare(Program& program) {
  auto options = std::make_shared<Options>();
  CLI::App* command = add_command(
      program, "compare", "put methods side by side at equal stored bytes",
      [&program, options] { run(*options, program.common, *program.app.get_subcommand("compare")); });
  CompareRequest& request = options->request;
  command->add_option("model", options->model, "the model")->required()->type_name("MODEL");
  command->add_option("--text", options->texts, "texts to measure on")->type_name("FILE");
  command->add_option("--methods", options->methods, "methods, each NAME or NAME:ALLOCATOR")
      ->capture_default_str();
  command->add_option("--bpw", options->budgets, "budgets in stored bits a weight")->capture_default_str();
  command->add_option("--schemes", request.schemes, "schemes to choose from")->capture_default_str();
  options->quantizer.add_to(*command, true);
  command->add_option("--seeds", request.seeds, "runs of the method random")
      ->check(CLI::Range(1, 1000))
      ->capture_default_str();
  command->add_option("--window", request.evaluation.window, "tokens in a window")
      ->check(CLI::Range(2, 1 << 24))
      ->capture_default_str();
  command->add_option("--tokens", request.evaluation.max_tokens, "use only each text's first tokens; 0 = all")
      ->check(CLI::Range(int64_t{0}, int64_t{1} << 40))
      ->capture_default_str();
  command->add_flag("--markdown", options->markdown, "print the table as Markdown");
  options->sensitivity.add_to(*command);
  options->allocation.add_to(*command);
  options->vision.add_images(*command);
  options->vision.add_scoring(*command);
  options->vision.add_budget(*command, true);
  options->vision.add_correlate(*command);
}

}  // namespace strata::cli
