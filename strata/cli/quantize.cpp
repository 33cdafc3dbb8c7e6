// strata quantize MODEL --bpw 3.0 -o OUT: score, allocate, quantize, write, measure.
#include "strata/pipeline/quantize.h"

#include <fmt/format.h>

#include "strata/cli/budget.h"
#include "strata/cli/common.h"
#include "strata/cli/quantizer.h"
#include "strata/cli/sensitivity.h"
#include "strata/cli/vision.h"
#include "strata/core/stopwatch.h"
#include "strata/core/units.h"
#include "strata/report/plan_chart.h"
#include "strata/report/table.h"

namespace strata::cli {
namespace {

struct QuantizeArguments {
  QuantizeRequest request;
  std::string model, output, method = "auto", scores, plan, text, plan_output, shard_size;
  BudgetOptions budget;
  SensitivityCliOptions sensitivity;
  QuantizerCliOptions quantizer;
  AllocationOptions allocation;
  VisionCliOptions vision;
};

Table measurements_table(const QuantizeResult& result) {
  Table table;
  table.column("", Table::Align::Left);
  for (const char* title : {"matrices", "PPL", "±", "KLD", "99th percentile", "top-1 %"}) table.column(title);
  for (const Measurement& m : result.measurements) {
    const Evaluation& e = m.evaluation;
    table.row({m.name, format_bytes(m.bytes), fmt::format("{:.3f}", e.ppl),
               fmt::format("{:.3f}", e.ppl_standard_error), e.kld ? fmt::format("{:.4f}", *e.kld) : "",
               e.kld_p99 ? fmt::format("{:.3f}", *e.kld_p99) : "",
               e.top1 ? fmt::format("{:.2f}", 100 * *e.top1) : ""});
  }
  return table;
}

Json to_json(const QuantizeArguments& options, const QuantizeResult& result, double seconds) {
  Json measurements = Json::array();
  for (const Measurement& m : result.measurements) {
    const Evaluation& e = m.evaluation;
    Json one = {{"name", m.name},
                {"bytes", m.bytes},
                {"tokens", e.tokens},
                {"ppl", e.ppl},
                {"ppl_standard_error", e.ppl_standard_error}};
    if (e.kld) {
      one["kld"] = *e.kld;
      one["kld_p99"] = *e.kld_p99;
      one["top1"] = *e.top1;
    }
    measurements.push_back(one);
  }
  return {{"model", options.model},
          {"output", options.output},
          {"format", result.format},
          {"file_bytes", result.exported.file_bytes},
          {"squared_error", result.exported.squared_error},
          {"embedding", result.exported_plan.embedding.name()},
          {"head", result.exported_plan.head.name()},
          {"seconds", seconds},
          {"notes", result.notes},
          {"measurements", measurements},
          {"plan", strata::to_json(result.plan)}};
}

void run(QuantizeArguments& options, const CommonOptions& common, const CLI::App& command) {
  require_apart({options.plan_output}, options.output,
                {options.model, options.scores, options.plan, options.text,
                 options.sensitivity.calibration.source, options.sensitivity.imatrix});
  if (vision::is_onnx(options.model)) {
    quantize_vision_model(options.model, options.output, given(command, "--method", options.method),
                          options.budget.size, options.plan_output, options.vision, common);
    return;
  }
  const Stopwatch stopwatch;
  QuantizeRequest& request = options.request;
  request.model = options.model;
  request.output = options.output;
  request.scores = options.scores;
  request.plan = options.plan;
  request.text = options.text;
  if (!options.shard_size.empty()) request.shard_bytes = parse_bytes(options.shard_size);
  request.method = options.method;
  request.sensitivity = options.sensitivity.resolve(common);
  options.vision.apply_to(request.sensitivity.infoq);
  request.quantizer = options.quantizer.resolve_one();
  request.allocator = options.allocation.resolve();
  request.allocator.budget = options.budget.resolve();
  const QuantizeResult result = quantize(request);
  if (!options.plan_output.empty()) write_plan(options.plan_output, result.plan);
  const double seconds = stopwatch.seconds();
  if (common.json) {
    print_json(to_json(options, result, seconds));
    return;
  }
  fmt::print("{}\n{}", plan_chart(result.scores, result.plan), plan_summary(result.plan));
  fmt::print("file         {}: {} ({} bytes), embedding {}, head {}\n", result.exported.path.string(),
             format_bytes(result.exported.file_bytes), result.exported.file_bytes,
             result.exported_plan.embedding.name(), result.exported_plan.head.name());
  if (!result.measurements.empty())
    fmt::print("\non {}, {} tokens predicted\n{}", options.text, result.measurements.back().evaluation.tokens,
               measurements_table(result).text());
  fmt::print("\ndone in {}\n", format_seconds(seconds));
}

}  // namespace

void add_quantize(Program& program) {
  auto options = std::make_shared<QuantizeArguments>();
  CLI::App* command = add_command(
      program, "quantize", "score, allocate, quantize and write, in one go",
      [&program, options] { run(*options, program.common, *program.app.get_subcommand("quantize")); });
  QuantizeRequest& request = options->request;
  command->add_option("model", options->model, "the model")->required()->type_name("MODEL");
  command->add_option("-o,--output", options->output, "the file or directory to write")
      ->required()
      ->type_name("OUT");
  command->add_option(
      "--format", request.format,
      "gguf (llama.cpp), compressed-tensors (vLLM), gptq, gptq_v2 (GPTQModel, SGLang), mlx, strata (its own, "
      "mixed rows included), or hf (dequantized weights, loads anywhere); by default the output's ending "
      "decides: .gguf, or a "
      "directory for hf");
  command->add_option(
      "--runtime", request.runtime,
      "choose only what vllm, sglang, mlx, llama.cpp or gptqmodel loads today, and say on stderr "
      "what that changed");
  command
      ->add_option("--method", options->method,
                   "NAME or NAME:ALLOCATOR; names: auto (the best known: kl with --calib, uniform:exact "
                   "without), kurtboost, " +
                       method_list() + "; for ONNX models uniform, " + vision_method_list())
      ->capture_default_str();
  command->add_option("--scores", options->scores, "use the scores of this file instead of scoring")
      ->type_name("FILE");
  command
      ->add_option(
          "--plan", options->plan,
          "use this plan instead of scoring and allocating: a plan.json, a .gguf of the same model, whose "
          "types are taken over, or a .txt as llama-quantize takes it with --tensor-type-file")
      ->type_name("FILE");
  command->add_option("--save-plan", options->plan_output, "also write the plan here")->type_name("FILE");
  command->add_option(
      "--shard-size", options->shard_size,
      "write several files of at most this size, such as 2GB (OUT-00001-of-00003.gguf); by default "
      "one GGUF, and safetensors of 5 GB");
  command->add_option("--schemes", request.schemes, "schemes to choose from; by default those of the format");
  options->quantizer.add_to(*command, false);
  command
      ->add_option(
          "--embedding", request.embedding,
          "scheme of the embedding; auto: Q4_K in a GGUF, or the head's where they are tied; else unchanged")
      ->capture_default_str();
  command
      ->add_option("--head", request.head,
                   "scheme of the output matrix; auto: Q6_K in a GGUF, else unchanged")
      ->capture_default_str();
  command
      ->add_option("--text", options->text,
                   "measure the loss on this text, beside a uniform plan of the same bytes")
      ->type_name("FILE");
  command->add_option("--window", request.evaluation.window, "tokens in a window of --text")
      ->check(CLI::Range(2, 1 << 24))
      ->capture_default_str();
  command->add_option("--tokens", request.evaluation.max_tokens, "use only the text's first tokens; 0 = all")
      ->check(CLI::Range(int64_t{0}, int64_t{1} << 40))
      ->capture_default_str();
  options->budget.add_to(*command, "bytes of the whole file");
  options->sensitivity.add_to(*command);
  options->allocation.add_to(*command);
  options->vision.add_images(*command);
  options->vision.add_scoring(*command);
  options->vision.add_budget(*command, false);
  options->vision.add_int8(*command);
  for (const char* decided : {"--method", "--scores", "--schemes", "--bpw", "--avg-bits", "--size"})
    command->get_option("--plan")->excludes(command->get_option(decided));
}

}  // namespace strata::cli
