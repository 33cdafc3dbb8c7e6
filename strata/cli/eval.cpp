// strata eval MODEL --text FILE [--reference MODEL]: perplexity, and what was lost against a reference.
#include "strata/evaluation/evaluate.h"

#include <fmt/format.h>

#include "strata/cli/common.h"
#include "strata/cli/vision.h"
#include "strata/core/error.h"
#include "strata/core/stopwatch.h"
#include "strata/core/units.h"
#include "strata/device/device.h"

namespace strata::cli {
namespace {

struct EvalArguments {
  std::string model, text, reference, dtype = "float32", runtime = "none";
  bool stream = false;
  EvaluationOptions evaluation;
  VisionCliOptions vision;
};

DecoderOptions decoder_options(const EvalArguments& options, const CommonOptions& common) {
  DecoderOptions decoder;
  decoder.device = parse_device(common.device);
  if (options.dtype == "bfloat16") decoder.dtype = at::kBFloat16;
  decoder.resident = !options.stream;
  return decoder;
}

void run(const EvalArguments& options, const CommonOptions& common) {
  if (vision::is_onnx(options.model)) return eval_vision(options.model, options.vision, common);
  require_text(options.text);
  const Stopwatch stopwatch;
  const Model model = open_model(options.model);
  const std::vector<int32_t> ids = tokenize_file(model, options.text);
  DecoderOptions own = decoder_options(options, common);
  own.rounding = parse_runtime_rounding(options.runtime);
  Decoder decoder(model, own);

  Evaluation result;
  if (options.reference.empty()) {
    result = evaluate(decoder, ids, options.evaluation);
  } else {
    const Model reference_model = open_model(options.reference);
    if (reference_model.config.vocab_size != model.config.vocab_size)
      fail("{} has {} tokens in its vocabulary and the reference {} has {}: they cannot be compared",
           options.model, model.config.vocab_size, options.reference, reference_model.config.vocab_size);
    Decoder reference(reference_model, decoder_options(options, common));
    result = evaluate(decoder, ids, options.evaluation, &reference);
  }
  const double seconds = stopwatch.seconds();

  if (common.json) {
    Json document = {
        {"model", options.model},  {"text", options.text}, {"window", options.evaluation.window},
        {"tokens", result.tokens}, {"ppl", result.ppl},    {"ppl_standard_error", result.ppl_standard_error},
        {"nll", result.nll}};
    if (own.rounding != RuntimeRounding::None) document["runtime"] = options.runtime;
    if (result.kld) {
      document["reference"] = options.reference;
      document["kld"] = *result.kld;
      document["kld_standard_error"] = *result.kld_standard_error;
      document["kld_p99"] = *result.kld_p99;
      document["top1"] = *result.top1;
    }
    document["seconds"] = seconds;
    print_json(document);
    return;
  }
  fmt::print("{} on {}\n", options.model, options.text);
  fmt::print("tokens predicted  {}\n", result.tokens);
  fmt::print("PPL               {:.4f} ± {:.4f}\n", result.ppl, result.ppl_standard_error);
  if (result.kld) {
    fmt::print("KLD               {:.5f} ± {:.5f} nats a token (99th percentile {:.4f}) from {}\n",
               *result.kld, *result.kld_standard_error, *result.kld_p99, options.reference);
    fmt::print("top-1 agreement   {:.2f} %\n", 100 * *result.top1);
  }
  fmt::print("time              {}\n", format_seconds(seconds));
}

}  // namespace

void add_eval(Program& program) {
  auto options = std::make_shared<EvalArguments>();
  CLI::App* command =
      add_command(program, "eval", "measure perplexity, and the loss against a reference model",
                  [&program, options] { run(*options, program.common); });
  command->add_option("model", options->model, "the model")->required()->type_name("MODEL");
  command->add_option("--text", options->text, "the text to predict")->type_name("FILE");
  command
      ->add_option("--reference", options->reference,
                   "also report KL divergence and top-1 agreement against this model")
      ->type_name("MODEL");
  command
      ->add_option("--window", options->evaluation.window, "tokens in a window; the first is not predicted")
      ->check(CLI::Range(2, 1 << 24))
      ->capture_default_str();
  command
      ->add_option("--stride", options->evaluation.stride,
                   "tokens between the starts of two windows; 0 = the window")
      ->check(CLI::Range(0, 1 << 24))
      ->capture_default_str();
  command->add_option("--tokens", options->evaluation.max_tokens, "use only the text's first tokens; 0 = all")
      ->check(CLI::Range(int64_t{0}, int64_t{1} << 40))
      ->capture_default_str();
  command->add_option("--batch", options->evaluation.batch, "windows at a time; 0 = by size")
      ->check(CLI::Range(0, 1 << 20))
      ->capture_default_str();
  command->add_option("--dtype", options->dtype, "type of the computation")
      ->check(CLI::IsMember({"float32", "bfloat16"}))
      ->capture_default_str();
  command
      ->add_option(
          "--runtime", options->runtime,
          "llama.cpp: round what it rounds on a CPU, the inputs of a GGUF's quantized matrices to 8 bits, "
          "those of F16 and BF16 to these, and attention to F16; the reference keeps float32")
      ->check(CLI::IsMember({"none", "llama.cpp"}))
      ->capture_default_str();
  command->add_flag("--stream", options->stream, "load one layer at a time, for models larger than memory");
  options->vision.add_images(*command);
}

}  // namespace strata::cli
