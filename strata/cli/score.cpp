// strata score MODEL --method nsds [-o scores.json]: the sensitivity of every layer.
#include <fmt/format.h>

#include <algorithm>

#include "strata/cli/common.h"
#include "strata/cli/evidence.h"
#include "strata/cli/vision.h"
#include "strata/core/ranks.h"
#include "strata/device/device.h"
#include "strata/model/boundary_modules.h"
#include "strata/model/value_heads.h"
#include "strata/pipeline/workbench.h"
#include "strata/quantization/scheme.h"
#include "strata/report/table.h"
#include "strata/sensitivity/module_scores.h"

namespace strata::cli {
namespace {

struct ScoreArguments {
  std::string model, method = "nsds", output, schemes, imatrix_output;
  WorkbenchOptions workbench;
  VisionArguments vision;
};

Table table_of(const Scores& scores) {
  double lowest = scores.scores.front().score, highest = lowest;
  for (const Score& score : scores.scores) {
    lowest = std::min(lowest, score.score);
    highest = std::max(highest, score.score);
  }
  Table table;
  table.column("layer");
  if (scores.per_module) table.column("module", Table::Align::Left);
  table.column(scores.method);
  table.column("", Table::Align::Left);
  for (const Score& score : scores.scores) {
    std::vector<std::string> cells = {fmt::format("{}", score.layer)};
    if (scores.per_module) cells.push_back(score.module);
    cells.push_back(fmt::format("{:.6g}", score.score));
    cells.push_back(bar(highest > lowest ? (score.score - lowest) / (highest - lowest) : 0, 30));
    table.row(std::move(cells));
  }
  return table;
}

void run(ScoreArguments& options, const CommonOptions& common, const Command& command) {
  WorkbenchOptions& evidence = options.workbench;
  require_apart({options.output, options.imatrix_output}, "",
                {options.model, evidence.calibration.source, evidence.imatrix});
  if (kind_of_model(command, options.model) == ModelKind::Onnx) {
    if (is_first_rank())
      score_vision(options.model, command.given("method") ? options.method : "", options.output,
                   options.vision, common);
    return;
  }
  evidence.device = parse_device(common.device);
  evidence.seed = common.seed;
  Workbench bench(open_model(options.model), evidence);
  const std::vector<Scheme> schemes =
      options.schemes.empty() ? std::vector<Scheme>() : parse_schemes(options.schemes);
  if (!options.imatrix_output.empty()) {
    // As llama.cpp's imatrix tool does; the tokens then serve the method.
    const std::shared_ptr<const Calibration> tokens = bench.calibration("--save-imatrix");
    if (is_first_rank())
      write_imatrix(options.imatrix_output, measure_imatrix(with_value_heads(bench.model(), true), *tokens,
                                                            evidence.device, evidence.cache));
  }
  MethodChoice method;
  method.label = method.score_method = options.method;
  AllocatorOptions any_plan;  // which may choose embedding and head
  any_plan.boundaries = allocation_modules(boundary_modules(bench.model()));
  const Scores& scores = bench.scores(method, schemes, common.seed, &any_plan);
  if (!is_first_rank()) return;
  if (!options.output.empty()) write_scores(options.output, scores);
  if (common.json)
    print_json(to_json(scores));
  else
    fmt::print("{}", table_of(scores).text());
}

}  // namespace

void add_score(Program& program) {
  auto [command, options] =
      add_command<ScoreArguments>(program, "score", "measure how sensitive every layer is", run);
  command.argument("model", options.model, "MODEL", "the model");
  command.add(
      "Scores",
      {everyday(text("method", options.method, "NAME",
                     "one of " + names(sensitivity_methods()) + "; for ONNX models " + vision_method_list())),
       everyday(text("output", options.output, "FILE", "write scores.json here"))});
  command.add("Scores",
              {everyday(text("schemes", options.schemes, "LIST",
                             "also give the cost of every matrix in these schemes, such as affine or gguf")),
               text("save-imatrix", options.imatrix_output, "FILE",
                    "also measure the mean squares of every matrix's inputs and write them as llama.cpp "
                    "does")},
              ModelKind::Language);
  add_evidence(command, options.workbench);
  options.vision.add_images(command);
  options.vision.add_scoring(command);
}

}  // namespace strata::cli
