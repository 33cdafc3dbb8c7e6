// strata eval MODEL --text FILE [--reference MODEL]: perplexity, and what was lost against a reference, which
// may be log probabilities that llama-perplexity wrote.
#include "strata/evaluation/evaluate.h"

#include <fmt/format.h>

#include "strata/calibration/calibration.h"
#include "strata/cli/common.h"
#include "strata/cli/vision.h"
#include "strata/core/error.h"
#include "strata/core/ranks.h"
#include "strata/core/stopwatch.h"
#include "strata/core/units.h"
#include "strata/device/device.h"
#include "strata/evaluation/kl_base.h"

namespace strata::cli {
namespace {

struct EvalArguments {
  std::string model;
  std::filesystem::path text, reference, kl_base, save_kl_base;
  at::ScalarType dtype = at::kFloat;
  RuntimeRounding runtime = RuntimeRounding::None;
  bool stream = false;
  EvaluationOptions evaluation;
  VisionArguments vision;
};

DecoderOptions decoder_options(const EvalArguments& options, const CommonOptions& common) {
  DecoderOptions decoder;
  decoder.device = parse_device(common.device);
  decoder.dtype = options.dtype;
  decoder.resident = !options.stream;
  return decoder;
}

void check_together(const EvalArguments& options, const Command& command) {
  const auto refuse = [&](const char* what, const char* beside, const char* why) {
    if (command.given(what)) fail_usage("--{} cannot be given with --{}: {}", what, beside, why);
  };
  if (!options.kl_base.empty()) {
    for (const char* what : {"text", "window", "stride", "tokens"})
      refuse(what, "kl-base", "the base file has tokens and windows of its own");
    refuse("reference", "kl-base", "the base file is the reference");
    refuse("save-kl-base", "kl-base", "one is read, the other written");
  }
  if (!options.save_kl_base.empty()) refuse("reference", "save-kl-base", "the model itself becomes the base");
}

std::optional<int32_t> first_of_windows(const Model& model) {
  const Vocabulary vocabulary = model.vocabulary();
  return vocabulary.add_bos ? vocabulary.bos : std::nullopt;
}

Json json_of(const MeanValue& mean) {
  return {{"value", mean.value}, {"standard_error", mean.error}};
}

void compare_with_kl_base(const EvalArguments& options, const CommonOptions& common,
                          const DecoderOptions& own) {
  const Stopwatch stopwatch;
  const KlBase base(options.kl_base);
  const Model model = open_model(options.model);
  Decoder decoder(model, own);
  const BaseComparison found =
      compare_with_base(decoder, base, first_of_windows(model), options.evaluation.batch);
  if (common.json) {
    print_json({{"model", options.model},
                {"kl_base", options.kl_base.string()},
                {"window", base.window()},
                {"tokens", found.tokens},
                {"ppl", json_of(found.ppl)},
                {"base_ppl", json_of(found.base_ppl)},
                {"log_ppl_correlation", found.log_ppl_correlation},
                {"log_ppl_ratio", json_of(found.log_ppl_ratio)},
                {"ppl_ratio", json_of(found.ppl_ratio)},
                {"ppl_difference", json_of(found.ppl_difference)},
                {"kld", json_of(found.kld)},
                {"probability_change", json_of(found.probability_change)},
                {"rms_probability_change", json_of(found.rms_change)},
                {"same_top", json_of(found.same_top)},
                {"seconds", stopwatch.seconds()}});
    return;
  }
  fmt::print("{} beside {}, windows of {} tokens, of which the second halves count\n{}", options.model,
             options.kl_base.string(), base.window(), text_of(found));
  fmt::print("time                            {}\n", format_seconds(stopwatch.seconds()));
}

void save_kl_base(const EvalArguments& options, const CommonOptions& common, const DecoderOptions& own) {
  const Stopwatch stopwatch;
  require_output_file(options.save_kl_base);
  const Model model = open_model(options.model);
  const std::vector<int32_t> ids = tokenize_file(model, options.text);
  Decoder decoder(model, own);
  write_kl_base(decoder, ids, options.evaluation, first_of_windows(model), options.save_kl_base);
  const uint64_t bytes = std::filesystem::file_size(options.save_kl_base);
  if (common.json)
    print_json({{"model", options.model},
                {"text", options.text.string()},
                {"kl_base", options.save_kl_base.string()},
                {"window", options.evaluation.window},
                {"bytes", bytes},
                {"seconds", stopwatch.seconds()}});
  else
    fmt::print("{}: log probabilities of {} on {}, {}\ntime {}\n", options.save_kl_base.string(),
               options.model, options.text.string(), format_bytes(bytes),
               format_seconds(stopwatch.seconds()));
}

void run(EvalArguments& options, const CommonOptions& common, const Command& command) {
  if (kind_of_model(command, options.model) == ModelKind::Onnx) {
    if (is_first_rank()) eval_vision(options.model, options.reference.string(), options.vision, common);
    return;
  }
  check_together(options, command);
  DecoderOptions own = decoder_options(options, common);
  own.rounding = options.runtime;
  const bool by_ranks = options.kl_base.empty() && options.save_kl_base.empty();
  if (!by_ranks && !is_first_rank()) return;
  if (!options.kl_base.empty()) return compare_with_kl_base(options, common, own);
  require_text(options.text.string());
  if (!options.save_kl_base.empty()) return save_kl_base(options, common, own);
  const Stopwatch stopwatch;
  const Model model = open_model(options.model);
  if (rank_count() > 1) require_same("the checkpoint " + options.model, weights_fingerprint(model));
  const std::vector<int32_t> ids = tokenize_file(model, options.text);
  Decoder decoder(model, own);

  Evaluation result;
  if (options.reference.empty()) {
    result = evaluate(decoder, ids, options.evaluation);
  } else {
    const Model reference_model = open_model(options.reference);
    if (reference_model.config.vocab_size != model.config.vocab_size)
      fail("{} has {} tokens in its vocabulary and the reference {} has {}: they cannot be compared",
           options.model, model.config.vocab_size, options.reference.string(),
           reference_model.config.vocab_size);
    Decoder reference(reference_model, decoder_options(options, common));
    result = evaluate(decoder, ids, options.evaluation, &reference);
  }
  const double seconds = stopwatch.seconds();

  if (common.json) {
    Json document = {{"model", options.model},
                     {"text", options.text.string()},
                     {"window", options.evaluation.window},
                     {"tokens", result.tokens},
                     {"ppl", result.ppl},
                     {"ppl_standard_error", result.ppl_standard_error},
                     {"nll", result.nll}};
    if (own.rounding != RuntimeRounding::None) document["runtime"] = "llama.cpp";
    if (result.kld) {
      document["reference"] = options.reference.string();
      document["kld"] = *result.kld;
      document["kld_standard_error"] = *result.kld_standard_error;
      document["kld_p99"] = *result.kld_p99;
      document["top1"] = *result.top1;
    }
    document["seconds"] = seconds;
    print_json(document);
    return;
  }
  fmt::print("{} on {}\n", options.model, options.text.string());
  fmt::print("tokens predicted  {}\n", result.tokens);
  fmt::print("PPL               {:.4f} ± {:.4f}\n", result.ppl, result.ppl_standard_error);
  if (result.kld) {
    fmt::print("KLD               {:.5f} ± {:.5f} nats a token (99th percentile {:.4f}) from {}\n",
               *result.kld, *result.kld_standard_error, *result.kld_p99, options.reference.string());
    fmt::print("top-1 agreement   {:.2f} %\n", 100 * *result.top1);
  }
  fmt::print("time              {}\n", format_seconds(seconds));
}

}  // namespace

void add_eval(Program& program) {
  auto [command, options] = add_command<EvalArguments>(
      program, "eval", "measure perplexity, and the loss against a reference model", run);
  EvaluationOptions& evaluation = options.evaluation;
  command.argument("model", options.model, "MODEL", "the model");
  command.add("Evaluation",
              {everyday(path("reference", options.reference, "MODEL",
                             "also report how close the model stays to this one: KL divergence and top-1 "
                             "agreement, of ONNX models SQNR and cosine"))});
  command.add(
      "Evaluation",
      {everyday(path("text", options.text, "FILE", "the text to predict")),
       path("kl-base", options.kl_base, "FILE",
            "compare with the log probabilities that llama-perplexity wrote (--kl-divergence-base), over the "
            "text that the file holds, and print what it prints"),
       path("save-kl-base", options.save_kl_base, "FILE",
            "write such a file of this model over the text; half of every window counts there"),
       everyday(
           number("window", evaluation.window, 2, 1 << 24, "tokens in a window; the first is not predicted")),
       number("stride", evaluation.stride, 0, 1 << 24,
              "tokens between the starts of two windows; 0 = the window"),
       everyday(number("tokens", evaluation.max_tokens, 0, int64_t{1} << 40,
                       "use only the text's first tokens; 0 = all")),
       number("batch", evaluation.batch, 0, 1 << 20, "windows at a time; 0 = by size"),
       choice("dtype", options.dtype, {{"float32", at::kFloat}, {"bfloat16", at::kBFloat16}},
              "type of the computation"),
       choice(
           "runtime", options.runtime,
           {{"none", RuntimeRounding::None}, {"llama.cpp", RuntimeRounding::LlamaCpp}},
           "llama.cpp: round what it rounds on a CPU, the inputs of a GGUF's quantized matrices to 8 bits, "
           "those of F16 and BF16 to these, and attention to F16; the reference keeps float32"),
       flag("stream", options.stream, "load one layer at a time, for models larger than memory")},
      ModelKind::Language);
  options.vision.add_images(command);
}

}  // namespace strata::cli
