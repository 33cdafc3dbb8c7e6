#include "strata/pipeline/quantize.h"

#include <fmt/format.h>

#include <algorithm>

#include "strata/allocation/quadratic.h"
#include "strata/core/error.h"
#include "strata/core/file.h"
#include "strata/core/progress.h"
#include "strata/core/ranks.h"
#include "strata/core/units.h"
#include "strata/export/export_plan.h"
#include "strata/export/hf_files.h"
#include "strata/export/plans.h"
#include "strata/export/runtimes.h"
#include "strata/model/boundary_modules.h"
#include "strata/model/value_heads.h"
#include "strata/pipeline/apply_schemes.h"
#include "strata/pipeline/automatic.h"
#include "strata/pipeline/boundaries.h"
#include "strata/pipeline/file_label.h"
#include "strata/quantizers/row_pieces.h"
#include "strata/quantizers/shared_rounding.h"
#include "strata/quantizers/sign_round.h"
#include "strata/sensitivity/change_losses.h"
#include "strata/sensitivity/kl.h"
#include "strata/sensitivity/module_scores.h"

namespace strata {
namespace {

// Bytes of the files that stand beside the weights in a directory: the tokenizer's, and a config.json that
// names the scheme of every matrix.
uint64_t companion_bytes(const Model& model, const ExportFormat& format,
                         const std::filesystem::path& target) {
  if (!format.ending.empty()) return 0;
  constexpr uint64_t kSchemeOfOne = 200;
  const OutputDirectory scratch(target);
  write_model_files(model, scratch.path());
  uint64_t bytes = kSchemeOfOne * model.modules.size();
  for (const auto& [name, value] : longest_label()) bytes += name.size() + value.size();
  for (const auto& entry : std::filesystem::directory_iterator(scratch.path())) bytes += entry.file_size();
  return bytes;
}

// Bytes of the weights' files that do not depend on the plan, which gives schemes to the layers' matrices and
// to `boundaries`: so that a limit on the files becomes one on these.
uint64_t fixed_bytes(const Model& model, const ExportPlan& base, const ExportFormat& format,
                     const Scheme& any, const std::vector<AllocationModule>& boundaries) {
  ExportPlan plan = base;
  uint64_t matrices = 0;
  for (const Module& module : model.modules) {
    plan.schemes[module.tensor] = any;
    matrices += any.stored_bits(module.rows, module.cols) / 8;
  }
  for (const AllocationModule& boundary : boundaries) {
    if (boundary.tensor == model.embedding) plan.embedding = any;
    if (boundary.tensor == model.head) plan.head = any;
    matrices += any.stored_bits(boundary.rows, boundary.cols) / 8;
  }
  // A GGUF's tensors start at multiples of 32 bytes; the headers of safetensors files name every part of a
  // matrix.
  const uint64_t padding =
      (format.ending.empty() ? 256 : 31) * static_cast<uint64_t>(model.modules.size() + boundaries.size());
  return format.file_size(model, plan) - matrices + padding;
}

Budget budget_of_matrices(Budget budget, uint64_t fixed, bool all_chosen) {
  if (!budget.bytes) return budget;
  if (*budget.bytes <= fixed)
    fail_usage("a file of {} is not possible: {} alone take {}; choose a larger --size{}",
               format_bytes(*budget.bytes),
               all_chosen ? "norms and metadata" : "embedding, head, norms and metadata", format_bytes(fixed),
               all_chosen ? "" : " or smaller --embedding, --head and --layer-embedding");
  *budget.bytes -= fixed;
  budget.bytes_beside = fixed;
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

// Pairs of matrices are measured only where the allocator looks at them. Tokens that the effort reads are
// written by the model where the user gives none.
WorkbenchOptions evidence_for(const QuantizeRequest& request, const Effort& effort,
                              const MethodChoice& method) {
  WorkbenchOptions options = request.workbench;
  if (effort.tokens > 0 && !options.has_calibration()) options.calibration.source = "self";
  if (options.calibration.tokens == 0) options.calibration.tokens = effort.tokens;
  const AllocatorOptions allocator = allocator_of(method, request.allocator);
  HighImpactOptions& high_impact = options.methods.get<HighImpactOptions>();
  high_impact.interactions =
      allocator.name == "quadratic" && allocator.own.get<QuadraticOptions>().interactions;
  return options;
}

// Whether layers that slide in this model see all tokens where a GGUF of it is run.
bool loses_windows(const ExportFormat& format, const Model& model) {
  return format.name == "gguf" && model.runnable && !is_gguf(model.path) && model.config.sliding_window > 0 &&
         !architecture_of(model.config).gguf_slides;
}

// The model as it is run from a file of the format, so that all that is measured is measured so.
Model as_run_from(const ExportFormat& format, const Model& model) {
  Model run = with_value_heads(model, format.tiles_value_heads);
  if (loses_windows(format, model)) run.config.sliding_window = 0;
  return run;
}

class Job {
 public:
  explicit Job(const QuantizeRequest& request) : Job(request, open_model(request.model)) {}

  QuantizeResult run() {
    require_output();
    if (!request_.text.empty()) {
      require_runnable(model_, "measuring on a text");
      ids_ = tokenize_file(model_, request_.text);
      require_evaluable(ids_, request_.evaluation, model_);
    }
    if (tunes()) {
      require_runnable(model_, "tuning end to end");
      require_tunable(*tuning_tokens());
    }
    result_.format = format_.name;
    result_.effort = effort_.name;
    if (lost_window_ > 0)
      show_note(
          fmt::format("layers of {} see the last {} tokens, but llama.cpp lets them see all in a GGUF of it: "
                      "everything is "
                      "measured as llama.cpp runs it, which differs beyond {} tokens",
                      request_.model.string(), lost_window_, lost_window_));
    prepare_export();
    if (request_.plan.empty()) {
      estimate_work();
      choose_plan();
    }
    write();
    if (!request_.text.empty()) measure();
    return std::move(result_);
  }

 private:
  Job(const QuantizeRequest& request, const Model& model)
      : request_(request),
        effort_(find_effort(request.effort, model.runnable)),
        method_(resolve_automatic(parse_method(request.method), effort_)),
        quantizer_(resolve_automatic(request.quantizer, effort_.quantizer)),
        runtime_(request.runtime.empty() ? nullptr : &find_runtime(request.runtime)),
        format_(format_for(request.output, request.format, runtime_)),
        bench_(as_run_from(format_, model), evidence_for(request, effort_, method_)),
        model_(bench_.model()),
        lost_window_(loses_windows(format_, model) ? model.config.sliding_window : 0) {}

  // Before the work, so that none is lost.
  void require_output() const {
    if (!is_first_rank()) return;
    if (format_.ending.empty())
      require_output_directory(request_.output);
    else
      require_output_file(request_.output);
    if (format_.name == "hf" && request_.allocator.budget.bytes)
      fail_usage("hf stores dequantized weights, whose size no plan changes; give --bpw instead of --size");
  }

  void prepare_export() {
    ExportPlan& plan = result_.exported_plan;
    if (scatters_groups(quantizer_) && !format_.holds_scattered_groups)
      fail_usage(
          "{} cannot store groups of columns in the order of their inputs; use --act-order static, or "
          "--format gptq or hf",
          format_.name);
    plan.shard_bytes = request_.shard_bytes;
    plan.label = longest_label();
    choose_boundaries(request_.boundaries, model_, format_, plan);
    if (!request_.plan.empty()) result_.plan = read_plan_for(model_, request_.plan);
    adopt_boundaries(result_.plan, request_.boundaries, model_, format_, plan);
    format_.file_size(model_, plan);  // throws where the format cannot hold the model
    if (!request_.plan.empty()) return;
    menu_ = storable_menu(format_, runtime_, asked_menu(request_, method_, format_), request_.allocator.ties,
                          model_);
    require_quantizable(model_, quantizer_, menu_.schemes);
    for (const std::string& text : menu_.notes) show_note(text);
  }

  // Of all efforts, where one of them chooses what is done.
  void estimate_work() {
    if (!is_first_rank() || !model_.runnable || request_.method != "auto" ||
        request_.quantizer.name != "auto" || !request_.scores.empty())
      return;
    WorkAhead work;
    work.schemes = menu_.schemes.size();
    work.tokens = request_.workbench.calibration.tokens;
    work.own_text = !request_.workbench.has_calibration() || request_.workbench.calibration.source == "self";
    work.kl_tokens = bench_.options().methods.get<KlOptions>().tokens;
    const LayerLearning& learning = quantizer_.options.get<SignRoundOptions>().layers;
    work.sign_steps = learning.steps;
    work.sign_tokens = learning.tokens_per_step;
    work.tune_steps = request_.tuning.steps;
    work.tune_tokens = request_.tuning.tokens_per_step;
    if (!ids_.empty()) work.evaluated = evaluated_tokens(ids_, request_.evaluation);
    work.device = request_.workbench.device;
    const Rates rates = measure_rates(model_, menu_.schemes[menu_.schemes.size() / 2], work.device);
    for (const Effort& effort : efforts()) result_.estimates.push_back(estimate(effort, model_, rates, work));
    const bool writes = work.own_text && effort_.tokens > 0;
    show_note(
        fmt::format("the effort {}{}", describe(result_.estimates, effort_.name),
                    writes ? "; the model writes the text that it reads, unless --calib names one" : ""));
  }

  void choose_plan() {
    allocator_ = allocator_of(method_, request_.allocator);
    allocator_.schemes = menu_.schemes;
    allocator_.ties = menu_.ties;
    const Budget& budget = request_.allocator.budget;
    if (budget.empty() && find_allocator(allocator_.name).needs_budget)
      fail_usage("a budget is missing; give --bpw, --avg-bits, --size or --plan");
    uint64_t companions = 0;
    if (budget.bytes)
      companions = std::stoull(
          from_first_rank([&] { return std::to_string(companion_bytes(model_, format_, request_.output)); }));
    if (!request_.scores.empty()) result_.scores = read_scores(request_.scores);
    if (budget.bytes) {
      allocator_.boundaries = chosen_boundaries();
      const uint64_t fixed =
          fixed_bytes(model_, result_.exported_plan, format_, menu_.schemes.front(), allocator_.boundaries);
      allocator_.budget = budget_of_matrices(
          budget, companions + fixed,
          allocator_.boundaries.size() == boundary_modules(model_).size() && model_.layer_embedding.empty());
    }
    if (request_.scores.empty())
      result_.scores =
          bench_.scores(method_, menu_.schemes, request_.workbench.seed, &allocator_, &quantizer_);
    plan_matrices();
    if (budget.bytes) fit_file(*budget.bytes - companions);
    if (request_.scores.empty()) check_plan();
    if (budget.bytes) result_.plan.budget = format_bytes(*budget.bytes) + " in all";
    result_.allocator = allocator_;
  }

  // Embedding and head, as far as --size is to choose their schemes; a note says why it does not where nobody
  // asked for one.
  std::vector<AllocationModule> chosen_boundaries() {
    std::vector<AllocationModule> chosen;
    for (const AllocationModule& boundary : allocation_modules(boundary_modules(model_))) {
      const bool is_asked =
          (boundary.tensor == model_.embedding && request_.boundaries.embedding != "auto") ||
          (boundary.tensor == model_.head && request_.boundaries.head != "auto");
      if (is_asked) continue;
      std::string obstacle = obstacle_to_choosing(boundary, model_, format_, allocator_);
      if (obstacle.empty() && !request_.scores.empty() && !has_costs(result_.scores, boundary))
        obstacle = request_.scores.string() + " has no costs of it";
      if (obstacle.empty())
        chosen.push_back(boundary);
      else
        show_note(fmt::format("--size does not choose the scheme of the {}: {}", boundary.module, obstacle));
    }
    return chosen;
  }

  void plan_matrices() {
    result_.plan = make_plan(model_, result_.scores, allocator_);
    take_boundaries(result_.plan, model_, result_.exported_plan);
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
      plan_matrices();
    }
  }

  // With embedding and head as they are to be stored, so that what is measured is what the file loses.
  void check_plan() {
    const ExportPlan& exported = result_.exported_plan;
    const bool tied = model_.head == model_.embedding;
    if (!is_floating(exported.embedding)) result_.plan.embedding = exported.embedding;
    if (!is_floating(exported.head) && !tied) result_.plan.head = exported.head;
    if (exported.layer_embedding && !is_floating(*exported.layer_embedding))
      result_.plan.layer_embedding = exported.layer_embedding;
    CheckedPlan checked = bench_.check(method_, result_.plan, result_.scores, allocator_, quantizer_);
    bench_.release();
    result_.held_back_kld = checked.kld;
    result_.plan = std::move(checked.plan);
  }

  void write() {
    ExportPlan& plan = result_.exported_plan;
    plan.schemes = schemes_of(result_.plan);
    check_plan_loads(format_, runtime_, plan, model_);
    PreparedQuantizer prepared = bench_.prepare(plan.schemes, quantizer_);
    plan.importance = bench_.importance();
    plan.quantizer = prepared.plain;
    plan.calibrated = prepared.calibrated;
    plan.row_impacts = bench_.row_impacts(plan.schemes);
    if (!plan.calibrated && rank_count() > 1)
      plan.calibrated = share_rounding(*prepared.model, plan.quantizer, plan.importance);
    const bool tuned = tunes() && (loses() || request_.tuning.when == TuningOptions::When::On);
    if (tuned) tune(prepared.model);
    if (!is_first_rank()) return help_to_write(*prepared.model, tuned);
    plan.label = file_label(request_, result_, quantizer_, bench_.known_calibration());
    Model written = *prepared.model;
    if (lost_window_ > 0) written.config.sliding_window = lost_window_;  // which its keys say all the same
    result_.exported = format_.write(written, plan, request_.output);
    plan.calibrated = nullptr;  // it uses the model, which does not outlive this
    if (const std::string others = name_stored_schemes(result_.plan); !others.empty()) show_note(others);
    describe_boundaries(model_, format_, plan, result_.exported.file_bytes, result_.plan);
  }

  // What rank 0 writes is made by all ranks where the quantizer's work can be shared; otherwise they wait.
  void help_to_write(const Model& model, bool is_made) {
    ExportPlan& plan = result_.exported_plan;
    auto* shared = dynamic_cast<SharedQuantizer*>(plan.calibrated.get());
    if (shared != nullptr && !is_made) {
      begin_calibrated(model, plan);
      shared->help();
    }
    plan.calibrated = nullptr;
  }

  bool tunes() const {
    const TuningOptions::When when = request_.tuning.when;
    return when == TuningOptions::When::On || (when == TuningOptions::When::Automatic && effort_.tunes);
  }

  // Whether the plan loses anything that tuning could make up for.
  bool loses() const {
    const ExportPlan& plan = result_.exported_plan;
    return !is_floating(plan.embedding) || !is_floating(plan.head) ||
           std::any_of(plan.schemes.begin(), plan.schemes.end(),
                       [](const auto& planned) { return !is_floating(planned.second); });
  }

  std::shared_ptr<const Calibration> tuning_tokens() {
    constexpr int64_t kPasses = 4;  // over the windows, where there are enough
    const TuningOptions& options = request_.tuning;
    return bench_.calibration("--tune on", options.steps * options.tokens_per_step / kPasses);
  }

  void tune(std::shared_ptr<const Model>& model) {
    TuningOptions options = request_.tuning;
    options.device = request_.workbench.device;
    options.seed = request_.workbench.seed;
    options.cache = request_.workbench.cache;
    const std::shared_ptr<const Calibration> calibration = tuning_tokens();
    from_first_rank([&] {
      result_.tuning = tune_plan(model_, model, result_.exported_plan, format_, *calibration, options);
      return std::string();
    });
  }

  // The unquantized model, a uniform plan of the same bytes, and the file as it was written.
  void measure() {
    uint64_t stored = 0;
    for (const Module& module : model_.modules) stored += model_.checkpoint->info(module.tensor).bytes;
    add_measurement("unquantized", stored, evaluate(bench_.reference(), ids_, request_.evaluation));
    if (request_.plan.empty() && allocator_.name != "uniform") measure_uniform();
    measure_written();
  }

  // By all ranks where all see the file; otherwise by the one that wrote it.
  void measure_written() {
    const std::filesystem::path path = broadcast(result_.exported.path.string());
    const auto measure = [&] {
      const Model written = open_model(path);
      DecoderOptions options;
      options.device = request_.workbench.device;
      Decoder decoder(written, options);
      constexpr size_t kWorst = 20;
      add_measurement(name_of(result_.plan), result_.plan.bytes,
                      evaluate_by_token(decoder, ids_, request_.evaluation, bench_.reference(), kWorst,
                                        result_.by_token.emplace()));
      return std::string();
    };
    const std::vector<std::string> seen = gather(std::filesystem::exists(path) ? "" : "missing");
    if (std::all_of(seen.begin(), seen.end(), [](const std::string& missing) { return missing.empty(); }))
      measure();
    else
      from_first_rank(measure);
  }

  void measure_uniform() {
    const Plan plan = uniform_plan(model_, result_.scores, allocator_, result_.plan.bytes);
    std::map<std::string, Scheme> schemes = schemes_of(plan);
    if (format_.name == "gguf" || !is_floating(result_.exported_plan.embedding)) {
      schemes[model_.embedding] = result_.exported_plan.embedding;
      if (!model_.config.tied_embeddings) schemes[model_.head] = result_.exported_plan.head;
      if (!model_.layer_embedding.empty())
        schemes[model_.layer_embedding] = *result_.exported_plan.layer_embedding;
    }
    Decoder& decoder = bench_.quantized(schemes, quantizer_);
    add_measurement("uniform", plan.bytes, evaluate(decoder, ids_, request_.evaluation, &bench_.reference()));
    bench_.release_quantized();
  }

  void add_measurement(const std::string& name, uint64_t bytes, const Evaluation& evaluation) {
    result_.measurements.push_back({name, bytes, evaluation});
  }

  const QuantizeRequest& request_;
  const Effort& effort_;
  MethodChoice method_;
  QuantizerChoice quantizer_;  // neither of them "auto"
  const Runtime* runtime_;     // null for none
  const ExportFormat& format_;
  Workbench bench_;  // of the model as it is run from the format
  const Model& model_;
  const int64_t lost_window_;  // tokens; 0: none
  Menu menu_;
  AllocatorOptions allocator_;
  std::vector<int32_t> ids_;
  QuantizeResult result_;
};

}  // namespace

QuantizeResult quantize(const QuantizeRequest& request) {
  const Notes notes;
  QuantizeResult result = Job(request).run();
  result.notes = notes.list();
  return result;
}

}  // namespace strata
