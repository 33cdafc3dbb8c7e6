// The commands on ONNX models.
#include "strata/cli/vision.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>

#include "strata/core/error.h"
#include "strata/core/stopwatch.h"
#include "strata/core/units.h"
#include "strata/device/device.h"
#include "strata/report/plan_chart.h"
#include "strata/report/table.h"
#include "strata/vision/network_inputs.h"

namespace strata::cli {

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

vision::WidthBudget budget_of(const VisionArguments& arguments, std::optional<uint64_t> bytes) {
  vision::WidthBudget budget;
  budget.bytes = bytes;
  if (!arguments.compression.empty())
    budget.compression = parse_factor(arguments.compression, "--compression");
  if (!arguments.bitops.empty()) budget.bitops = parse_factor(arguments.bitops, "--bitops");
  if (!arguments.bitops_ratio.empty())
    budget.bitops_ratio = parse_factor(arguments.bitops_ratio, "--bitops-ratio");
  return budget;
}

std::vector<vision::WidthBudget> budgets_of(const VisionArguments& arguments) {
  std::vector<vision::WidthBudget> budgets;
  const auto add = [&](const std::string& list, const char* option,
                       std::optional<double> vision::WidthBudget::*member) {
    if (list.empty()) return;
    for (const std::string& part : split(list)) budgets.emplace_back().*member = parse_factor(part, option);
  };
  const bool none =
      arguments.compression.empty() && arguments.bitops.empty() && arguments.bitops_ratio.empty();
  add(none ? "8,10.66,14" : arguments.compression, "--compression", &vision::WidthBudget::compression);
  add(arguments.bitops, "--bitops", &vision::WidthBudget::bitops);
  add(none ? "1/16,1/32" : arguments.bitops_ratio, "--bitops-ratio", &vision::WidthBudget::bitops_ratio);
  return budgets;
}

std::string per_cent(double fraction) {
  return fmt::format("{:.2f}", 100 * fraction);
}

Json accuracy_json(const vision::Accuracy& accuracy) {
  return {{"images", accuracy.images},
          {"top1", accuracy.top1},
          {"top5", accuracy.top5},
          {"cross_entropy", accuracy.cross_entropy}};
}

Json agreement_json(const vision::Agreement& agreement) {
  Json outputs = Json::array();
  for (const vision::OutputAgreement& output : agreement.outputs)
    outputs.push_back({{"output", output.name}, {"sqnr", output.sqnr}, {"cosine", output.cosine}});
  Json json = {{"images", agreement.images},
               {"sqnr", agreement.sqnr()},
               {"cosine", agreement.cosine()},
               {"outputs", std::move(outputs)}};
  if (agreement.top1) json["same_top1"] = *agreement.top1;
  return json;
}

// What labels say, where there are any, and beside it what the float network says.
Json measured_json(const vision::Measured& measured) {
  Json json = agreement_json(measured.agreement);
  if (measured.accuracy) json.update(accuracy_json(*measured.accuracy));
  return json;
}

std::string agreement_text(const vision::Agreement& agreement) {
  return fmt::format("SQNR {:.2f} dB, cosine {:.5f}{}", agreement.sqnr(), agreement.cosine(),
                     agreement.top1 ? fmt::format(", same top-1 {} %", per_cent(*agreement.top1)) : "");
}

void print_widths(const vision::QuantizeResult& result) {
  Table table;
  table.column("layer", Table::Align::Left);
  for (const char* title : {"weights", "multiplications", "weight bits", "activation bits"})
    table.column(title);
  for (size_t l = 0; l < result.sizes.size(); ++l) {
    const vision::LayerSize& size = result.sizes[l];
    const vision::Widths widths = result.plan.layers[l];
    table.row({size.tensor, fmt::format("{}", size.weights), fmt::format("{}", size.multiplications),
               fmt::format("{}", widths.weight), fmt::format("{}", widths.activation)});
  }
  fmt::print("{}\n", table.text());
}

vision::Request request_of(const VisionArguments& arguments, const std::string& model,
                           const CommonOptions& common) {
  vision::Request request = arguments.request;
  if (request.images.path.empty())
    fail_usage(
        "--images is required for an ONNX model: give a folder of images, a CIFAR-10 binary file, an .npy or "
        "an "
        ".npz");
  request.model = model;
  request.device = parse_device(common.device);
  request.scoring.seed = common.seed;
  return request;
}

}  // namespace

void VisionArguments::add_images(Command& command) {
  command.add("images", declare(request.images), ModelKind::Onnx);
  command.add("images",
              {flag("equalize", request.equalize,
                    "equalize ranges across layers first; the function stays the same")},
              ModelKind::Onnx);
}

void VisionArguments::add_scoring(Command& command) {
  command.add("quantization",
              {number("calibration-images", request.calibration_images, 1, 1 << 24,
                      "the first images calibrate ranges and score; accuracy is measured on the others "
                      "(without others: half and half)")},
              ModelKind::Onnx);
  command.add("quantization",
              {flag("equalize-if-better", request.equalize_if_better,
                    "equalize where images held back show that it helps weights of 4 bits")},
              ModelKind::Onnx);
  command.add("quantization", declare(request.quantization), ModelKind::Onnx);
  command.add("scores", declare(request.scoring), ModelKind::Onnx);
}

void VisionArguments::add_budget(Command& command, bool several) {
  const std::string list = several ? "; several, separated by commas" : "";
  const std::string heading = "budget (all given limits hold together)";
  command.add(
      heading,
      {everyday(text("compression", compression, "X",
                     "32 bits a weight over its code bits, such as 10.66x" + list)),
       text("bitops", bitops, "N", "multiplications times both widths, for one image" + list),
       text("bitops-ratio", bitops_ratio, "R", "the same, as a part of float's, such as 1/16" + list)},
      ModelKind::Onnx);
  command.add(heading, declare(allocation), ModelKind::Onnx);
}

void VisionArguments::add_correlate(Command& command) {
  command.add("scores",
              {flag("correlate", correlate,
                    "narrow every single layer on the reporting images, and correlate each score with the "
                    "measured loss")},
              ModelKind::Onnx);
}

void VisionArguments::add_int8(Command& command) {
  command.add("quantization", declare(exporting), ModelKind::Onnx);
}

std::string vision_method_list() {
  std::string list;
  for (const std::string& method : vision::width_methods()) list += (list.empty() ? "" : ", ") + method;
  return list;
}

void require_text(const std::string& text) {
  if (text.empty()) fail_usage("--text is required; see 'strata --help'");
}

void inspect_vision(const std::string& model, const CommonOptions& common) {
  vision::Request request;
  request.model = model;
  const vision::Graph graph = vision::open_graph(request);
  const bool fixed = vision::has_fixed_inputs(graph);
  const std::vector<int64_t> shape = graph.input_shape(0);
  const std::vector<vision::LayerSize> sizes =
      fixed ? vision::layer_sizes(graph, vision::blank_inputs(graph)) : vision::layer_sizes(graph);
  int64_t weights = 0, multiplications = 0;
  Json layers = Json::array();
  Table table;
  table.column("layer", Table::Align::Left);
  for (const char* title : {"shape", "groups", "weights", "multiplications"}) table.column(title);
  for (size_t l = 0; l < sizes.size(); ++l) {
    const vision::Layer& layer = graph.layers()[l];
    const std::string text = fmt::format("[{}]", fmt::join(layer.weight.sizes().vec(), ", "));
    table.row({layer.tensor, text, fmt::format("{}", layer.groups), fmt::format("{}", sizes[l].weights),
               fixed ? fmt::format("{}", sizes[l].multiplications) : "open"});
    layers.push_back({{"tensor", layer.tensor},
                      {"shape", layer.weight.sizes().vec()},
                      {"groups", layer.groups},
                      {"multiplications", fixed ? Json(sizes[l].multiplications) : Json()}});
    weights += sizes[l].weights;
    multiplications += sizes[l].multiplications;
  }
  if (common.json) {
    print_json({{"model", model},
                {"opset", graph.model().opset},
                {"input", shape},
                {"nodes", graph.nodes().size()},
                {"weights", weights},
                {"multiplications", fixed ? Json(multiplications) : Json()},
                {"carried", graph.carried()},
                {"layers", layers}});
    return;
  }
  fmt::print("{}: ONNX, operator set {}, images of {}, {} nodes, {} layers\n", model, graph.model().opset,
             shape.empty() ? "any size" : fmt::format("{}", fmt::join(shape, " x ")), graph.nodes().size(),
             sizes.size());
  fmt::print("{:.2f} M weights", static_cast<double>(weights) / 1e6);
  if (fixed) fmt::print(", {:.1f} M multiplications an image", static_cast<double>(multiplications) / 1e6);
  fmt::print("\n\n{}", table.text());
}

void eval_vision(const std::string& model, const std::string& reference, const VisionArguments& arguments,
                 const CommonOptions& common) {
  const Stopwatch stopwatch;
  const vision::Request request = request_of(arguments, model, common);
  const vision::EvaluateResult result = vision::evaluate(request, reference);
  const double seconds = stopwatch.seconds();
  if (common.json) {
    Json document = {{"model", model}, {"images", request.images.path.string()}, {"count", result.images}};
    if (result.accuracy) {
      Json figures = accuracy_json(*result.accuracy);
      figures.erase("images");
      document.update(figures);
    }
    if (result.agreement) {
      Json figures = agreement_json(*result.agreement);
      figures.erase("images");
      document.update(figures);
      document["reference"] = reference;
    }
    document["seconds"] = seconds;
    print_json(document);
    return;
  }
  fmt::print("{} on {} images of {}\n", model, result.images, request.images.path.string());
  if (result.accuracy)
    fmt::print("top-1          {} %\ntop-5          {} %\ncross-entropy  {:.4f} nats\n",
               per_cent(result.accuracy->top1), per_cent(result.accuracy->top5),
               result.accuracy->cross_entropy);
  if (result.agreement) {
    fmt::print("beside {}:\n", reference);
    for (const vision::OutputAgreement& output : result.agreement->outputs)
      fmt::print("  {}: SQNR {:.2f} dB, cosine {:.5f}\n", output.name, output.sqnr, output.cosine);
    if (result.agreement->top1) fmt::print("  same top-1 {} %\n", per_cent(*result.agreement->top1));
  }
  fmt::print("time           {}\n", format_seconds(seconds));
}

void score_vision(const std::string& model, const std::string& method, const std::string& output,
                  const VisionArguments& arguments, const CommonOptions& common) {
  const vision::ScoreResult scores =
      vision::score(request_of(arguments, model, common), method.empty() ? "infoq" : method);
  if (!output.empty()) write_json(output, scores.json);
  if (common.json) {
    print_json(scores.json);
    return;
  }
  Table table;
  table.column("layer", Table::Align::Left);
  table.column("", Table::Align::Left);
  for (int bits = vision::kLowestWidth; bits < vision::kHighestWidth; ++bits)
    table.column(fmt::format("{} bits", bits));
  for (const vision::LayerCosts& layer : scores.costs.layers)
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

void quantize_vision(const std::string& model, const std::string& output, const std::string& method,
                     std::optional<uint64_t> bytes, const std::filesystem::path& plan_output,
                     const VisionArguments& arguments, const CommonOptions& common) {
  const Stopwatch stopwatch;
  vision::QuantizeRequest request;
  static_cast<vision::Request&>(request) = request_of(arguments, model, common);
  if (!method.empty()) request.method = method;
  request.output = output;
  request.budget = budget_of(arguments, bytes);
  request.allocation = arguments.allocation;
  request.exporting = arguments.exporting;
  const vision::QuantizeResult result = vision::quantize(request);
  const Json plan = vision::to_json(result.plan, result.sizes);
  if (!plan_output.empty()) write_json(plan_output, plan);
  const double seconds = stopwatch.seconds();
  if (common.json) {
    print_json({{"model", model},
                {"output", output},
                {"file_bytes", result.file_bytes},
                {"original", result.original ? accuracy_json(*result.original) : Json()},
                {"simulated", measured_json(result.simulated)},
                {"written", measured_json(result.written)},
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
  if (result.original)
    fmt::print("top-1        {} % as it was, {} % quantized, {} % read back, on {} images\n",
               per_cent(result.original->top1), per_cent(result.simulated.accuracy->top1),
               per_cent(result.written.accuracy->top1), result.original->images);
  fmt::print("read back    {} beside the float network, on {} images\n",
             agreement_text(result.written.agreement), result.written.agreement.images);
  fmt::print("\nscored in {}, planned in {}, done in {}\n", format_seconds(result.score_seconds),
             format_seconds(result.plan_seconds), format_seconds(seconds));
}

void compare_vision(const std::string& model, const std::string& methods, int seeds, bool markdown,
                    const VisionArguments& arguments, const CommonOptions& common) {
  vision::CompareRequest request;
  static_cast<vision::Request&>(request) = request_of(arguments, model, common);
  if (!methods.empty()) request.methods = split(methods);
  request.budgets = budgets_of(arguments);
  request.allocation = arguments.allocation;
  request.seeds = seeds;
  request.correlate = arguments.correlate;
  const vision::Comparison comparison = vision::compare(request);
  if (common.json) {
    Json rows = Json::array(), correlations = Json::array();
    for (const vision::CompareRow& row : comparison.rows) {
      Json json = {{"budget", row.plan.budget},
                   {"method", row.method},
                   {"compression", row.plan.compression},
                   {"bitops_ratio", row.plan.bitops_ratio},
                   {"bytes", row.plan.bytes}};
      json.update(measured_json(row.measured));
      json.erase("images");
      if (row.spread) json["top1_spread"] = *row.spread;
      rows.push_back(json);
    }
    for (const vision::Correlation& one : comparison.correlations) {
      Json json = {{"method", one.method}, {"seconds", one.seconds}};
      if (arguments.correlate) json.update({{"top1", one.drop}, {"cross_entropy", one.cross_entropy}});
      correlations.push_back(json);
    }
    print_json({{"model", model},
                {"scored_images", comparison.scored},
                {"original", comparison.original ? accuracy_json(*comparison.original) : Json()},
                {"eight_bits", measured_json(comparison.eight_bits)},
                {"rows", rows},
                {"methods", correlations}});
    return;
  }
  Table table;
  table.column("budget", Table::Align::Left);
  table.column("method", Table::Align::Left);
  for (const char* title : {"compression", "bit operations", "packed bytes"}) table.column(title);
  const bool labelled = comparison.original.has_value();
  for (const char* title : {"top-1 %", "top-5 %", "cross-entropy"})
    if (labelled) table.column(title);
  for (const char* title : {"SQNR dB", "same top-1 %"}) table.column(title);
  const auto add = [&](const std::string& budget, const std::string& name, const vision::WidthPlan* plan,
                       const std::optional<vision::Accuracy>& accuracy, const vision::Agreement* agreement,
                       std::optional<double> spread) {
    std::vector<std::string> cells = {budget, name, plan ? fmt::format("{:.2f}x", plan->compression) : "",
                                      plan ? fmt::format("1/{:.2f}", 1 / plan->bitops_ratio) : "",
                                      plan ? fmt::format("{}", plan->bytes) : ""};
    if (labelled) {
      cells.push_back(per_cent(accuracy->top1) + (spread ? " ± " + per_cent(*spread) : ""));
      cells.push_back(per_cent(accuracy->top5));
      cells.push_back(fmt::format("{:.4f}", accuracy->cross_entropy));
    }
    cells.push_back(agreement ? fmt::format("{:.2f}", agreement->sqnr()) : "");
    cells.push_back(agreement && agreement->top1 ? per_cent(*agreement->top1) : "");
    table.row(std::move(cells));
  };
  add("", "float", nullptr, comparison.original, nullptr, {});
  add("", "8 bits", nullptr, comparison.eight_bits.accuracy, &comparison.eight_bits.agreement, {});
  for (const vision::CompareRow& row : comparison.rows)
    add(row.plan.budget, row.method, &row.plan, row.measured.accuracy, &row.measured.agreement, row.spread);
  Table scores;
  scores.column("method", Table::Align::Left);
  scores.column("seconds");
  if (arguments.correlate) {
    scores.column("rank correlation with top-1's drop");
    scores.column("with cross-entropy's rise");
  }
  for (const vision::Correlation& one : comparison.correlations) {
    std::vector<std::string> cells = {one.method, fmt::format("{:.1f}", one.seconds)};
    if (arguments.correlate) {
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
