#include "strata/pipeline/compare.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <optional>

#include "strata/core/error.h"
#include "strata/core/progress.h"
#include "strata/core/ranks.h"
#include "strata/core/statistics.h"
#include "strata/core/stopwatch.h"
#include "strata/pipeline/apply_schemes.h"
#include "strata/pipeline/automatic.h"
#include "strata/pipeline/comparison_file.h"
#include "strata/pipeline/methods.h"
#include "strata/pipeline/quantize.h"

namespace strata {
namespace {

struct Text {
  std::string name;
  std::vector<int32_t> ids;
  std::string fingerprint;
};

Text tokenized(const Model& model, const std::filesystem::path& path) {
  Text text;
  text.name = path.filename().string();
  text.ids = tokenize_file(model, path);
  text.fingerprint = fingerprint_of(at::tensor(text.ids, at::kLong).unsqueeze(0));
  return text;
}

// The means over runs with different seeds.
CompareRow mean_of(const std::vector<CompareRow>& rows) {
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

// One way to quantize, under one budget.
struct Cell {
  const MethodChoice& method;
  const QuantizerChoice& quantizer;
  double budget;
};

class Comparer {
 public:
  explicit Comparer(const CompareRequest& request)
      : request_(request),
        bench_(open_model(request.model), request.workbench),
        model_(bench_.model()),
        menu_(parse_schemes(request.schemes)) {
    if (request.texts.empty() || request.methods.empty() || request.budgets.empty())
      fail_usage("a comparison needs at least one text, one method and one budget");
    for (const auto& path : request.texts) texts_.push_back(tokenized(model_, path));
    const Effort& effort = find_effort("auto", model_.runnable);
    for (const std::string& method : request.methods)
      methods_.push_back(resolve_automatic(parse_method(method), effort));
    if (request.results.empty()) return;
    if (is_first_rank()) file_.emplace(request.results);
    weights_ = weights_fingerprint(model_);
  }

  Comparison run() {
    Comparison comparison;
    comparison.embedding_bits = bits_of(model_.embedding);
    if (model_.head != model_.embedding) comparison.head_bits = bits_of(model_.head);
    comparison.unquantized = rows_of({"unquantized", "", 0}, {}, [&] { return unquantized(); });
    const auto add = [&](const Cell& cell) {
      const auto rows = rows_of({cell.method.label, cell.quantizer.name, cell.budget}, key_of(cell),
                                [&] { return measure(cell); });
      comparison.rows.insert(comparison.rows.end(), rows.begin(), rows.end());
    };
    for (const double budget : request_.budgets)
      for (const QuantizerChoice& quantizer : request_.quantizers)
        for (const MethodChoice& method : methods_)
          if (!method.base) add({method, quantizer, budget});
    for (const QuantizerChoice& quantizer : request_.quantizers)
      for (const MethodChoice& method : methods_)
        if (method.base) add({method, quantizer, *method.base});
    if (request_.correlations) correlate(comparison);
    return comparison;
  }

 private:
  struct Label {
    std::string method, quantizer;
    double budget;
  };

  double bits_of(const std::string& tensor) const {
    const TensorInfo& info = model_.checkpoint->info(tensor);
    return 8 * static_cast<double>(info.bytes) / static_cast<double>(info.elements());
  }

  int64_t params() const {
    int64_t sum = 0;
    for (const Module& module : model_.modules) sum += module.params();
    return sum;
  }

  std::vector<Scheme> menu_of(const MethodChoice& method) const {
    return method.base ? parse_schemes(method.schemes) : menu_;
  }

  AllocatorOptions allocator_for(const Cell& cell) const {
    AllocatorOptions allocator = request_.allocator;
    allocator.schemes = menu_;
    allocator.budget = {};
    allocator.budget.bits_per_weight = cell.budget;
    return allocator_of(cell.method, allocator);
  }

  Plan plan_of(const Cell& cell, uint64_t seed) {
    const AllocatorOptions allocator = allocator_for(cell);
    const Scores& scores =
        bench_.scores(cell.method, menu_of(cell.method), seed, &allocator, &cell.quantizer);
    return bench_.check(cell.method, make_plan(model_, scores, allocator), scores, allocator, cell.quantizer)
        .plan;
  }

  // All that a cell's rows depend on, beside model, text and how it is evaluated.
  Json key_of(const Cell& cell) {
    if (request_.results.empty()) return {};
    const WorkbenchOptions& evidence = request_.workbench;
    const SensitivityMethod& scorer = sensitivity_method(cell.method.score_method);
    const Quantizer& quantizer = find_quantizer(cell.quantizer.name);
    const AllocatorOptions allocator = allocator_for(cell);
    Json key = {{"method", cell.method.label},
                {"quantizer", quantizer.name},
                {"budget", cell.budget},
                {"schemes", Json::array()},
                {"ties", static_cast<int>(allocator.ties)},
                {"seed", evidence.seed}};
    for (const Scheme& scheme : menu_of(cell.method)) key["schemes"].push_back(scheme.name());
    if (scorer.name == "random") key["seeds"] = request_.seeds;
    key["options"] = changed_values(scorer.options, evidence.methods);
    key["options"].update(changed_values(quantizer.options, cell.quantizer.options));
    key["options"].update(changed_values(find_allocator(allocator.name).options, allocator.own));
    key["allocator"] = allocator.name;
    const std::shared_ptr<const Imatrix> imatrix = bench_.imatrix();
    if (imatrix) key["imatrix"] = imatrix->fingerprint();
    if (needs_tokens(scorer, imatrix != nullptr) || quantizer.needs_calibration ||
        (evidence.has_calibration() && mixes_rows(menu_of(cell.method))))
      key["calibration"] = calibration_key();
    return key;
  }

  // Text that the model writes follows from the model: it is not written for the sake of a key.
  Json calibration_key() {
    const CalibrationOptions& options = bench_.options().calibration;
    if (options.source.empty() || options.source == "self")
      return {{"self", options.tokens}, {"window", options.window}};
    return bench_.calibration("a row's key")->fingerprint;
  }

  // The rows of one cell, one a text: from the results file, or computed and saved there.
  template <class Compute>
  std::vector<CompareRow> rows_of(const Label& label, const Json& cell, const Compute& compute) {
    const EvaluationOptions& evaluation = request_.evaluation;
    std::vector<Json> keys;
    std::vector<CompareRow> rows;
    for (const Text& text : texts_) {
      keys.push_back({{"weights", weights_},
                      {"text", text.fingerprint},
                      {"evaluation", {evaluation.window, evaluation.stride, evaluation.max_tokens}},
                      {"cell", cell}});
      const CompareRow* row = file_ ? file_->find(keys.back()) : nullptr;
      if (row != nullptr) rows.push_back(*row);
    }
    const bool found = broadcast(rows.size() == texts_.size() ? "found" : "").size() > 0;
    if (!found) rows = compute();
    for (size_t t = 0; t < rows.size(); ++t) {
      rows[t].text = texts_[t].name;
      rows[t].method = label.method;
      rows[t].quantizer = label.quantizer;
      rows[t].budget = label.budget;
    }
    if (file_ && !found) file_->add(keys, rows);
    return rows;
  }

  std::vector<CompareRow> unquantized() {
    std::vector<CompareRow> rows;
    for (const Text& text : texts_) {
      CompareRow& row = rows.emplace_back();
      for (const Module& module : model_.modules) row.bytes += model_.checkpoint->info(module.tensor).bytes;
      row.bits_per_weight = 8 * static_cast<double>(row.bytes) / static_cast<double>(params());
      row.evaluation = evaluate(bench_.reference(), text.ids, request_.evaluation);
    }
    return rows;
  }

  std::vector<CompareRow> measure(const Cell& cell) {
    const int runs = cell.method.score_method == "random" ? request_.seeds : 1;
    std::vector<std::vector<CompareRow>> by_text(texts_.size());
    for (int run = 0; run < runs; ++run) {
      const Stopwatch start;
      const Plan plan = plan_of(cell, request_.workbench.seed + static_cast<uint64_t>(run));
      Decoder& decoder = bench_.quantized(schemes_of(plan), cell.quantizer);
      const double seconds = start.seconds();
      for (size_t t = 0; t < texts_.size(); ++t) {
        CompareRow row;
        row.bits_per_weight = plan.bits_per_weight;
        row.bytes = plan.bytes;
        row.seconds = seconds;
        row.evaluation = evaluate(decoder, texts_[t].ids, request_.evaluation, &bench_.reference());
        by_text[t].push_back(row);
      }
    }
    std::vector<CompareRow> rows;
    for (const auto& of_text : by_text) rows.push_back(mean_of(of_text));
    return rows;
  }

  void correlate(Comparison& comparison) {
    comparison.layer_kld = measure_layers();
    for (const MethodChoice& method : methods_) {
      const Scores& scores = bench_.scores(method, menu_of(method), request_.workbench.seed);
      comparison.correlations.push_back(
          {method.label, rank_correlation(layer_scores(scores), comparison.layer_kld)});
    }
  }

  // KL divergence with one layer alone in the smallest scheme of the menu, by HQQ or the scheme's own
  // rounding.
  std::vector<double> measure_layers() {
    const Scheme& smallest =
        *std::min_element(menu_.begin(), menu_.end(), [](const Scheme& a, const Scheme& b) {
          return a.stored_bits(4096, 4096) < b.stored_bits(4096, 4096);
        });
    EvaluationOptions evaluation = request_.evaluation;
    evaluation.max_tokens = request_.correlation_tokens;
    bench_.release_quantized();
    DecoderOptions options;
    options.device = request_.workbench.device;
    Decoder decoder(model_, options);
    std::vector<double> klds;
    for (int layer = 0; layer < model_.config.num_layers; ++layer) {
      std::map<std::string, Scheme> schemes;
      for (const Module& module : model_.modules)
        if (module.layer == layer) schemes[module.tensor] = smallest;
      apply_schemes(decoder, schemes, {});
      klds.push_back(*evaluate(decoder, texts_.front().ids, evaluation, &bench_.reference()).kld);
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

  const CompareRequest& request_;
  Workbench bench_;
  const Model& model_;
  std::vector<Scheme> menu_;
  std::vector<Text> texts_;
  std::vector<MethodChoice> methods_;
  std::optional<ComparisonFile> file_;
  std::string weights_;  // fingerprint
};

}  // namespace

Comparison compare(const CompareRequest& request) {
  return Comparer(request).run();
}

}  // namespace strata
