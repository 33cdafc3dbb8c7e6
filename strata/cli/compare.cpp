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
#include "strata/core/file.h"
#include "strata/pipeline/comparison_file.h"
#include "strata/pipeline/comparison_report.h"

namespace strata::cli {
namespace {

struct CompareArguments {
  CompareRequest request;
  std::string model, methods = "uniform,random,first-last,weight-error,zd,ewq,kurtboost,nsds",
                     budgets = "2.5,3,3.5,4.5";
  std::vector<std::string> texts;
  std::string html, svg;
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

Json json_of(const Comparison& comparison, const CompareArguments& options) {
  Json rows = Json::array();
  for (const CompareRow& row : comparison.unquantized) rows.push_back(row_json(row));
  for (const CompareRow& row : comparison.rows) rows.push_back(row_json(row));
  Json document = {{"model", options.model}, {"schemes", options.request.schemes}, {"rows", rows}};
  if (!comparison.correlations.empty()) {
    Json correlations = Json::object();
    for (const ScoreCorrelation& row : comparison.correlations)
      correlations[row.method] = row.rank_correlation;
    document["layer_kld"] = comparison.layer_kld;
    document["rank_correlations"] = correlations;
  }
  return document;
}

// A file a chart: ppl-TEXT.svg and kld-TEXT.svg.
void write_charts(const Comparison& comparison, const std::filesystem::path& directory) {
  std::filesystem::create_directories(directory);
  const std::vector<LineChart> charts = comparison_charts(comparison);
  for (size_t i = 0; i < charts.size(); ++i) {
    const std::string& text = comparison.unquantized[i / 2].text;
    write_text(directory / ((i % 2 == 0 ? "ppl-" : "kld-") + text + ".svg"), svg(charts[i]));
  }
}

void print_tables(const Comparison& comparison, bool markdown) {
  const auto print = [&](const Table& table) {
    fmt::print("{}", markdown ? table.markdown() : table.text());
  };
  print(comparison_table(comparison));
  if (comparison.correlations.empty()) return;
  fmt::print("\nrank correlation of the scores with the KL divergence of quantizing one layer alone\n\n");
  print(correlation_table(comparison));
}

void run(CompareArguments& options, const CommonOptions& common, const CLI::App& command) {
  if (vision::is_onnx(options.model)) {
    compare_vision_methods(options.model, given(command, "--methods", options.methods), options.request.seeds,
                           options.markdown, options.vision, common);
    return;
  }
  require_text(options.texts.empty() ? "" : options.texts.front());
  CompareRequest& request = options.request;
  std::vector<std::string> read = options.texts;
  read.push_back(options.model);
  require_apart({options.html}, request.results.string(), read);
  request.model = options.model;
  for (const std::string& text : options.texts) request.texts.emplace_back(text);
  request.methods = split(options.methods);
  for (const std::string& budget : split(options.budgets)) request.budgets.push_back(parse_budget(budget));
  request.sensitivity = options.sensitivity.resolve(common);
  options.vision.apply_to(request.sensitivity.infoq);
  request.quantizers = options.quantizer.resolve();
  request.allocator = options.allocation.resolve();
  const Comparison comparison = compare(request);
  if (!options.html.empty()) write_text(options.html, comparison_page(comparison, options.model));
  if (!options.svg.empty()) write_charts(comparison, options.svg);
  if (common.json)
    print_json(json_of(comparison, options));
  else
    print_tables(comparison, options.markdown);
}

}  // namespace

void add_compare(Program& program) {
  auto options = std::make_shared<CompareArguments>();
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
  command->add_flag("--correlations", request.correlations,
                    "also rank-correlate every score with the measured loss of each layer alone");
  command
      ->add_option("--results", request.results,
                   "save finished cells here and take them from here: an interrupted comparison goes on")
      ->type_name("FILE");
  command->add_option("--html", options->html, "write plots and tables as one page")->type_name("FILE");
  command->add_option("--svg", options->svg, "write the plots into this directory")->type_name("DIR");
  command->add_flag("--markdown", options->markdown, "print the table as Markdown");
  options->sensitivity.add_to(*command);
  options->allocation.add_to(*command);
  options->vision.add_images(*command);
  options->vision.add_scoring(*command);
  options->vision.add_budget(*command, true);
  options->vision.add_correlate(*command);
}

}  // namespace strata::cli
