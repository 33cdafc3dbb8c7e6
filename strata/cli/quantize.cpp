// strata quantize MODEL --bpw 3.0 -o OUT: score, allocate, quantize, write, measure.
#include "strata/pipeline/quantize.h"

#include <fmt/format.h>

#include "strata/cli/budget.h"
#include "strata/cli/common.h"
#include "strata/cli/evidence.h"
#include "strata/cli/vision.h"
#include "strata/core/error.h"
#include "strata/core/file.h"
#include "strata/core/ranks.h"
#include "strata/core/stopwatch.h"
#include "strata/core/units.h"
#include "strata/device/device.h"
#include "strata/pipeline/model_card.h"
#include "strata/pipeline/quantize_report.h"
#include "strata/report/plan_chart.h"

namespace strata::cli {
namespace {

struct QuantizeArguments {
  QuantizeRequest request;
  std::string model, output, shard_size;
  std::filesystem::path plan_output, report;
  bool card = false;
  VisionArguments vision;
};

// What was lost, as far as that is known, and what a greater effort would cost.
std::string loss_line(const QuantizeResult& result) {
  std::string line = "not measured; --text FILE does";
  if (!result.measurements.empty() && result.measurements.back().evaluation.kld)
    line = fmt::format("KL divergence {:.4f} on the text", *result.measurements.back().evaluation.kld);
  if (result.held_back_kld)
    line = fmt::format("KL divergence {:.4f} on tokens held back from scoring", *result.held_back_kld);
  if (result.tuning)
    line = fmt::format("KL divergence {:.4f} on tokens held back, before tuning {:.4f}", result.tuning->after,
                       result.tuning->before);
  bool greater = false, first = true;
  for (const Estimate& one : result.estimates) {
    if (greater)
      line += fmt::format("{}{}{} {}", first ? "; --effort " : ", ", one.effort,
                          first ? " would take about" : "", rough_cost(one));
    first = first && !greater;
    greater = greater || one.effort == result.effort;
  }
  return line;
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
  Json estimates = Json::object();
  for (const Estimate& one : result.estimates)
    estimates[one.effort] = {{"seconds", one.seconds}, {"bytes", one.bytes}};
  return {{"model", options.model},
          {"output", options.output},
          {"format", result.format},
          {"file_bytes", result.exported.file_bytes},
          {"squared_error", result.exported.squared_error},
          {"embedding", result.exported_plan.embedding.name()},
          {"head", result.exported_plan.head.name()},
          {"layer_embedding", result.exported_plan.layer_embedding
                                  ? Json(result.exported_plan.layer_embedding->name())
                                  : Json(nullptr)},
          {"tuning", result.tuning ? Json{{"before", result.tuning->before}, {"after", result.tuning->after}}
                                   : Json(nullptr)},
          {"effort", result.effort},
          {"estimates", estimates},
          {"held_back_kld", result.held_back_kld ? Json(*result.held_back_kld) : Json(nullptr)},
          {"seconds", seconds},
          {"notes", result.notes},
          {"measurements", measurements},
          {"plan", strata::to_json(result.plan)}};
}

void run(QuantizeArguments& options, const CommonOptions& common, const Command& command) {
  QuantizeRequest& request = options.request;
  WorkbenchOptions& evidence = request.workbench;
  require_apart({options.plan_output, options.report}, options.output,
                {options.model, request.scores, request.plan, request.text, evidence.calibration.source,
                 evidence.imatrix});
  if (kind_of_model(command, options.model) == ModelKind::Onnx) {
    if (is_first_rank())
      quantize_vision(options.model, options.output, command.given("method") ? request.method : "",
                      request.allocator.budget.bytes, options.plan_output, options.vision, common);
    return;
  }
  for (const char* decided : {"method", "scores", "schemes", "bpw", "avg-bits", "size"})
    if (command.given("plan") && command.given(decided))
      fail_usage("--plan excludes --{}, which a plan has decided; leave one of them out", decided);
  const Stopwatch stopwatch;
  request.model = options.model;
  request.output = options.output;
  request.program = "strata " STRATA_VERSION;
  if (!options.shard_size.empty()) request.shard_bytes = parse_bytes(options.shard_size);
  evidence.device = parse_device(common.device);
  evidence.seed = common.seed;
  if (request.quantizer.name.find(',') != std::string::npos)
    fail_usage("--quantizer takes one quantizer here, but '{}' was given", request.quantizer.name);
  if (request.quantizer.name != "auto") find_quantizer(request.quantizer.name);
  if (options.card) require_card_of_ours(options.output);
  const QuantizeResult result = quantize(request);
  if (!is_first_rank()) return;
  if (!options.plan_output.empty()) write_plan(options.plan_output, result.plan);
  if (!options.report.empty()) write_text(options.report, quantize_page(request, result));
  if (options.card) write_card(request, result);
  const double seconds = stopwatch.seconds();
  if (common.json) {
    print_json(to_json(options, result, seconds));
    return;
  }
  fmt::print("{}\n{}", plan_chart(result.scores, result.plan), plan_summary(result.plan));
  fmt::print("file         {}: {} ({} bytes), {:.4f} bits a weight\n", result.exported.path.string(),
             format_bytes(result.exported.file_bytes), result.exported.file_bytes,
             result.plan.file_bits.value_or(0));
  if (!result.estimates.empty() || result.held_back_kld || result.tuning)
    fmt::print("lost         {}\n", loss_line(result));
  if (!result.measurements.empty())
    fmt::print("\non {}, {} tokens predicted\n{}", request.text.string(),
               result.measurements.back().evaluation.tokens, measurements_table(result).text());
  fmt::print("\ndone in {}\n", format_seconds(seconds));
}

}  // namespace

void add_quantize(Program& program) {
  auto [command, options] = add_command<QuantizeArguments>(
      program, "quantize", "score, allocate, quantize and write, in one go", run);
  QuantizeRequest& request = options.request;
  command.argument("model", options.model, "MODEL", "the model");
  command.add("Output", {everyday(text("output", options.output, "OUT", "the file or directory to write")),
                         path("save-plan", options.plan_output, "FILE", "also write the plan here")});
  command.add("Output",
              {path("report", options.report, "FILE.html",
                    "also write all of it as one page: plan, other budgets, what was lost where"),
               flag("card", options.card,
                    "also write README.md beside the file, a model card as hubs show it; one that strata did "
                    "not write is left alone")},
              ModelKind::Language);
  command.add(
      "Output",
      {everyday(text("format", request.format, "NAME",
                     "gguf (llama.cpp), compressed-tensors (vLLM), gptq, gptq_v2 (GPTQModel, SGLang), mlx, "
                     "strata (its own, mixed rows included), or hf (dequantized weights, loads anywhere); by "
                     "default the output's ending decides: .gguf, or a directory for hf")),
       text("runtime", request.runtime, "NAME",
            "choose only what vllm, sglang, mlx, llama.cpp or gptqmodel loads today, and say on stderr what "
            "that changed"),
       text("shard-size", options.shard_size, "SIZE",
            "write several files of at most this size, such as 2GB (OUT-00001-of-00003.gguf); by default one "
            "GGUF, and safetensors of 5 GB"),
       text("embedding", request.boundaries.embedding, "SCHEME",
            "scheme of the embedding; auto: with --size as the costs say, else Q4_K in a GGUF, or the head's "
            "where they are tied, and unchanged in a directory"),
       text("head", request.boundaries.head, "SCHEME",
            "scheme of the output matrix; auto: with --size as the costs say, else Q6_K in a GGUF, and "
            "unchanged in a directory"),
       text("layer-embedding", request.boundaries.layer_embedding, "SCHEME",
            "scheme of embeddings for every layer (Gemma 4's small members); auto: that of --embedding, else "
            "Q4_K in a GGUF, and unchanged in a directory")},
      ModelKind::Language);
  add_budget(command, request.allocator.budget,
             "bytes of the whole file, of which embedding and head get their part by "
             "cost, too",
             ModelKind::Any);
  command.add("Scores and plan", {everyday(text("effort", request.effort, "NAME", effort_help()))},
              ModelKind::Language);
  command.add("Scores and plan",
              {everyday(text("method", request.method, "NAME",
                             "NAME or NAME:ALLOCATOR; names: auto (as the effort says: kl, in the effort "
                             "quick prior), kurtboost, " +
                                 names(sensitivity_methods()) + "; for ONNX models uniform, " +
                                 vision_method_list()))});
  command.add(
      "Scores and plan",
      {path("scores", request.scores, "FILE", "use the scores of this file instead of scoring"),
       path("plan", request.plan, "FILE",
            "use this plan instead of scoring and allocating: a plan.json, a .gguf of the same model, "
            "whose types are taken over, or a .txt as llama-quantize takes it with "
            "--tensor-type-file"),
       text("schemes", request.schemes, "LIST", "schemes to choose from; by default those of the format"),
       everyday(text("quantizer", request.quantizer.name, "NAME",
                     "auto (as the effort says), or one of " + names(quantizers()) +
                         "; rtn and hqq look at weights alone, the others at calibration text "
                         "(--calib) too; GGUF types have their own rounding in the place of rtn and "
                         "hqq"))},
      ModelKind::Language);
  command.add("Measurement",
              {everyday(path("text", request.text, "FILE",
                             "measure the loss on this text, beside a uniform plan of the same bytes")),
               number("window", request.evaluation.window, 2, 1 << 24, "tokens in a window of --text"),
               number("tokens", request.evaluation.max_tokens, 0, int64_t{1} << 40,
                      "use only the text's first tokens; 0 = all")},
              ModelKind::Language);
  add_evidence(command, request.workbench);
  add_quantizers(command, request.quantizer.options);
  command.add("Tuning", declare(request.tuning), ModelKind::Language);
  add_allocation(command, request.allocator);
  options.vision.add_images(command);
  options.vision.add_scoring(command);
  options.vision.add_budget(command, false);
  options.vision.add_int8(command);
  command.require("output");
}

}  // namespace strata::cli
