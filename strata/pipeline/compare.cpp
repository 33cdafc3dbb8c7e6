#include "strata/pipeline/compare.h"
#include "strata/pipeline/rank_rows.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <optional>

#include "strata/core/error.h"
#include "strata/core/progress.h"
#include "strata/core/statistics.h"
#include "strata/core/stopwatch.h"
#include "strata/pipeline/apply_schemes.h"
#include "strata/pipeline/automatic.h"
#include "strata/pipeline/comparison_file.h"
#include "strata/pipeline/methods.h"
#include "strata/pipeline/quantize.h"
#include "strata/sensitivity/costs.h"

namespace strata {
namespace {

struct Text {
  std::string name;
  std::vector<int32_t> ids;
};

class Comparer {
 public:
  explicit Comparer(const CompareRequest& request)
      : request_(request), model_(open_model(request.model)), sensitivity_(request.sensitivity) {
    if (request.texts.empty() || request.methods.empty() || request.budgets.empty())
      fail_usage("a comparison needs at least one text, one method and one budget");
    for (const auto& path : request.texts)
      texts_.push_back({path.filename().string(), tokenize_file(model_, path)});
    for (const std::string& method : request.methods)
      methods_.push_back(resolve_automatic(parse_method(method), has_calibration(sensitivity_)));
    load_imatrix(model_, sensitivity_);
    sensitivity_.high_impact.interactions = request.allocator.interactions;
    if (sensitivity_.imatrix)
      for (const Module& module : model_.modules)
        importance_[module.tensor] = sensitivity_.imatrix->mean_squares(module.tensor);
    options_.device = request.sensitivity.device;
    allocator_ = request.allocator;
    allocator_.schemes = parse_schemes(request.schemes);
    if (!request.results.empty()) file_.emplace(request.results, settings());
  }

  Comparison run() {
    Decoder reference(model_, options_);
    Decoder decoder(model_, options_);
    Comparison comparison;
    comparison.unquantized = cell({"unquantized", "", 0}, [&] { return unquantized(reference); });
    const auto add = [&](const MethodChoice& method, const QuantizerChoice& quantizer, double budget) {
      const auto rows = cell({method.label, quantizer.name, budget},
                             [&] { return measure(decoder, reference, method, quantizer, budget); });
      comparison.rows.insert(comparison.rows.end(), rows.begin(), rows.end());
    };
    for (const double budget : request_.budgets)
      for (const QuantizerChoice& quantizer : request_.quantizers)
        for (const MethodChoice& method : methods_)
          if (!method.base) add(method, quantizer, budget);
    for (const QuantizerChoice& quantizer : request_.quantizers)
      for (const MethodChoice& method : methods_)
        if (method.base) add(method, quantizer, *method.base);
    if (request_.correlations) correlate(comparison, decoder, reference);
    return comparison;
  }

 private:
  int64_t params() const {
    int64_t sum = 0;
    for (const Module& module : model_.modules) sum += module.params();
    return sum;
  }

  // Scores of a method are computed once and serve every budget.
  const Scores& scores_of(const MethodChoice& method, uint64_t seed) {
    const std::string key = fmt::format("{} {} {} {}", method.score_method, seed,
                                        is_checked(method, sensitivity_), method.base ? method.schemes : "");
    const auto found = scores_.find(key);
    if (found != scores_.end()) return found->second;
    if (needs_tokens(sensitivity_method(method.score_method), sensitivity_))
      calibration("--method " + method.label);
    load_row_impacts(model_, allocator_.schemes, sensitivity_);
    SensitivityOptions options = sensitivity_;
    options.schemes = method.base ? parse_schemes(method.schemes) : allocator_.schemes;
    options.seed = seed;
    if (is_checked(method, sensitivity_)) options.calibration = parted().scoring;
    if (!method.base) {
      if (!errors_)
        errors_ =
            std::make_shared<WeightErrors>(measure_weight_errors(model_, options.schemes, options.quantizer));
      options.errors = errors_;
    }
    return scores_.emplace(key, score(model_, method.score_method, options)).first->second;
  }

  // Read once, for all scores and quantizers.
  const Calibration& calibration(const std::string& user) {
    if (!sensitivity_.calibration)
      sensitivity_.calibration =
          require_calibration(model_, sensitivity_.calibration_source, options_.device, user);
    return *sensitivity_.calibration;
  }

  const PartedCalibration& parted() {
    if (!parted_) parted_ = part_calibration(calibration("--method auto"));
    return *parted_;
  }

  Plan plan_of(const MethodChoice& method, const QuantizerChoice& quantizer, double budget, uint64_t seed,
               Decoder& shared_decoder, Decoder& reference) {
    AllocatorOptions allocator = allocator_;
    allocator.budget = {};
    allocator.budget.bits_per_weight = budget;
    allocator = allocator_of(method, allocator);
    const Scores& scores = scores_of(method, seed);
    const Plan plan = make_plan(model_, scores, allocator);
    if (!is_checked(method, sensitivity_)) return plan;
    const CheckedPlan checked =
        check_against_uniform(model_, plan, scores, allocator, [&](const Plan& candidate) {
          std::optional<Decoder> of_scaled_model;
          Decoder& decoder = quantized(candidate, quantizer, shared_decoder, of_scaled_model);
          return kld_on(*parted().checking, decoder, reference);
        });
    show_note(checked.note);
    return checked.plan;
  }

  // Puts what the plan leaves of the model into `decoder`, or into one of its own where that is another
  // model.
  Decoder& quantized(const Plan& plan, const QuantizerChoice& choice, Decoder& decoder,
                     std::optional<Decoder>& of_scaled_model) {
    if (needs_calibration(choice)) calibration("the quantizer " + choice.name);
    rank_rows(model_, schemes_of(plan), sensitivity_);
    QuantizerChoice ranked = choice;
    ranked.learning.seed = sensitivity_.seed;
    if (sensitivity_.row_impacts) ranked.row_impacts = *sensitivity_.row_impacts;
    prepared_ =
        prepare_quantizer(model_, schemes_of(plan), ranked, sensitivity_.calibration, options_.device);
    const bool scaled = prepared_.model.get() != &model_;
    Decoder& target = scaled ? of_scaled_model.emplace(*prepared_.model, options_) : decoder;
    apply_schemes(target, schemes_of(plan), prepared_.plain, prepared_.calibrated.get(), importance_,
                  ranked.row_impacts);
    return target;
  }

  // All that the rows depend on, so that a run goes on only where one with the same options ended.
  Json settings() const {
    const EvaluationOptions& evaluation = request_.evaluation;
    const SensitivityOptions& sensitivity = request_.sensitivity;
    const CalibrationOptions& calibration = sensitivity.calibration_source;
    Json texts = Json::array(), quantizers = Json::array();
    for (const Text& text : texts_) texts.push_back({text.name, text.ids.size()});
    for (const QuantizerChoice& choice : request_.quantizers)
      quantizers.push_back({choice.gptq.damping, static_cast<int>(choice.gptq.act_order),
                            static_cast<int>(choice.gptq.scales), choice.sequential, choice.learning.steps,
                            choice.learning.learning_rate, choice.learning.start});
    return {
        {"model", request_.model.string()},
        {"texts", texts},
        {"schemes", request_.schemes},
        {"seeds", request_.seeds},
        {"seed", sensitivity.seed},
        {"evaluation", {evaluation.window, evaluation.stride, evaluation.max_tokens}},
        {"calibration", {calibration.source, calibration.tokens, calibration.window}},
        {"imatrix", sensitivity.imatrix_file.string()},
        {"nsds", {sensitivity.nsds.tau, sensitivity.nsds.multiply_entropy, sensitivity.nsds.consistent_mad}},
        {"kl", {sensitivity.kl.tokens, c10::toString(sensitivity.kl.dtype)}},
        {"high-impact", {sensitivity.high_impact.tokens, static_cast<int>(sensitivity.high_impact.loss)}},
        {"infoq",
         {sensitivity.infoq.tokens, sensitivity.infoq.buckets, sensitivity.infoq.directions,
          sensitivity.infoq.neighbours, sensitivity.infoq.observers, sensitivity.infoq.inverse_width}},
        {"grouped query rule", sensitivity.grouped_query_rule},
        {"allocator",
         {allocator_.name, static_cast<int>(allocator_.ties), allocator_.relative_gap,
          static_cast<int>(allocator_.differences), allocator_.base, allocator_.stop, allocator_.top,
          allocator_.rebase, allocator_.interactions}},
        {"quantizers", quantizers}};
  }

  // The rows of one cell, one a text: from the results file, or computed and saved there.
  template <class Compute>
  std::vector<CompareRow> cell(const CompareCell& which, const Compute& compute) {
    if (file_) {
      std::vector<CompareRow> rows = file_->find(which);
      if (rows.size() == texts_.size()) return rows;
    }
    std::vector<CompareRow> rows = compute();
    for (CompareRow& row : rows) {
      row.method = which.method;
      row.quantizer = which.quantizer;
      row.budget = which.budget;
    }
    if (file_) file_->add(rows);
    return rows;
  }

  std::vector<CompareRow> unquantized(Decoder& reference) {
    std::vector<CompareRow> rows;
    for (const Text& text : texts_) {
      CompareRow& row = rows.emplace_back();
      row.text = text.name;
      for (const Module& module : model_.modules) row.bytes += model_.checkpoint->info(module.tensor).bytes;
      row.bits_per_weight = 8 * static_cast<double>(row.bytes) / static_cast<double>(params());
      row.evaluation = evaluate(reference, text.ids, request_.evaluation);
    }
    return rows;
  }

  std::vector<CompareRow> measure(Decoder& shared_decoder, Decoder& reference, const MethodChoice& method,
                                  const QuantizerChoice& quantizer, double budget) {
    const int runs = method.score_method == "random" ? request_.seeds : 1;
    std::vector<std::vector<CompareRow>> by_text(texts_.size());
    for (int run = 0; run < runs; ++run) {
      const Stopwatch start;
      const Plan plan =
          plan_of(method, quantizer, budget, request_.sensitivity.seed + static_cast<uint64_t>(run),
                  shared_decoder, reference);
      std::optional<Decoder> of_scaled_model;
      Decoder& decoder = quantized(plan, quantizer, shared_decoder, of_scaled_model);
      const double seconds = start.seconds();
      for (size_t t = 0; t < texts_.size(); ++t) {
        CompareRow row;
        row.bits_per_weight = plan.bits_per_weight;
        row.bytes = plan.bytes;
        row.text = texts_[t].name;
        row.seconds = seconds;
        row.evaluation = evaluate(decoder, texts_[t].ids, request_.evaluation, &reference);
        by_text[t].push_back(row);
      }
    }
    std::vector<CompareRow> rows;
    for (const auto& of_text : by_text) rows.push_back(mean_of(of_text));
    return rows;
  }

  void correlate(Comparison& comparison, Decoder& decoder, Decoder& reference) {
    comparison.layer_kld = measure_layers(decoder, reference);
    for (const MethodChoice& method : methods_) {
      const std::vector<double> scores = layer_scores(scores_of(method, request_.sensitivity.seed));
      comparison.correlations.push_back({method.label, rank_correlation(scores, comparison.layer_kld)});
    }
  }

  // KL divergence with one layer alone in the smallest scheme of the menu, round-to-nearest or HQQ.
  std::vector<double> measure_layers(Decoder& decoder, Decoder& reference) {
    const Scheme& smallest = *std::min_element(allocator_.schemes.begin(), allocator_.schemes.end(),
                                               [](const Scheme& a, const Scheme& b) {
                                                 return a.stored_bits(4096, 4096) < b.stored_bits(4096, 4096);
                                               });
    EvaluationOptions evaluation = request_.evaluation;
    evaluation.max_tokens = request_.correlation_tokens;
    std::vector<double> klds;
    for (int layer = 0; layer < model_.config.num_layers; ++layer) {
      std::map<std::string, Scheme> schemes;
      for (const Module& module : model_.modules)
        if (module.layer == layer) schemes[module.tensor] = smallest;
      apply_schemes(decoder, schemes, {});
      klds.push_back(*evaluate(decoder, texts_.front().ids, evaluation, &reference).kld);
    }
    return klds;
  }

  // One score a layer: the method's own, or the mean over its modules.
  std::vector<double> layer_scores(const Scores& scores) const {
    std::vector<Moments> layers(static_cast<size_t>(model_.config.num_layers));
    for (const Score& score : scores.scores)
      layers[static_cast<size_t>(score.layer)].merge({1, score.score, 0, 0, 0});
    std::vector<double> means;
    for (const Moments& layer : layers) means.push_back(layer.mean);
    return means;
  }

  static CompareRow mean_of(const std::vector<CompareRow>& rows) {
    if (rows.size() == 1) return rows.front();
    CompareRow mean = rows.front();
    const double n = static_cast<double>(rows.size());
    const auto average = [&](auto value) {
      double sum = 0;
      for (const CompareRow& row : rows) sum += value(row);
      return sum / n;
    };
    Evaluation& e = mean.evaluation;
    e.nll = average([](const CompareRow& r) { return r.evaluation.nll; });
    e.ppl = average([](const CompareRow& r) { return r.evaluation.ppl; });
    e.kld = average([](const CompareRow& r) { return *r.evaluation.kld; });
    e.kld_p99 = average([](const CompareRow& r) { return *r.evaluation.kld_p99; });
    e.top1 = average([](const CompareRow& r) { return *r.evaluation.top1; });
    mean.bits_per_weight = average([](const CompareRow& r) { return r.bits_per_weight; });
    mean.bytes = static_cast<uint64_t>(
        std::llround(average([](const CompareRow& r) { return static_cast<double>(r.bytes); })));
    mean.seconds = average([](const CompareRow& r) { return r.seconds; });
    const double squares = average([&](const CompareRow& r) {
      const double d = r.evaluation.ppl - e.ppl;
      return d * d;
    });
    mean.spread = std::sqrt(squares * n / (n - 1));
    return mean;
  }

  const CompareRequest& request_;
  Model model_;
  SensitivityOptions sensitivity_;  // with calibration and imatrix, once they are read
  std::map<std::string, std::vector<float>> importance_;
  std::vector<Text> texts_;
  std::vector<MethodChoice> methods_;
  DecoderOptions options_;
  AllocatorOptions allocator_;
  PreparedQuantizer prepared_;               // what the last plan was quantized with
  std::optional<PartedCalibration> parted_;  // of the method auto
  std::optional<ComparisonFile> file_;
  std::map<std::string, Scores> scores_;
  std::shared_ptr<const WeightErrors> errors_;  // shared by all methods
};

}  // namespace

Comparison compare(const CompareRequest& request) {
  return Comparer(request).run();
}

}  // namespace strata
