// strata score MODEL --method nsds [-o scores.json]: the sensitivity of every layer.
#include <fmt/format.h>

#include <algorithm>

#include "strata/cli/common.h"
#include "strata/cli/sensitivity.h"
#include "strata/cli/vision.h"
#include "strata/model/model.h"
#include "strata/quantization/scheme.h"
#include "strata/report/table.h"

namespace strata::cli {
namespace {

struct ScoreArguments {
  std::string model, method = "nsds", output, schemes, imatrix_output, interactions = "on";
  SensitivityCliOptions sensitivity;
  VisionCliOptions vision;
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

// Measures what llama.cpp's imatrix tool does. The tokens then serve the method, too.
void save_imatrix(const Model& model, SensitivityOptions& sensitivity, const std::string& path) {
  sensitivity.calibration =
      require_calibration(model, sensitivity.calibration_source, sensitivity.device, "--save-imatrix");
  write_imatrix(path,
                measure_imatrix(model, *sensitivity.calibration, sensitivity.device, sensitivity.cache));
}

void run(const ScoreArguments& options, const CommonOptions& common, const CLI::App& command) {
  require_apart({options.output, options.imatrix_output}, "",
                {options.model, options.sensitivity.calibration.source, options.sensitivity.imatrix});
  if (vision::is_onnx(options.model))
    return score_vision_model(options.model, given(command, "--method", options.method), options.output,
                              options.vision, common);
  const Model model = open_model(options.model);
  SensitivityOptions sensitivity = options.sensitivity.resolve(common);
  options.vision.apply_to(sensitivity.infoq);
  if (!options.schemes.empty()) sensitivity.schemes = parse_schemes(options.schemes);
  sensitivity.high_impact.interactions = options.interactions == "on";
  if (!options.imatrix_output.empty()) save_imatrix(model, sensitivity, options.imatrix_output);
  const Scores scores = score(model, options.method, sensitivity);
  if (!options.output.empty()) write_scores(options.output, scores);
  if (common.json)
    print_json(to_json(scores));
  else
    fmt::print("{}", table_of(scores).text());
}

}  // namespace

void add_score(Program& program) {
  auto options = std::make_shared<ScoreArguments>();
  CLI::App* command = add_command(
      program, "score", "measure how sensitive every layer is",
      [&program, options] { run(*options, program.common, *program.app.get_subcommand("score")); });
  command->add_option("model", options->model, "the model")->required()->type_name("MODEL");
  command
      ->add_option("--method", options->method,
                   "one of " + method_list() + "; for ONNX models " + vision_method_list())
      ->capture_default_str();
  command->add_option("-o,--output", options->output, "write scores.json here")->type_name("FILE");
  command->add_option("--schemes", options->schemes,
                      "also give the cost of every matrix in these schemes, such as affine or gguf");
  command
      ->add_option("--save-imatrix", options->imatrix_output,
                   "also measure the mean squares of every matrix's inputs and write them as llama.cpp does")
      ->type_name("FILE");
  command
      ->add_option(
          "--interactions", options->interactions,
          "high-impact: on, or off to measure single matrices alone, which takes a tenth of the time")
      ->check(CLI::IsMember({"on", "off"}))
      ->capture_default_str();
  options->sensitivity.add_to(*command);
  options->vision.add_images(*command);
  options->vision.add_scoring(*command);
}

}  // namespace strata::cli
