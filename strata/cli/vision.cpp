// The commands on ONNX models.
#include "strata/cli/vision.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>

#include "strata/core/error.h"
#include "strata/core/stopwatch.h"
#include "strata/core/units.h"
#include "strata/report/plan_chart.h"
#include "strata/report/table.h"

namespace strata::cli {

using namespace vision;  // NOLINT: the whole file is about it

namespace {

double parse_factor(std::string text, const char* option) {
  if (!text.empty() && (text.back() == 'x' || text.back() == 'X')) text.pop_back();
  const size_t slash = text.find('/');
  char *end = nullptr, *end_below = nullptr;
  const std::string above = text.substr(0, slash),
                    below = slash == std::string::npos ? "1" : text.substr(slash + 1);
  const double value = std::strtod(above.c_str(), &end) / std::strtod(below.c_str(), &end_below);
  if (above.empty() || below.empty() || *end != '\0' || *end_below != '\0' || !(value > 0) ||
      !std::isfinite(value))
    fail_usage("{} {} is not a number above 0, such as 10.66 or 1/16", option, text);
  return value;
}

WidthBudget budget_of(const VisionCliOptions& options, const std::string& size) {
  WidthBudget budget;
  if (!size.empty()) budget.bytes = parse_bytes(size);
  if (!options.compression.empty()) budget.compression = parse_factor(options.compression, "--compression");
  if (!options.bitops.empty()) budget.bitops = parse_factor(options.bitops, "--bitops");
  if (!options.bitops_ratio.empty())
    budget.bitops_ratio = parse_factor(options.bitops_ratio, "--bitops-ratio");
  return budget;
}

std::vector<WidthBudget> budgets_of(const VisionCliOptions& options) {
  std::vector<WidthBudget> budgets;
  const auto add = [&](const std::string& list, const char* option,
                       std::optional<double> WidthBudget::*member) {
    if (list.empty()) return;
    for (const std::string& part : split(list)) budgets.emplace_back().*member = parse_factor(part, option);
  };
  const bool none = options.compression.empty() && options.bitops.empty() && options.bitops_ratio.empty();
  add(none ? "8,10.66,14" : options.compression, "--compression", &WidthBudget::compression);
  add(options.bitops, "--bitops", &WidthBudget::bitops);
  add(none ? "1/16,1/32" : options.bitops_ratio, "--bitops-ratio", &WidthBudget::bitops_ratio);
  return budgets;
}

std::string per_cent(double fraction) {
  return fmt::format("{:.2f}", 100 * fraction);
}

Json accuracy_json(const Accuracy& accuracy) {
  return {{"images", accuracy.images},
          {"top1", accuracy.top1},
          {"top5", accuracy.top5},
          {"cross_entropy", accuracy.cross_entropy}};
}

void print_widths(const VisionQuantizeResult& result) {
  Table table;
  table.column("layer", Table::Align::Left);
  for (const char* title : {"weights", "multiplications", "weight bits", "activation bits"})
    table.column(title);
  for (size_t l = 0; l < result.sizes.size(); ++l) {
    const LayerSize& size = result.sizes[l];
    const Widths widths = result.plan.layers[l];
    table.row({size.tensor, fmt::format("{}", size.weights), fmt::format("{}", size.multiplications),
               fmt::format("{}", widths.weight), fmt::format("{}", widths.activation)});
  }
  fmt::print("{}\n", table.text());
}

}  // namespace

void inspect_vision(const std::string& model, const CommonOptions& common) {
  VisionRequest request;
  request.model = model;
  const Graph graph = open_graph(request);
  std::vector<int64_t> shape = graph.image_shape();
  const bool known = std::all_of(shape.begin(), shape.end(), [](int64_t size) { return size > 0; });
  if (!known)
    fail(
        "{} does not say the size of its images ({}); inspect needs a model with fixed channels, height and "
        "width",
        model, fmt::join(shape, " x "));
  const std::vector<LayerSize> sizes = layer_sizes(graph, shape);
  int64_t weights = 0, multiplications = 0;
  Json layers = Json::array();
  Table table;
  table.column("layer", Table::Align::Left);
  for (const char* title : {"shape", "groups", "weights", "multiplications"}) table.column(title);
  for (size_t l = 0; l < sizes.size(); ++l) {
    const Layer& layer = graph.layers()[l];
    const std::string text = fmt::format("[{}]", fmt::join(layer.weight.sizes().vec(), ", "));
    table.row({layer.tensor, text, fmt::format("{}", layer.groups), fmt::format("{}", sizes[l].weights),
               fmt::format("{}", sizes[l].multiplications)});
    layers.push_back({{"tensor", layer.tensor},
                      {"shape", layer.weight.sizes().vec()},
                      {"groups", layer.groups},
                      {"multiplications", sizes[l].multiplications}});
    weights += sizes[l].weights;
    multiplications += sizes[l].multiplications;
  }
  if (common.json) {
    print_json({{"model", model},
                {"opset", graph.model().opset},
                {"input", shape},
                {"nodes", graph.nodes().size()},
                {"weights", weights},
                {"multiplications", multiplications},
                {"layers", layers}});
    return;
  }
  fmt::print("{}: ONNX, operator set {}, images of {}, {} nodes, {} layers\n", model, graph.model().opset,
             fmt::join(shape, " x "), graph.nodes().size(), sizes.size());
  fmt::print("{:.2f} M weights, {:.1f} M multiplications an image\n\n{}", static_cast<double>(weights) / 1e6,
             static_cast<double>(multiplications) / 1e6, table.text());
}

void eval_vision(const std::string& model, const VisionCliOptions& options, const CommonOptions& common) {
  const Stopwatch stopwatch;
  const VisionRequest request = options.resolve(model, common);
  const Graph graph = open_graph(request);
  const ImageSet images = load_images(request.images, graph.image_shape());
  const Accuracy accuracy = evaluate(graph, images);
  const double seconds = stopwatch.seconds();
  if (common.json) {
    Json document = {{"model", model}, {"images", options.images}};
    Json figures = accuracy_json(accuracy);
    document["count"] = accuracy.images;
    figures.erase("images");
    document.update(figures);
    document["seconds"] = seconds;
    print_json(document);
    return;
  }
  fmt::print("{} on {} images of {}\n", model, accuracy.images, options.images);
  fmt::print("top-1          {} %\ntop-5          {} %\ncross-entropy  {:.4f} nats\ntime           {}\n",
             per_cent(accuracy.top1), per_cent(accuracy.top5), accuracy.cross_entropy,
             format_seconds(seconds));
}

void score_vision_model(const std::string& model, const std::string& method, const std::string& output,
                        const VisionCliOptions& options, const CommonOptions& common) {
  const VisionScores scores = score_vision(options.resolve(model, common), method.empty() ? "infoq" : method);
  if (!output.empty()) write_json(output, scores.json);
  if (common.json) {
    print_json(scores.json);
    return;
  }
  Table table;
  table.column("layer", Table::Align::Left);
  table.column("", Table::Align::Left);
  for (int bits = kLowestWidth; bits < kHighestWidth; ++bits) table.column(fmt::format("{} bits", bits));
  for (const LayerCosts& layer : scores.costs.layers)
    for (const bool activation : {false, true}) {
      std::vector<std::string> cells = {activation ? "" : scores.sizes[layer.layer].tensor,
                                        activation ? "activations" : "weights"};
      const std::vector<double>& costs = activation ? layer.activations : layer.weights;
      for (size_t b = 0; b + 1 < costs.size(); ++b) cells.push_back(fmt::format("{:.4g}", costs[b]));
      table.row(std::move(cells));
    }
  fmt::print("{} of {}\n\n{}\nscored in {}\n", scores.costs.method, model, table.text(),
             format_seconds(scores.seconds));
}

void quantize_vision_model(const std::string& model, const std::string& output, const std::string& method,
                           const std::string& size, const std::string& plan_output,
                           const VisionCliOptions& options, const CommonOptions& common) {
  const Stopwatch stopwatch;
  VisionQuantizeRequest request;
  static_cast<VisionRequest&>(request) = options.resolve(model, common);
  if (!method.empty()) request.method = method;
  request.output = output;
  request.budget = budget_of(options, size);
  request.allocation.alpha = options.alpha;
  request.exporting.int4 = !options.int8_only;
  const VisionQuantizeResult result = quantize_vision(request);
  const Json plan = to_json(result.plan, result.sizes);
  if (!plan_output.empty()) write_json(plan_output, plan);
  const double seconds = stopwatch.seconds();
  if (common.json) {
    print_json({{"model", model},
                {"output", output},
                {"file_bytes", result.file_bytes},
                {"original", accuracy_json(result.original)},
                {"simulated", accuracy_json(result.simulated)},
                {"written", accuracy_json(result.written)},
                {"seconds", seconds},
                {"score_seconds", result.score_seconds},
                {"plan_seconds", result.plan_seconds},
                {"plan", plan}});
    return;
  }
  print_widths(result);
  fmt::print("asked for    {}, by {}\n", result.plan.budget, result.plan.method);
  fmt::print("got          {:.2f}x, packed {}, {:.4g} bit operations (1/{:.4g} of float's){}\n",
             result.plan.compression, format_bytes(result.plan.bytes), result.plan.bitops,
             1 / result.plan.bitops_ratio, result.plan.gap ? "; " + optimality(*result.plan.gap) : "");
  fmt::print("file         {}: {} ({} bytes)\n", output, format_bytes(result.file_bytes), result.file_bytes);
  fmt::print("top-1        {} % as it was, {} % quantized, {} % read back, on {} images\n",
             per_cent(result.original.top1), per_cent(result.simulated.top1), per_cent(result.written.top1),
             result.original.images);
  fmt::print("\nscored in {}, planned in {}, done in {}\n", format_seconds(result.score_seconds),
             format_seconds(result.plan_seconds), format_seconds(seconds));
}

void compare_vision_methods(const std::string& model, const std::string& methods, int seeds, bool markdown,
                            const VisionCliOptions& options, const CommonOptions& common) {
  VisionCompareRequest request;
  static_cast<VisionRequest&>(request) = options.resolve(model, common);
  request.methods = split(methods.empty() ? "uniform,random,weight-error,hawq,infoq,kl,accuracy" : methods);
  request.budgets = budgets_of(options);
  request.allocation.alpha = options.alpha;
  request.seeds = seeds;
  request.correlate = options.correlate;
  const VisionComparison comparison = compare_vision(request);
  if (common.json) {
    Json rows = Json::array(), correlations = Json::array();
    for (const VisionCompareRow& row : comparison.rows) {
      Json json = {{"budget", row.plan.budget},
                   {"method", row.method},
                   {"compression", row.plan.compression},
                   {"bitops_ratio", row.plan.bitops_ratio},
                   {"bytes", row.plan.bytes},
                   {"top1", row.accuracy.top1},
                   {"top5", row.accuracy.top5},
                   {"cross_entropy", row.accuracy.cross_entropy}};
      if (row.spread) json["top1_spread"] = *row.spread;
      rows.push_back(json);
    }
    for (const VisionCorrelation& one : comparison.correlations) {
      Json json = {{"method", one.method}, {"seconds", one.seconds}};
      if (options.correlate) json.update({{"top1", one.drop}, {"cross_entropy", one.cross_entropy}});
      correlations.push_back(json);
    }
    print_json({{"model", model},
                {"scored_images", comparison.scored},
                {"original", accuracy_json(comparison.original)},
                {"eight_bits", accuracy_json(comparison.eight_bits)},
                {"rows", rows},
                {"methods", correlations}});
    return;
  }
  Table table;
  table.column("budget", Table::Align::Left);
  table.column("method", Table::Align::Left);
  for (const char* title :
       {"compression", "bit operations", "packed bytes", "top-1 %", "top-5 %", "cross-entropy"})
    table.column(title);
  const auto add = [&](const std::string& budget, const std::string& name, const WidthPlan* plan,
                       const Accuracy& accuracy, std::optional<double> spread) {
    table.row({budget, name, plan ? fmt::format("{:.2f}x", plan->compression) : "",
               plan ? fmt::format("1/{:.2f}", 1 / plan->bitops_ratio) : "",
               plan ? fmt::format("{}", plan->bytes) : "",
               per_cent(accuracy.top1) + (spread ? " ± " + per_cent(*spread) : ""), per_cent(accuracy.top5),
               fmt::format("{:.4f}", accuracy.cross_entropy)});
  };
  add("", "float", nullptr, comparison.original, {});
  add("", "8 bits", nullptr, comparison.eight_bits, {});
  for (const VisionCompareRow& row : comparison.rows)
    add(row.plan.budget, row.method, &row.plan, row.accuracy, row.spread);
  Table scores;
  scores.column("method", Table::Align::Left);
  scores.column("seconds");
  if (options.correlate) {
    scores.column("rank correlation with top-1's drop");
    scores.column("with cross-entropy's rise");
  }
  for (const VisionCorrelation& one : comparison.correlations) {
    std::vector<std::string> cells = {one.method, fmt::format("{:.1f}", one.seconds)};
    if (options.correlate) {
      cells.push_back(fmt::format("{:.3f}", one.drop));
      cells.push_back(fmt::format("{:.3f}", one.cross_entropy));
    }
    scores.row(std::move(cells));
  }
  fmt::print("{} scored on {} images, reported on {}\n\n{}\n{}", model, comparison.scored,
             comparison.reported, markdown ? table.markdown() : table.text(),
             markdown ? scores.markdown() : scores.text());
}

}  // namespace strata::cli
