// strata frontier scores.json: size against predicted cost for all budgets at once, and the size that fits.
#include "strata/allocation/frontier.h"

#include <fmt/format.h>

#include <algorithm>

#include "strata/cli/budget.h"
#include "strata/cli/common.h"
#include "strata/core/error.h"
#include "strata/core/file.h"
#include "strata/core/progress.h"
#include "strata/core/units.h"
#include "strata/export/formats.h"
#include "strata/model/runtime_memory.h"
#include "strata/report/frontier_chart.h"
#include "strata/report/html_page.h"

namespace strata::cli {
namespace {

struct FrontierArguments {
  std::string scores, schemes, fit, model;
  std::filesystem::path plot;
  int64_t context = 4096;
  double cache_bits = 16;
  AllocatorOptions allocator;
};

// What a memory leaves for a file, once the runtime has its own.
struct Fit {
  uint64_t memory = 0;
  RuntimeMemory runtime;
  uint64_t file = 0;    // the largest
  uint64_t beside = 0;  // of it, what no plan changes
};

// Bytes of a GGUF of the model beside the matrices that the scores give costs of.
uint64_t bytes_beside(const Model& model, const Scores& scores) {
  const ExportFormat& format = format_for("", "gguf");
  const Scheme any = parse_scheme("F16");
  ExportPlan plan;
  plan.embedding = parse_scheme(format.embedding);
  plan.head = parse_scheme(format.head);
  if (model.head == model.embedding) plan.embedding = plan.head;
  plan.layer_embedding = parse_scheme(format.embedding);
  uint64_t matrices = 0;
  for (const Module& module : model.modules) {
    plan.schemes[module.tensor] = any;
    matrices += any.stored_bits(module.rows, module.cols) / 8;
  }
  for (const AllocationModule& boundary : scores.boundaries) {
    if (boundary.tensor == model.embedding) plan.embedding = any;
    if (boundary.tensor == model.head) plan.head = any;
    matrices += any.stored_bits(boundary.rows, boundary.cols) / 8;
  }
  const uint64_t size = gguf_file_size(model, plan);
  return size - std::min(size, matrices);
}

Fit fit(const FrontierArguments& options, const Scores& scores) {
  const std::string path = options.model.empty() ? scores.model : options.model;
  if (!std::filesystem::exists(path))
    fail_usage("--fit needs the shapes of the model, but {} is not there; give --model", path);
  const Model model = open_model(path);
  Fit found;
  found.memory = parse_bytes(options.fit);
  found.runtime = llama_cpp_memory(model.config, options.context, options.cache_bits);
  found.beside = bytes_beside(model, scores);
  if (found.memory <= found.runtime.total() + found.beside)
    fail_usage(
        "--fit {}: a context of {} takes {} beside the file, and what no plan changes of the file {}; a "
        "larger memory or a shorter --context was expected",
        options.fit, options.context, format_bytes(found.runtime.total()), format_bytes(found.beside));
  found.file = found.memory - found.runtime.total();
  return found;
}

Json json_of_frontier(const FrontierPoint& point) {
  return {{"bytes", point.bytes}, {"bits_per_weight", point.bits_per_weight}, {"cost", point.cost}};
}

Json json_of_frontier(const Scores& scores, const Frontier& found, const std::vector<size_t>& knees,
                      const std::optional<Fit>& fitted) {
  Json points = Json::array(), uniform = Json::array();
  for (const FrontierPoint& point : found.points) points.push_back(json_of_frontier(point));
  for (const auto& [scheme, point] : found.uniform) {
    uniform.push_back(json_of_frontier(point));
    uniform.back()["scheme"] = scheme;
  }
  Json document = {{"model", scores.model},
                   {"method", scores.method},
                   {"points", points},
                   {"knees", knees},
                   {"uniform", uniform}};
  if (!fitted) return document;
  const FrontierPoint* point = point_within(found, fitted->file - fitted->beside);
  document["fit"] = {{"memory", fitted->memory},
                     {"cache", fitted->runtime.cache},
                     {"state", fitted->runtime.state},
                     {"buffers", fitted->runtime.buffers},
                     {"file_bytes", fitted->file},
                     {"beside_matrices", fitted->beside},
                     {"point", point ? json_of_frontier(*point) : Json(nullptr)}};
  return document;
}

void print_fit(const FrontierArguments& options, const Scores& scores, const Frontier& found,
               const Fit& fitted) {
  fmt::print("\n{} with a context of {}:\n", options.fit, options.context);
  fmt::print("  keys and values    {:>12}\n", format_bytes(fitted.runtime.cache));
  if (fitted.runtime.state > 0)
    fmt::print("  states of layers   {:>12}\n", format_bytes(fitted.runtime.state));
  fmt::print("  llama.cpp's buffers{:>12}\n", format_bytes(fitted.runtime.buffers));
  fmt::print("  left for the file  {:>12}, of which {} no plan changes\n", format_bytes(fitted.file),
             format_bytes(fitted.beside));
  const FrontierPoint* point = point_within(found, fitted.file - fitted.beside);
  if (point == nullptr) {
    fmt::print("no plan of these schemes is that small: the smallest takes {}\n",
               format_bytes(found.points.front().bytes + fitted.beside));
    return;
  }
  fmt::print("the best plan within it has {:.4f} bits a weight at a cost of {:.6g}:\n",
             point->bits_per_weight, point->cost);
  fmt::print("  strata quantize {} --size {} -o model.gguf\n",
             options.model.empty() ? scores.model : options.model, fitted.file);
}

void run(FrontierArguments& options, const CommonOptions& common, const Command& command) {
  require_apart({options.plot.string()}, "", {options.scores});
  for (const char* detail : {"context", "cache-bits", "model"})
    if (command.given(detail) && options.fit.empty())
      fail_usage("--{} says what --fit leaves room for; give --fit SIZE, too", detail);
  const std::string ending = options.plot.extension().string();
  if (!options.plot.empty() && ending != ".svg" && ending != ".html")
    fail_usage("--plot {}: a name that ends in .svg or .html was expected", options.plot.string());
  if (!options.plot.empty()) require_output_file(options.plot);
  const Scores scores = read_scores(options.scores);
  AllocatorOptions& allocator = options.allocator;
  if (!options.schemes.empty()) allocator.schemes = parse_schemes(options.schemes);
  allocator.boundaries = scores.boundaries;
  if (!scores.pair_costs.empty())
    show_note(
        "costs that pairs of matrices have together are left out; allocate --allocator quadratic has "
        "them");
  const Frontier found = frontier(modules_of(scores), scores, allocator);
  const std::vector<size_t> suggested = knees(found.points);
  std::optional<Fit> fitted;
  if (!options.fit.empty()) fitted = fit(options, scores);
  if (!options.plot.empty()) {
    const LineChart chart = frontier_chart(found, suggested);
    HtmlPage page;
    page.title = fmt::format("{}: size against cost", scores.model);
    page.note =
        "Every mark on the curve is the least cost of its size. Click a name in the legend to hide "
        "its curve.";
    page.charts = {chart};
    page.sections.push_back({"Budgets", "", frontier_table(found, suggested)});
    write_text(options.plot, ending == ".svg" ? svg(chart) : html(page));
  }
  if (common.json) {
    print_json(json_of_frontier(scores, found, suggested, fitted));
    return;
  }
  fmt::print("{} plans, each of the least cost ({}) that its size allows{}\n\n{}", found.points.size(),
             scores.method, scores.boundaries.empty() ? "" : ", embedding and head included",
             frontier_table(found, suggested).text());
  if (fitted) print_fit(options, scores, found, *fitted);
}

}  // namespace

void add_frontier(Program& program) {
  auto [command, options] = add_command<FrontierArguments>(
      program, "frontier", "size against predicted cost for all budgets at once", run);
  command.argument("scores", options.scores, "FILE", "a file written by strata score --schemes LIST");
  Option ties = choice("ties", options.allocator.ties,
                       {{"none", Ties::None}, {"fused", Ties::Fused}, {"layer", Ties::Layer}},
                       "modules that share a scheme: none, fused ({q,k,v} and {gate,up}), layer");
  command.add("Plans", {everyday(text("schemes", options.schemes, "LIST",
                                      "schemes to choose from; by default those of the file's costs")),
                        ties});
  command.add("Output",
              {everyday(path("plot", options.plot, "FILE", "also draw it, as .svg or as an .html page"))});
  command.add(
      "Memory",
      {everyday(text("fit", options.fit, "SIZE",
                     "memory, such as 8GiB: also find the size of a GGUF that leaves room in it for keys and "
                     "values and llama.cpp's buffers")),
       everyday(number("context", options.context, 1, int64_t{1} << 30, "tokens that --fit makes room for")),
       number("cache-bits", options.cache_bits, 1.0, 32.0,
              "bits of a cached number: 16 for f16, 8.5 for q8_0, 4.5 for q4_0"),
       text("model", options.model, "MODEL",
            "the model whose shapes --fit needs; by default the one that the scores name")});
}

}  // namespace strata::cli
