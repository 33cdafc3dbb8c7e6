// strata compare MODEL --text FILE --methods a,b,c --bpw 2.5,3,4: the methods side by side at equal stored
// bytes.
#include "strata/pipeline/compare.h"

#include <fmt/format.h>

#include "strata/cli/budget.h"
#include "strata/cli/common.h"
#include "strata/cli/evidence.h"
#include "strata/cli/vision.h"
#include "strata/core/error.h"
#include "strata/core/file.h"
#include "strata/core/ranks.h"
#include "strata/device/device.h"
#include "strata/pipeline/comparison_file.h"
#include "strata/pipeline/comparison_report.h"

namespace strata::cli {
namespace {

struct CompareArguments {
  CompareRequest request;
  std::string model, methods = "uniform,random,first-last,weight-error,zd,ewq,kurtboost,nsds",
                     budgets = "2.5,3,3.5,4.5", quantizers = "hqq";
  OptionValues quantizer_options;
  std::string html, svg;
  bool markdown = false;
  VisionArguments vision;
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
  document["embedding_bits_per_weight"] = comparison.embedding_bits;
  if (comparison.head_bits > 0) document["head_bits_per_weight"] = comparison.head_bits;
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
  fmt::print(
      "\nbpw and bytes count the matrices of the layers; {} unquantized, with {} bits a weight\n",
      comparison.head_bits > 0 ? "embedding and head stay" : "the embedding, which is the head too, stays",
      comparison.head_bits > 0 ? fmt::format("{:g} and {:g}", comparison.embedding_bits, comparison.head_bits)
                               : fmt::format("{:g}", comparison.embedding_bits));
  if (comparison.correlations.empty()) return;
  fmt::print("\nrank correlation of the scores with the KL divergence of quantizing one layer alone\n\n");
  print(correlation_table(comparison));
}

void run(CompareArguments& options, const CommonOptions& common, const Command& command) {
  CompareRequest& request = options.request;
  if (kind_of_model(command, options.model) == ModelKind::Onnx) {
    if (is_first_rank())
      compare_vision(options.model, command.given("methods") ? options.methods : "", request.seeds,
                     options.markdown, options.vision, common);
    return;
  }
  require_text(request.texts.empty() ? "" : request.texts.front().string());
  std::vector<std::string> read(request.texts.begin(), request.texts.end());
  read.push_back(options.model);
  require_apart({options.html}, request.results.string(), read);
  request.model = options.model;
  request.methods = split(options.methods);
  for (const std::string& budget : split(options.budgets)) request.budgets.push_back(parse_budget(budget));
  request.workbench.device = parse_device(common.device);
  request.workbench.seed = common.seed;
  request.quantizers.clear();
  for (const std::string& name : split(options.quantizers))
    request.quantizers.push_back({find_quantizer(name).name, options.quantizer_options});
  const Comparison comparison = compare(request);
  if (!is_first_rank()) return;
  if (!options.html.empty()) write_text(options.html, comparison_page(comparison, options.model));
  if (!options.svg.empty()) write_charts(comparison, options.svg);
  if (common.json)
    print_json(json_of(comparison, options));
  else
    print_tables(comparison, options.markdown);
}

}  // namespace

void add_compare(Program& program) {
  auto [command, options] = add_command<CompareArguments>(
      program, "compare", "put methods side by side at equal stored bytes", run);
  CompareRequest& request = options.request;
  command.argument("model", options.model, "MODEL", "the model");
  command.add("Comparison",
              {everyday(text("methods", options.methods, "LIST", "methods, each NAME or NAME:ALLOCATOR")),
               number("seeds", request.seeds, 1, 1000, "runs of the method random"),
               flag("markdown", options.markdown, "print the table as Markdown")});
  command.add(
      "Comparison",
      {everyday(paths("text", request.texts, "FILE", "texts to measure on")),
       everyday(text("bpw", options.budgets, "LIST", "budgets in stored bits a weight")),
       text("schemes", request.schemes, "LIST", "schemes to choose from"),
       everyday(text("quantizer", options.quantizers, "LIST",
                     "a list of: " + names(quantizers()) +
                         "; rtn and hqq look at weights alone, the others at calibration text (--calib) too; "
                         "GGUF types have their own rounding in the place of rtn and hqq")),
       number("window", request.evaluation.window, 2, 1 << 24, "tokens in a window"),
       everyday(number("tokens", request.evaluation.max_tokens, 0, int64_t{1} << 40,
                       "use only each text's first tokens; 0 = all")),
       flag("correlations", request.correlations,
            "also rank-correlate every score with the measured loss of each layer alone"),
       everyday(
           path("results", request.results, "FILE",
                "save finished cells here and take them from here: an interrupted comparison goes on, and "
                "what another one measured of the same model, text and options is not measured again")),
       everyday(text("html", options.html, "FILE", "write plots and tables as one page")),
       text("svg", options.svg, "DIR", "write the plots into this directory")},
      ModelKind::Language);
  add_evidence(command, request.workbench);
  add_quantizers(command, options.quantizer_options);
  add_allocation(command, request.allocator);
  options.vision.add_images(command);
  options.vision.add_scoring(command);
  options.vision.add_budget(command, true);
  options.vision.add_correlate(command);
}

}  // namespace strata::cli
