#include "strata/pipeline/workbench.h"

#include <fmt/format.h>

#include <algorithm>
#include <functional>

#include "strata/calibration/row_impact.h"
#include "strata/core/progress.h"
#include "strata/core/ranks.h"
#include "strata/model/boundary_modules.h"
#include "strata/pipeline/apply_schemes.h"
#include "strata/pipeline/reachable_costs.h"
#include "strata/quantizers/finished_matrices.h"
#include "strata/quantizers/teacher.h"
#include "strata/sensitivity/kl.h"
#include "strata/sensitivity/module_scores.h"

namespace strata {
namespace {

// What is given costs, beside the layers' matrices, and in which schemes.
std::string costs_asked(const SensitivityOptions& options) {
  std::string names;
  for (const Scheme& scheme : options.schemes) names += scheme.name() + " ";
  for (const Module& boundary : options.boundaries) names += boundary.name + " ";
  return names;
}

// The tokens that rank 0 reads or lets the model write, in all ranks.
std::shared_ptr<const Calibration> of_first_rank(
    const std::function<std::shared_ptr<const Calibration>()>& make) {
  if (rank_count() == 1) return make();
  std::shared_ptr<const Calibration> made;
  const Json read = Json::parse(from_first_rank([&] {
    made = make();
    const int64_t* ids = made->ids.data_ptr<int64_t>();
    return Json{{"source", made->source},
                {"window", made->window()},
                {"ids", std::vector<int64_t>(ids, ids + made->tokens())}}
        .dump();
  }));
  if (made) return made;
  const auto ids = read.at("ids").get<std::vector<int64_t>>();
  return std::make_shared<const Calibration>(
      make_calibration(at::tensor(ids, at::kLong).view({-1, read.at("window").get<int64_t>()}),
                       read.at("source").get<std::string>()));
}

// What rank 0 makes, in all ranks: as it is, or through JSON.
template <class Value, class FromJson>
Value of_first_rank(const std::function<Value()>& make, const FromJson& from_json) {
  if (rank_count() == 1) return make();
  std::optional<Value> made;
  const std::string text = from_first_rank([&] {
    made = make();
    return to_json(*made).dump();
  });
  return made ? std::move(*made) : from_json(Json::parse(text), "rank 0");
}

// The same of what nlohmann-json knows by itself.
template <class Value>
Value of_first_rank(const std::function<Value()>& make) {
  if (rank_count() == 1) return make();
  return Json::parse(from_first_rank([&] { return Json(make()).dump(); })).template get<Value>();
}

// What reachable costs depend on.
std::string identity_of(const AllocatorOptions& plan) {
  return fmt::format("{} {} {} {}", plan.budget.bits_per_weight.value_or(0),
                     plan.budget.average_code_bits.value_or(0), plan.budget.bytes.value_or(0),
                     static_cast<int>(plan.ties));
}

}  // namespace

Options declare(WorkbenchOptions& options) {
  CalibrationOptions& calibration = options.calibration;
  return {everyday(text("calib", calibration.source, "FILE|self",
                        "tokens to measure on: a text file, token ids (.npy, .safetensors), or self: text "
                        "that the model writes; what needs tokens takes self without it")),
          number("calib-tokens", calibration.tokens, 0, int64_t{1} << 40,
                 "how many of them, in whole windows; 0: 16384, with the effort best 65536"),
          number("calib-window", calibration.window, 2, 1 << 24, "tokens in a window"),
          path("calib-cache", options.cache, "DIR",
               "directory where costs are saved as they are measured, so that a later run goes on there"),
          path("imatrix", options.imatrix, "FILE",
               "llama.cpp's importance matrix (GGUF) of this model: serves output-error instead of tokens "
               "and weighs the errors of GGUF types")};
}

Workbench::Workbench(Model model, WorkbenchOptions options)
    : options_(std::move(options)), model_(std::move(model)) {
  if (rank_count() > 1) require_same("the checkpoint " + model_.path.string(), weights_fingerprint(model_));
  options_.calibration.seed = options_.seed;
  if (options_.calibration.tokens == 0) options_.calibration.tokens = kCalibrationTokens;
  if (options_.imatrix.empty()) return;
  imatrix_ = std::make_shared<const Imatrix>(read_imatrix(options_.imatrix, model_));
  for (const Module& module : model_.modules)
    importance_[module.tensor] = imatrix_->mean_squares(module.tensor);
}

std::shared_ptr<const Calibration> Workbench::calibration(const std::string& who) {
  if (!calibration_)
    calibration_ = of_first_rank(
        [&] { return require_calibration(model_, options_.calibration, options_.device, who); });
  return calibration_;
}

std::shared_ptr<const Calibration> Workbench::calibration(const std::string& who, int64_t tokens) {
  CalibrationOptions more = options_.calibration;
  if (more.source.empty() || more.source == "self" || more.tokens >= tokens) return calibration(who);
  more.tokens = tokens;
  return of_first_rank(
      [&] { return std::make_shared<const Calibration>(load_calibration(model_, more, options_.device)); });
}

const PartedCalibration& Workbench::parted_calibration() {
  if (!parted_) parted_ = part_calibration(*calibration("--method auto"));
  return *parted_;
}

RowImpacts Workbench::row_impacts(const std::vector<Scheme>& schemes) {
  if (mixes_rows(schemes) && !row_impacts_) {
    if (options_.has_calibration()) calibration("the impact of rows");
    if (calibration_)
      row_impacts_ = std::make_shared<const RowImpacts>(of_first_rank<RowImpacts>(
          [&] { return measure_row_impact(model_, *calibration_, options_.device, options_.cache); }));
  }
  return row_impacts_ ? *row_impacts_ : RowImpacts();
}

RowImpacts Workbench::row_impacts(const std::map<std::string, Scheme>& schemes) {
  std::vector<Scheme> list;
  for (const auto& [tensor, scheme] : schemes) list.push_back(scheme);
  return row_impacts(list);
}

std::vector<Module> Workbench::boundaries_for(const AllocatorOptions* plan) const {
  std::vector<Module> boundaries;
  for (const Module& boundary : boundary_modules(model_)) {
    const bool planned = plan != nullptr && std::any_of(plan->boundaries.begin(), plan->boundaries.end(),
                                                        [&](const AllocationModule& one) {
                                                          return one.tensor == boundary.tensor;
                                                        });
    if (planned) boundaries.push_back(boundary);
  }
  return boundaries;
}

std::shared_ptr<const WeightErrors> Workbench::weight_errors(const SensitivityOptions& options) {
  std::shared_ptr<const WeightErrors>& errors = weight_errors_[costs_asked(options)];
  if (!errors)
    errors = std::make_shared<const WeightErrors>(
        measure_weight_errors(model_, options.schemes, options.quantizer, options.boundaries));
  return errors;
}

bool Workbench::takes_reachable_costs(const MethodChoice& method, const AllocatorOptions& plan) const {
  return method.score_method == "kl" && plan.name == "exact" && !plan.budget.empty() &&
         options_.methods.get<KlOptions>().table == KlOptions::Table::Reachable;
}

std::shared_ptr<SchemeTrials> Workbench::trials(const MethodChoice& method, const QuantizerChoice* quantizer,
                                                const Evidence& evidence) const {
  if (quantizer == nullptr || method.score_method != "kl" ||
      options_.methods.get<KlOptions>().weights != KlOptions::Weights::Quantizer)
    return nullptr;
  QuantizerInputs inputs;
  inputs.calibration = evidence.calibration;
  if (evidence.row_impacts) inputs.row_impacts = *evidence.row_impacts;
  inputs.device = options_.device;
  return trials_of(model_, *quantizer, inputs);
}

const Scores& Workbench::scores(const MethodChoice& method, const std::vector<Scheme>& schemes, uint64_t seed,
                                const AllocatorOptions* plan, const QuantizerChoice* quantizer) {
  const bool checked = is_checked(method);
  const bool reachable = plan != nullptr && takes_reachable_costs(method, *plan);
  SensitivityOptions options;
  options.schemes = schemes;
  if (!schemes.empty()) options.boundaries = boundaries_for(plan);
  options.device = options_.device;
  options.seed = seed;
  options.cache = options_.cache;
  options.methods = options_.methods;
  Evidence evidence;
  evidence.imatrix = imatrix_;
  if (needs_tokens(sensitivity_method(method.score_method), imatrix_ != nullptr)) {
    evidence.calibration = calibration("--method " + method.label);
    row_impacts(schemes);  // on all tokens
    evidence.row_impacts = row_impacts_;
    if (checked) evidence.calibration = parted_calibration().scoring;
  }
  options.trials = trials(method, quantizer, evidence);
  const std::string asked = fmt::format("{} {} {}", checked, costs_asked(options),
                                        options.trials ? options.trials->identity() : "");
  const std::string key =
      fmt::format("{} {} {} {}", method.score_method, seed, asked, reachable ? identity_of(*plan) : "");
  if (const auto found = scores_.find(key); found != scores_.end()) return found->second;
  if (const auto found = weight_errors_.find(costs_asked(options)); found != weight_errors_.end())
    evidence.errors = found->second;
  Scores scores;
  if (reachable) {
    std::unique_ptr<ReachableCosts>& costs = reachable_costs_[asked];
    if (!costs) costs = std::make_unique<ReachableCosts>(model_, options, evidence);
    scores = costs->for_plan(*plan);
    show_note(
        fmt::format("kl measured {} of {} costs, those that this budget can come to; the others are "
                    "predicted by gradients",
                    scores.details["measured_costs"].get<size_t>(), scores.costs.size()));
  } else {
    const auto make = [&] { return score_without_costs(model_, method.score_method, options, evidence); };
    scores = method.score_method == "kl" ? make() : of_first_rank<Scores>(make, scores_from_json);
  }
  if (!schemes.empty() && scores.costs.empty()) add_costs(scores, *weight_errors(options));
  scores = of_first_rank<Scores>([&] { return scores; }, scores_from_json);
  return scores_.emplace(key, std::move(scores)).first->second;
}

CheckedPlan Workbench::check(const MethodChoice& method, const Plan& plan, const Scores& scores,
                             const AllocatorOptions& allocator, const QuantizerChoice& quantizer) {
  if (!is_checked(method)) return {plan, "", std::nullopt};
  const QuantizerChoice checking = stand_in_for(quantizer);
  CheckedPlan checked = check_against_uniform(model_, plan, scores, allocator, [&](const Plan& candidate) {
    std::map<std::string, Scheme> schemes = schemes_of(candidate);
    if (plan.embedding)
      schemes[model_.embedding] = *plan.embedding;  // as in the plan, also beside the uniform one
    if (plan.head) schemes[model_.head] = *plan.head;
    if (plan.layer_embedding) schemes[model_.layer_embedding] = *plan.layer_embedding;
    PreparedQuantizer prepared = prepare(schemes, checking);
    if (prepared.calibrated && checking.name == quantizer.name) {
      prepared.calibrated = remember(prepared.calibrated);
      checked_ = layers_identity(schemes, checking);
      checked_quantizer_ = prepared;
    }
    return kld_on(*parted_calibration().checking, replace_by(prepared, schemes), reference());
  });
  show_note(checked.note);
  return checked;
}

PreparedQuantizer Workbench::prepare(const std::map<std::string, Scheme>& schemes,
                                     const QuantizerChoice& quantizer) {
  if (checked_quantizer_.calibrated && checked_ == layers_identity(schemes, quantizer))
    return checked_quantizer_;
  QuantizerInputs inputs;
  if (find_quantizer(quantizer.name).needs_calibration)
    inputs.calibration = calibration("the quantizer " + quantizer.name);
  inputs.row_impacts = row_impacts(schemes);
  inputs.device = options_.device;
  inputs.seed = options_.seed;
  inputs.cache = options_.cache;
  if (inputs.calibration) weigh_head(*inputs.calibration);
  return prepare_quantizer(model_, schemes, quantizer, inputs);
}

void Workbench::weigh_head(const Calibration& calibration) {
  constexpr int64_t kTokens = 4096;
  if (importance_.count(model_.head) > 0) return;
  const int64_t windows =
      std::min(calibration.blocks(), std::max<int64_t>(1, kTokens / calibration.window()));
  importance_[model_.head] = of_first_rank<std::vector<float>>(
      [&] { return mean_squares_of_head(model_, calibration.ids.narrow(0, 0, windows), options_.device); });
}

DecoderOptions Workbench::decoder_options() const {
  DecoderOptions options;
  options.device = options_.device;
  return options;
}

Decoder& Workbench::reference() {
  if (!reference_) reference_.emplace(model_, decoder_options());
  return *reference_;
}

Decoder& Workbench::quantized(const std::map<std::string, Scheme>& schemes,
                              const QuantizerChoice& quantizer) {
  return replace_by(prepare(schemes, quantizer), schemes);
}

// What a calibrated quantizer makes of the layers' matrices depends on these.
std::string Workbench::layers_identity(const std::map<std::string, Scheme>& schemes,
                                       const QuantizerChoice& quantizer) const {
  std::string identity =
      quantizer.name + changed_values(find_quantizer(quantizer.name).options, quantizer.options).dump();
  for (const Module& module : model_.modules)
    if (const auto found = schemes.find(module.tensor); found != schemes.end())
      identity += " " + module.tensor + "=" + found->second.name();
  return identity;
}

Decoder& Workbench::replace_by(PreparedQuantizer prepared, const std::map<std::string, Scheme>& schemes) {
  scaled_decoder_.reset();  // looks at the model that is replaced now
  prepared_ = std::move(prepared);
  const bool scaled = prepared_.model.get() != &model_;
  std::optional<Decoder>& decoder = scaled ? scaled_decoder_ : decoder_;
  if (scaled || !decoder) decoder.emplace(*prepared_.model, decoder_options());
  apply_schemes(*decoder, schemes, prepared_.plain, prepared_.calibrated.get(), importance_,
                row_impacts(schemes));
  return *decoder;
}

void Workbench::release_quantized() {
  decoder_.reset();
  scaled_decoder_.reset();
  prepared_ = {};
}

void Workbench::release() {
  release_quantized();
  reference_.reset();
}

Plan make_plan(const Model& model, const Scores& scores, const AllocatorOptions& options) {
  return of_first_rank<Plan>([&] { return allocate(allocation_modules(model.modules), scores, options); },
                             plan_from_json);
}

}  // namespace strata
