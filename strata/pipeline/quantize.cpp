#include "strata/pipeline/quantize.h"
#include "strata/pipeline/rank_rows.h"

#include <algorithm>

#include "strata/core/error.h"
#include "strata/core/file.h"
#include "strata/core/progress.h"
#include "strata/core/units.h"
#include "strata/export/export_plan.h"
#include "strata/export/hf_files.h"
#include "strata/export/runtimes.h"
#include "strata/pipeline/apply_schemes.h"
#include "strata/pipeline/automatic.h"
#include "strata/pipeline/plans.h"

namespace strata {
namespace {

// Embedding and head, as users of llama.cpp expect them: the matrix that makes the logits has Q6_K and a
// separate embedding Q4_K. Other formats keep both as they are.
void choose_boundaries(const QuantizeRequest& request, const Model& model, const ExportFormat& format,
                       ExportPlan& plan) {
  const auto chosen = [](const std::string& asked, const std::string& automatic) {
    return parse_scheme(asked == "auto" ? automatic : asked);
  };
  plan.head = chosen(request.head, format.head);
  plan.embedding = request.embedding == "auto" && model.config.tied_embeddings
                       ? plan.head
                       : chosen(request.embedding, format.embedding);
  for (const Scheme& scheme : {plan.embedding, plan.head}) {
    if (is_floating(scheme)) continue;
    if (!format.packs_embedding)
      fail_usage(
          "{} keeps embedding and head as they are, but {} was asked for; leave out --embedding and --head",
          format.name, scheme.name());
    require_storable(format, scheme);
  }
}

// Bytes of the files that stand beside the weights in a directory: the tokenizer's, and a config.json that
// names the scheme of every matrix.
uint64_t companion_bytes(const Model& model, const ExportFormat& format,
                         const std::filesystem::path& target) {
  if (!format.ending.empty()) return 0;
  constexpr uint64_t kSchemeOfOne = 200;
  const OutputDirectory scratch(target);
  write_model_files(model, scratch.path());
  uint64_t bytes = kSchemeOfOne * model.modules.size();
  for (const auto& entry : std::filesystem::directory_iterator(scratch.path())) bytes += entry.file_size();
  return bytes;
}

// Bytes of the weights' files that do not depend on the plan, so that a limit on them becomes one on the
// matrices.
uint64_t fixed_bytes(const Model& model, const ExportPlan& base, const ExportFormat& format,
                     const Scheme& any) {
  ExportPlan plan = base;
  uint64_t matrices = 0;
  for (const Module& module : model.modules) {
    plan.schemes[module.tensor] = any;
    matrices += any.stored_bits(module.rows, module.cols) / 8;
  }
  // A GGUF's tensors start at multiples of 32 bytes; the headers of safetensors files name every part of a
  // matrix.
  const uint64_t padding = (format.ending.empty() ? 256 : 31) * static_cast<uint64_t>(model.modules.size());
  return format.file_size(model, plan) - matrices + padding;
}

Budget budget_of_matrices(Budget budget, uint64_t fixed) {
  if (!budget.bytes) return budget;
  if (*budget.bytes <= fixed)
    fail_usage(
        "a file of {} is not possible: embedding, head, norms and metadata alone take {}; choose a larger "
        "--size or smaller --embedding and --head",
        format_bytes(*budget.bytes), format_bytes(fixed));
  *budget.bytes -= fixed;
  return budget;
}

// The menu that was asked for, or the method's own where the format stores all of it.
std::string asked_menu(const QuantizeRequest& request, const MethodChoice& method,
                       const ExportFormat& format) {
  if (!request.schemes.empty() || method.schemes.empty()) return request.schemes;
  constexpr int64_t kAnySize = 4096;  // which all groups divide
  for (const Scheme& scheme : parse_schemes(method.schemes))
    if (!format.refusal(scheme, kAnySize, kAnySize).empty()) return "";
  return method.schemes;
}

// As --method names it: "uniform:exact" beside the plan "uniform" of the same bytes.
std::string name_of(const Plan& plan) {
  if (plan.method.empty()) return "plan";
  return plan.method == "uniform" && plan.allocator != "uniform" ? plan.method + ":" + plan.allocator
                                                                 : plan.method;
}

class Job {
 public:
  explicit Job(const QuantizeRequest& request)
      : request_(request),
        model_(open_model(request.model)),
        runtime_(request.runtime.empty() ? nullptr : &find_runtime(request.runtime)),
        format_(format_for(request.output, request.format, runtime_)),
        sensitivity_(request.sensitivity),
        method_(resolve_automatic(parse_method(request.method), has_calibration(sensitivity_))),
        quantizer_(resolve_automatic(request.quantizer, has_calibration(sensitivity_))) {
    load_imatrix(model_, sensitivity_);
  }

  QuantizeResult run() {
    require_output();
    if (!request_.text.empty()) {
      require_runnable(model_, "measuring on a text");
      ids_ = tokenize_file(model_, request_.text);
      require_evaluable(ids_, request_.evaluation, model_);
    }
    result_.format = format_.name;
    prepare_export();
    choose_plan();
    result_.exported_plan.schemes = schemes_of(result_.plan);
    check_plan_loads(format_, runtime_, result_.exported_plan, model_);
    prepared_ = prepare(result_.exported_plan.schemes);
    result_.exported_plan.quantizer = prepared_.plain;
    result_.exported_plan.calibrated = prepared_.calibrated;
    result_.exported_plan.row_impacts = row_impacts();
    result_.exported = format_.write(*prepared_.model, result_.exported_plan, request_.output);
    result_.exported_plan.calibrated = nullptr;  // it uses the model, which does not outlive this
    if (!request_.text.empty()) measure();
    return std::move(result_);
  }

 private:
  // Before the work, so that none is lost.
  void require_output() const {
    if (format_.ending.empty())
      require_output_directory(request_.output);
    else
      require_output_file(request_.output);
    if (format_.name == "hf" && request_.allocator.budget.bytes)
      fail_usage("hf stores dequantized weights, whose size no plan changes; give --bpw instead of --size");
  }

  void prepare_export() {
    ExportPlan& plan = result_.exported_plan;
    if (quantizer_.gptq.act_order == ActOrder::Reordered && !format_.holds_scattered_groups)
      fail_usage(
          "{} cannot store groups of columns in the order of their inputs; use --act-order static, or "
          "--format gptq or hf",
          format_.name);
    plan.shard_bytes = request_.shard_bytes;
    choose_boundaries(request_, model_, format_, plan);
    if (!request_.plan.empty()) result_.plan = read_plan_for(model_, request_.plan);
    adopt_boundaries(result_.plan, request_.embedding == "auto", request_.head == "auto", model_, format_,
                     plan);
    if (sensitivity_.imatrix)
      for (const Module& module : model_.modules)
        plan.importance[module.tensor] = sensitivity_.imatrix->mean_squares(module.tensor);
    if (!request_.plan.empty()) return;
    menu_ = storable_menu(format_, runtime_, asked_menu(request_, method_, format_), request_.allocator.ties,
                          model_);
    require_quantizable(quantizer_, menu_.schemes);
    result_.notes = menu_.notes;
    for (const std::string& text : menu_.notes) show_note(text);
  }

  void choose_plan() {
    if (!request_.plan.empty()) return;
    allocator_ = allocator_of(method_, request_.allocator);
    allocator_.schemes = menu_.schemes;
    allocator_.ties = menu_.ties;
    const Budget& budget = request_.allocator.budget;
    if (budget.empty() && allocator_.name != "boost")
      fail_usage("a budget is missing; give --bpw, --avg-bits, --size or --plan");
    const uint64_t companions = budget.bytes ? companion_bytes(model_, format_, request_.output) : 0;
    if (budget.bytes)
      allocator_.budget = budget_of_matrices(
          budget, companions + fixed_bytes(model_, result_.exported_plan, format_, menu_.schemes.front()));
    std::optional<PartedCalibration> parted;  // so that a plan of auto is checked on tokens it has not seen
    if (!request_.scores.empty()) {
      result_.scores = read_scores(request_.scores);
    } else {
      if (needs_tokens(sensitivity_method(method_.score_method), sensitivity_)) calibration();
      load_row_impacts(model_, menu_.schemes, sensitivity_);
      SensitivityOptions options = sensitivity_;
      options.schemes = menu_.schemes;
      options.high_impact.interactions = allocator_.name == "quadratic" && allocator_.interactions;
      if (is_checked(method_, sensitivity_)) {
        parted = part_calibration(calibration());
        options.calibration = parted->scoring;
      }
      result_.scores = score(model_, method_.score_method, options);
    }
    result_.plan = make_plan(model_, result_.scores, allocator_);
    if (budget.bytes) fit_file(*budget.bytes - companions);
    if (parted) check_plan(*parted->checking);
    if (budget.bytes) result_.plan.budget = format_bytes(*budget.bytes) + " in all";
  }

  // Plans again for fewer bytes where the weights' files would be larger than these: beyond a scheme's own
  // bits GPTQ stores zero points that depend on the plan.
  void fit_file(uint64_t limit) {
    constexpr int kTries = 8;
    for (int attempt = 0; attempt < kTries; ++attempt) {
      ExportPlan plan = result_.exported_plan;
      plan.schemes = schemes_of(result_.plan);
      const uint64_t size = format_.file_size(model_, plan);
      if (size <= limit) return;
      allocator_.budget.bytes = *allocator_.budget.bytes - std::min(*allocator_.budget.bytes, size - limit);
      result_.plan = make_plan(model_, result_.scores, allocator_);
    }
  }

  // Takes the uniform plan instead where it loses less on these tokens.
  void check_plan(const Calibration& checking) {
    DecoderOptions options;
    options.device = request_.sensitivity.device;
    Decoder reference(model_, options);
    CheckedPlan checked =
        check_against_uniform(model_, result_.plan, result_.scores, allocator_, [&](const Plan& candidate) {
          const PreparedQuantizer prepared = prepare(schemes_of(candidate));
          Decoder decoder(*prepared.model, options);
          apply_schemes(decoder, schemes_of(candidate), prepared.plain, prepared.calibrated.get(),
                        result_.exported_plan.importance, row_impacts());
          return kld_on(checking, decoder, reference);
        });
    show_note(checked.note);
    result_.notes.push_back(checked.note);
    result_.plan = std::move(checked.plan);
  }

  // The unquantized model, a uniform plan of the same bytes, and the file as it was written.
  void measure() {
    DecoderOptions options;
    options.device = request_.sensitivity.device;
    Decoder reference(model_, options);
    uint64_t stored = 0;
    for (const Module& module : model_.modules) stored += model_.checkpoint->info(module.tensor).bytes;
    add_measurement("unquantized", stored, evaluate(reference, ids_, request_.evaluation));

    if (request_.plan.empty() && allocator_.name != "uniform") {
      AllocatorOptions uniform = allocator_;
      uniform.name = "uniform";
      uniform.budget = {};
      uniform.budget.bytes = result_.plan.bytes;
      const Plan plan = make_plan(model_, result_.scores, uniform);
      std::map<std::string, Scheme> schemes = schemes_of(plan);
      if (format_.name == "gguf" || !is_floating(result_.exported_plan.embedding)) {
        schemes[model_.embedding] = result_.exported_plan.embedding;
        if (!model_.config.tied_embeddings) schemes[model_.head] = result_.exported_plan.head;
      }
      const PreparedQuantizer prepared = prepare(schemes_of(plan));
      Decoder decoder(*prepared.model, options);
      apply_schemes(decoder, schemes, prepared.plain, prepared.calibrated.get(),
                    result_.exported_plan.importance, row_impacts());
      add_measurement("uniform", plan.bytes, evaluate(decoder, ids_, request_.evaluation, &reference));
    }

    const Model written = open_model(result_.exported.path);
    Decoder decoder(written, options);
    add_measurement(name_of(result_.plan), result_.plan.bytes,
                    evaluate(decoder, ids_, request_.evaluation, &reference));
  }

  PreparedQuantizer prepare(const std::map<std::string, Scheme>& schemes) {
    QuantizerChoice choice = quantizer_;
    if (needs_calibration(choice)) calibration();
    rank_rows(model_, schemes, sensitivity_);
    choice.row_impacts = row_impacts();
    choice.learning.seed = sensitivity_.seed;
    return prepare_quantizer(model_, schemes, choice, sensitivity_.calibration, request_.sensitivity.device);
  }

  // Empty where they were not measured.
  RowImpacts row_impacts() const {
    return sensitivity_.row_impacts ? *sensitivity_.row_impacts : RowImpacts();
  }

  // Read once, for the scores, the check and the quantizer.
  const Calibration& calibration() {
    if (!sensitivity_.calibration)
      sensitivity_.calibration = require_calibration(model_, sensitivity_.calibration_source,
                                                     sensitivity_.device, calibration_user());
    return *sensitivity_.calibration;
  }

  std::string calibration_user() const {
    return needs_calibration(quantizer_) ? "the quantizer " + quantizer_.name : "--method " + method_.label;
  }

  void add_measurement(const std::string& name, uint64_t bytes, const Evaluation& evaluation) {
    result_.measurements.push_back({name, bytes, evaluation});
  }

  const QuantizeRequest& request_;
  Model model_;
  const Runtime* runtime_;  // null for none
  const ExportFormat& format_;
  SensitivityOptions sensitivity_;  // with calibration and imatrix, once they are read
  MethodChoice method_;
  QuantizerChoice quantizer_;  // calibrated as `sensitivity_` says
  Menu menu_;
  AllocatorOptions allocator_;
  std::vector<int32_t> ids_;
  PreparedQuantizer prepared_;
  QuantizeResult result_;
};

}  // namespace

Plan make_plan(const Model& model, const Scores& scores, AllocatorOptions options) {
  std::vector<AllocationModule> modules;
  for (const Module& module : model.modules)
    modules.push_back({module.layer, module.name, module.tensor, module.rows, module.cols});
  return allocate(modules, scores, options);
}

QuantizeResult quantize(const QuantizeRequest& request) {
  return Job(request).run();
}

}  // namespace strata
