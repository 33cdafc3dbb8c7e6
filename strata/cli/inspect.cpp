// strata inspect MODEL: what it is.
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <map>

#include "strata/cli/common.h"
#include "strata/core/text.h"
#include "strata/core/units.h"
#include "strata/export/label.h"
#include "strata/export/plans.h"
#include "strata/model/model.h"
#include "strata/report/plan_chart.h"
#include "strata/report/table.h"

namespace strata::cli {
namespace {

struct InspectArguments {
  std::string model;
  bool tensors = false;
  InspectNetwork inspect_network;
};

struct RoleTotal {
  std::string name;
  int64_t rows, cols, count = 0, params = 0;
};

// Modules of one role have one shape in every layer of the architectures we know.
std::vector<RoleTotal> totals_by_role(const Model& model) {
  std::vector<RoleTotal> totals;
  for (const Module& module : model.modules) {
    const std::string name = module.role == Role::Other ? module.name : std::string(name_of(module.role));
    auto found =
        std::find_if(totals.begin(), totals.end(), [&](const RoleTotal& t) { return t.name == name; });
    if (found == totals.end()) found = totals.insert(found, {name, module.rows, module.cols});
    ++found->count;
    found->params += module.params();
  }
  return totals;
}

std::string shape_text(const std::vector<int64_t>& shape) {
  return fmt::format("[{}]", fmt::join(shape, ", "));
}

Json describe(const Model& model, const Label& label) {
  const ModelConfig& config = model.config;
  int64_t params = 0;
  uint64_t bytes = 0;
  Json tensors = Json::array();
  for (const TensorInfo& tensor : model.checkpoint->tensors()) {
    params += tensor.elements();
    bytes += tensor.bytes;
    tensors.push_back(
        {{"name", tensor.name}, {"type", tensor.type}, {"shape", tensor.shape}, {"bytes", tensor.bytes}});
  }
  const TensorInfo* table = model.checkpoint->find(model.layer_embedding);
  int64_t module_params = 0;
  Json roles = Json::array();
  for (const RoleTotal& total : totals_by_role(model)) {
    module_params += total.params;
    roles.push_back({{"role", total.name},
                     {"shape", {total.rows, total.cols}},
                     {"count", total.count},
                     {"params", total.params}});
  }
  return {{"model", model.path.string()},
          {"architecture", config.architecture},
          {"layers", config.num_layers},
          {"hidden_size", config.hidden_size},
          {"intermediate_size", config.intermediate_size},
          {"query_heads", config.num_heads},
          {"kv_heads", config.num_kv_heads},
          {"head_dim", config.head_dim},
          {"vocabulary", config.vocab_size},
          {"context", config.max_position_embeddings},
          {"tied_embeddings", config.tied_embeddings},
          {"layer_embedding_params", table == nullptr ? 0 : table->elements()},
          {"params", params},
          {"module_params", module_params},
          {"bytes", bytes},
          {"label", to_json(label)},
          {"roles", roles},
          {"tensors", tensors}};
}

// How the matrices are quantized, where they are.
void print_mix(const Model& model) {
  if (!has_stored_plan(model)) return;
  const Plan plan = stored_plan(model);
  fmt::print("\n{}{:.4f} stored bits a weight ({:.4f} code bits), {} in {} matrices\n", plan_chart({}, plan),
             plan.bits_per_weight, plan.average_code_bits, format_bytes(plan.bytes), plan.assignments.size());
}

// What the file says of how it was made.
void print_label(const Label& label) {
  if (label.empty()) return;
  fmt::print("\nlabel\n");
  for (const auto& [name, value] : label) fmt::print("  {:<16} {}\n", name, printable(value));
}

void print(const Model& model, const Label& label, bool with_tensors) {
  const Json d = describe(model, label);
  if (!model.runnable)
    fmt::print("{}: {}, {} layers; known by its sizes only: it can be quantized, not run\n",
               d["model"].get<std::string>(), d["architecture"].get<std::string>(),
               d["layers"].get<int64_t>());
  else
    fmt::print(
        "{}: {}, {} layers, hidden {}, feed-forward {}, {} query heads over {} key/value heads of {}\n",
        d["model"].get<std::string>(), d["architecture"].get<std::string>(), d["layers"].get<int64_t>(),
        d["hidden_size"].get<int64_t>(), d["intermediate_size"].get<int64_t>(),
        d["query_heads"].get<int64_t>(), d["kv_heads"].get<int64_t>(), d["head_dim"].get<int64_t>());
  fmt::print("vocabulary {} ({} head), context {}\n", d["vocabulary"].get<int64_t>(),
             d["tied_embeddings"].get<bool>() ? "tied" : "separate", d["context"].get<int64_t>());
  if (const auto table = d["layer_embedding_params"].get<int64_t>(); table > 0)
    fmt::print("embeddings for every layer: a table of {:.1f} M parameters, {} features a layer\n",
               static_cast<double>(table) / 1e6, model.config.layer_embedding_size);
  fmt::print("{:.1f} M parameters in {}; {:.1f} M of them in the layers' matrices\n\n",
             static_cast<double>(d["params"].get<int64_t>()) / 1e6, format_bytes(d["bytes"].get<uint64_t>()),
             static_cast<double>(d["module_params"].get<int64_t>()) / 1e6);
  Table roles;
  roles.column("role", Table::Align::Left);
  for (const char* title : {"shape", "count", "parameters", "share"}) roles.column(title);
  const double all = d["module_params"].get<double>();
  for (const Json& role : d["roles"])
    roles.row({role["role"], shape_text(role["shape"]), fmt::format("{}", role["count"].get<int64_t>()),
               fmt::format("{}", role["params"].get<int64_t>()),
               fmt::format("{:.1f} %", 100 * role["params"].get<double>() / all)});
  fmt::print("{}", roles.text());
  print_mix(model);
  print_label(label);
  if (!with_tensors) return;
  Table tensors;
  tensors.column("tensor", Table::Align::Left);
  tensors.column("type", Table::Align::Left);
  tensors.column("shape");
  tensors.column("bytes");
  for (const Json& tensor : d["tensors"])
    tensors.row({tensor["name"], tensor["type"], shape_text(tensor["shape"]),
                 fmt::format("{}", tensor["bytes"].get<uint64_t>())});
  fmt::print("\n{}", tensors.text());
}

void run(InspectArguments& options, const CommonOptions& common, const Command& command) {
  if (kind_of_model(command, options.model) == ModelKind::Onnx)
    return options.inspect_network(options.model, common);
  const Model model = open_model(options.model);
  const Label label = read_label(model);
  if (common.json)
    print_json(describe(model, label));
  else
    print(model, label, options.tensors);
}

}  // namespace

void add_inspect(Program& program, const InspectNetwork& inspect_network) {
  auto [command, options] =
      add_command<InspectArguments>(program, "inspect", "show a model's architecture, layers and sizes", run);
  options.inspect_network = inspect_network;
  command.argument("model", options.model, "MODEL", "the model");
  command.add("Output", {everyday(flag("tensors", options.tensors, "list every tensor too"))},
              ModelKind::Language);
}

}  // namespace strata::cli
