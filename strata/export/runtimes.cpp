#include "strata/export/runtimes.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <map>

#include "strata/allocation/problem.h"
#include "strata/core/error.h"
#include "strata/export/export_plan.h"
#include "strata/model/split_experts.h"

namespace strata {
namespace {

bool has_marlin_width(const AffineScheme& scheme) {
  return scheme.bits == 4 || scheme.bits == 8;
}

std::string vllm_refusal(const std::string& format, const Scheme& scheme) {
  const AffineScheme& affine = scheme.affine;
  if (format == "compressed-tensors")
    return affine.symmetric || has_marlin_width(affine) ? "" : "loads zero points with 4 and 8 bits only";
  return has_marlin_width(affine) && affine.symmetric ? "" : "loads 4 and 8 symmetric bits only from GPTQ";
}

std::string sglang_refusal(const std::string& format, const Scheme& scheme) {
  if (format == "gptq") return "";
  return has_marlin_width(scheme.affine) && scheme.affine.symmetric
             ? ""
             : "loads 4 and 8 symmetric bits only from compressed-tensors";
}

std::string gptqmodel_refusal(const std::string& format, const Scheme& scheme) {
  return format == "gptq_v2" || scheme.affine.symmetric ? "" : "loads zero points from gptq_v2 only";
}

std::string no_refusal(const std::string&, const Scheme&) {
  return "";
}

std::string names_of(const std::vector<Scheme>& schemes) {
  std::vector<std::string> names;
  for (const Scheme& scheme : schemes) names.push_back(scheme.name());
  return fmt::format("{}", fmt::join(names, ", "));
}

void add_once(std::vector<Scheme>& schemes, const Scheme& scheme) {
  if (std::find(schemes.begin(), schemes.end(), scheme) == schemes.end()) schemes.push_back(scheme);
}

// The first matrix that does not fit, and why.
std::string refusal_of_shapes(const ExportFormat& format, const Scheme& scheme, const Model& model) {
  for (const Module& module : model.modules)
    if (const std::string refusal = format.refusal(scheme, module.rows_of_matrix(), module.cols);
        !refusal.empty())
      return fmt::format("{}: {} {}", module.tensor, format.name, refusal);
  return "";
}

std::vector<Scheme> without_misfits(const ExportFormat& format, const std::string& asked, const Model& model,
                                    std::vector<std::string>& notes) {
  std::vector<Scheme> kept;
  std::map<std::string, std::vector<Scheme>> dropped;  // by reason
  for (const Scheme& scheme : parse_schemes(asked.empty() ? format.default_schemes : asked)) {
    require_storable(format, scheme);
    const std::string refusal = refusal_of_shapes(format, scheme, model);
    if (refusal.empty())
      kept.push_back(scheme);
    else if (!asked.empty())
      fail_usage("the scheme {} does not fit {}", scheme.name(), refusal);
    else
      dropped[refusal].push_back(scheme);
  }
  for (const auto& [reason, schemes] : dropped)
    notes.push_back(fmt::format("{} left out, which cannot hold {}", names_of(schemes), reason));
  return kept;
}

std::vector<Scheme> loaded_by(const Runtime& runtime, const ExportFormat& format,
                              const std::vector<Scheme>& schemes, const Model& model,
                              std::vector<std::string>& notes) {
  std::vector<Scheme> kept, replaced, dropped;
  std::string reason;
  for (const Scheme& scheme : schemes) {
    const std::string refusal = runtime.refusal(format.name, scheme);
    if (refusal.empty()) {
      add_once(kept, scheme);
      continue;
    }
    reason = refusal;
    Scheme symmetric = scheme;
    symmetric.affine.symmetric = true;
    symmetric.affine.integer_zero = false;
    const bool loads = scheme.kind == Scheme::Kind::Affine &&
                       runtime.refusal(format.name, symmetric).empty() &&
                       refusal_of_shapes(format, symmetric, model).empty();
    if (loads) add_once(kept, symmetric);
    (loads ? replaced : dropped).push_back(scheme);
  }
  if (!replaced.empty())
    notes.push_back(fmt::format("{} {}: {} replaced by their symmetric counterparts", runtime.name, reason,
                                names_of(replaced)));
  if (!dropped.empty())
    notes.push_back(fmt::format("{} {}: {} left out", runtime.name, reason, names_of(dropped)));
  return kept;
}

}  // namespace

const std::vector<Runtime>& runtimes() {
  static const std::vector<Runtime> all = {
      {"vllm", {"compressed-tensors", "gptq"}, true, vllm_refusal},
      {"sglang", {"gptq", "compressed-tensors"}, true, sglang_refusal},
      {"mlx", {"mlx"}, false, no_refusal},
      {"llama.cpp", {"gguf"}, false, no_refusal},
      {"gptqmodel", {"gptq_v2", "gptq"}, false, gptqmodel_refusal},
  };
  return all;
}

const Runtime& find_runtime(const std::string& name) {
  std::vector<std::string> known;
  for (const Runtime& runtime : runtimes()) {
    if (runtime.name == name) return runtime;
    known.push_back(runtime.name);
  }
  fail_usage("unknown runtime '{}'; known are {}", name, fmt::join(known, ", "));
}

const ExportFormat& format_for(const std::filesystem::path& target, const std::string& name,
                               const Runtime* runtime) {
  if (runtime == nullptr) return format_for(target, name);
  if (!name.empty()) {
    const ExportFormat& format = format_for(target, name);
    if (std::find(runtime->formats.begin(), runtime->formats.end(), name) == runtime->formats.end())
      fail_usage("{} does not load {}; it loads {}", runtime->name, name, fmt::join(runtime->formats, ", "));
    return format;
  }
  const std::string ending = format_for(target).ending;
  for (const std::string& candidate : runtime->formats)
    if (format_for(target, candidate).ending == ending) return format_for(target, candidate);
  fail_usage("{} loads {}, which {} does not look like; {}", runtime->name, fmt::join(runtime->formats, ", "),
             target.string(), ending.empty() ? "give the output the ending .gguf" : "name a directory");
}

Menu storable_menu(const ExportFormat& format, const Runtime* runtime, const std::string& asked, Ties ties,
                   const Model& model) {
  Menu menu;
  menu.schemes = without_misfits(format, asked, model, menu.notes);
  if (runtime != nullptr) menu.schemes = loaded_by(*runtime, format, menu.schemes, model, menu.notes);
  if (menu.schemes.empty())
    fail_usage("{} can store none of the schemes '{}' for {}{}", format.name,
               asked.empty() ? format.default_schemes : asked, model.path.string(),
               runtime == nullptr ? "" : " such that " + runtime->name + " loads them");
  menu.ties = ties;
  if (ties == Ties::None && format.ties == Ties::Fused && (runtime == nullptr || runtime->fuses)) {
    menu.ties = Ties::Fused;
    menu.notes.push_back(fmt::format("{{q, k, v}} and {{gate, up}}{} share a scheme, since {} fuse{} them",
                                     has_stacks(model) ? " and a layer's experts" : "",
                                     runtime == nullptr ? "runtimes of " + format.name : runtime->name,
                                     runtime == nullptr ? "" : "s"));
  }
  return menu;
}

void check_plan_loads(const ExportFormat& format, const Runtime* runtime, const ExportPlan& plan,
                      const Model& model) {
  std::map<std::pair<int, std::string>, std::pair<const Module*, std::string>> tied;  // by fused part
  for (const Module& module : model.modules) {
    const auto found = plan.schemes.find(module.tensor);
    const std::string scheme = found == plan.schemes.end() ? "its own type" : found->second.name();
    if (found != plan.schemes.end()) {
      std::string refusal = format.refusal(found->second, module.rows_of_matrix(), module.cols);
      const bool kept = is_floating(found->second);
      if (kept) refusal.clear();
      if (!refusal.empty())
        fail_usage("the plan gives {} the scheme {}, but {} {}", module.tensor, scheme, format.name, refusal);
      if (runtime != nullptr && !kept) refusal = runtime->refusal(format.name, found->second);
      if (!refusal.empty())
        fail_usage("the plan gives {} the scheme {}, but {} {}", module.tensor, scheme, runtime->name,
                   refusal);
    }
    if (runtime == nullptr || !runtime->fuses) continue;
    const auto [first, is_new] = tied.try_emplace({module.layer, fused_part(module.name)}, &module, scheme);
    if (!is_new && first->second.second != scheme)
      fail_usage("the plan gives {} the scheme {} and {} {}, but {} fuses them, so they must agree",
                 first->second.first->tensor, first->second.second, module.tensor, scheme, runtime->name);
  }
}

}  // namespace strata
