// The table of docs/architectures.md, a row for every model of tests/data/architectures:
//
//   architecture_table            prints it
//   architecture_table FILE       fails where FILE does not hold it
#include <fmt/format.h>

#include <algorithm>
#include <iterator>
#include <string>
#include <vector>

#include "strata/core/error.h"
#include "strata/core/file.h"
#include "strata/core/progress.h"
#include "strata/export/formats.h"
#include "strata/quantizers/quantizers.h"
#include "tests/runtimes/checked_architectures.h"
#include "tests/support/architecture_models.h"
#include "tests/support/temporary_directory.h"

namespace strata {
namespace {

std::string ticked(const std::vector<std::string>& words) {
  std::string text;
  for (const std::string& word : words) text += fmt::format("{}`{}`", text.empty() ? "" : ", ", word);
  return text;
}

// What a model does beyond Llama, from its config.
std::string features_of(const ModelConfig& c) {
  std::string text;
  const auto add = [&](bool has, const std::string& what) {
    if (has) text += (text.empty() ? "" : ", ") + what;
  };
  int attending = 0;
  while (!c.attends(attending)) ++attending;
  const std::vector<LayerTensor> tensors = architecture_of(c).tensors(c, attending);
  const auto mixes_by = [&](auto is_plan) {
    const LayerPlan plan = architecture_of(c).plan(c, attending == 0 ? 1 : 0);
    return !c.attention_layers.empty() && is_plan(plan.blocks.front().block);
  };
  const auto norms = std::count_if(tensors.begin(), tensors.end(), [](const LayerTensor& tensor) {
    return !tensor.is_matrix() && !tensor.bare && tensor.name.find("self_attn.") == std::string::npos;
  });
  const auto has_tensor = [&](const char* name) {
    return std::any_of(tensors.begin(), tensors.end(),
                       [&](const LayerTensor& tensor) { return tensor.name == name; });
  };
  const auto has_rows = [&](Role role) {
    return std::any_of(tensors.begin(), tensors.end(), [&](const LayerTensor& tensor) {
      return std::any_of(tensor.parts.begin(), tensor.parts.end(),
                         [&](const RowPart& part) { return part.role == role; });
    });
  };
  const bool fused = std::any_of(tensors.begin(), tensors.end(),
                                 [](const LayerTensor& tensor) { return tensor.parts.size() > 1; });
  const LayerPlan plan_of_attention = architecture_of(c).plan(c, attending);
  const auto* attention = std::get_if<AttentionPlan>(&plan_of_attention.blocks.front().block);
  const bool gates_attention = attention != nullptr && attention->output_gate;
  add(mixes_by([](const auto& block) { return std::holds_alternative<ShortConvolutionPlan>(block); }),
      "gated short convolutions");
  add(mixes_by([](const auto& block) { return std::holds_alternative<DeltaNetPlan>(block); }),
      "gated delta nets");
  add(mixes_by([](const auto& block) { return std::holds_alternative<MambaPlan>(block); }), "Mamba 2");
  add(norms >= 4, "norms before and behind both blocks");
  add(norms == 1, "parallel blocks");
  add(c.norm == ModelConfig::Norm::Layer, "LayerNorm");
  add(architecture_of(c).norm_form != StoredForm::Plain, "gains stored less 1");
  add(architecture_of(c).activations.front() != "silu", "GELU");
  add(has_tensor("self_attn.q_norm") || has_tensor("self_attn.q_layernorm"), "norms of queries and keys");
  add(fused, "matrices in one");
  add(!has_rows(Role::Gate), "no gate");
  add(c.attention_bias, "biases");
  add(c.sliding_window > 0, c.sliding_layers.empty() ? "sliding window" : "sliding layers");
  add(c.sliding_rope.has_value(), "a rope of sliding layers");
  add(!c.rotating_layers.empty(), "layers without rope");
  add(c.rope.neighbours, "neighbours rotate");
  add(c.rope.rotary_dim < c.head_dim, "part of a head rotates");
  add(c.rope.scaling.type == RopeScaling::Type::Yarn, "YaRN");
  add(c.rope.scaling.type == RopeScaling::Type::Long, "longrope");
  add(c.rope.scaling.type == RopeScaling::Type::Dynamic, "a rope base that grows");
  add(c.rope.scaling.type == RopeScaling::Type::Proportional, "part of a head rotates");
  add(c.query_growth > 0, "queries grow");
  add(c.sliding_head_dim > 0 || c.sliding_kv_heads > 0, "other heads in sliding layers");
  add(c.keys_are_values, "keys as values");
  add(c.kv_shared_layers > 0, "keys and values of earlier layers");
  add(c.wide_sharing_layers, "wider last layers");
  add(c.layer_embedding_size > 0, "embeddings for every layer");
  add(!architecture_of(c).plan(c, 0).scale.empty(), "a scalar of every layer");
  add(gates_attention, "attention with a gate");
  add(c.latent.rank > 0, "latent attention");
  add(has_tensor("self_attn.sinks"), "attention sinks");
  add(c.experts.groups_used < c.experts.groups, "groups of experts");
  add(c.experts.count > 0, c.experts.shared_width > 0 ? "experts and a shared one" : "experts");
  add(c.attention_softcap > 0 || c.final_softcap > 0, "softcaps");
  add(c.embedding_scale != 1 || c.residual_scale != 1 || c.logit_scale != 1, "multipliers");
  return text;
}

bool has_role(const Model& model, Role role) {
  for (int layer = 0; layer < model.config.num_layers; ++layer)
    if (!model.config.has_experts(layer) && model.rows_of(layer, role)) return true;
  return false;
}

// "all", or all but those for which an Error is thrown.
template <class Things, class NameOf, class Try>
std::string all_but(const Things& things, const NameOf& name_of, const Try& attempt) {
  std::string text;
  for (const auto& thing : things) try {
      attempt(thing);
    } catch (const Error&) {
      text += fmt::format("{}`{}`", text.empty() ? "all but " : ", ", name_of(thing));
    }
  return text.empty() ? "all" : text;
}

// The calibrated quantizers that take its matrices.
std::string quantizers_of(const Model& model) {
  std::vector<Quantizer> calibrated;
  std::copy_if(quantizers().begin(), quantizers().end(), std::back_inserter(calibrated),
               [](const Quantizer& quantizer) { return quantizer.needs_calibration; });
  return all_but(
      calibrated, [](const Quantizer& quantizer) { return quantizer.name; },
      [&](const Quantizer& quantizer) {
        QuantizerChoice choice;
        choice.name = quantizer.name;
        require_quantizable(model, choice, {parse_scheme("w4g32")});
      });
}

// The formats that it is written in. Matrices whose sizes a format does not pack, as the small models have
// some, stay as they are.
std::string formats_of(const Model& model) {
  const TemporaryDirectory directory;
  std::string text = all_but(
      export_formats(), [](const ExportFormat& format) { return format.name; },
      [&](const ExportFormat& format) {
        ExportPlan plan;
        const Scheme scheme = parse_schemes(format.default_schemes).back();
        for (const Module& module : model.modules)
          if (format.refusal(scheme, module.rows, module.cols).empty()) plan.schemes[module.tensor] = scheme;
        plan.embedding = parse_scheme(format.embedding);
        plan.head = parse_scheme(format.head);
        format.write(model, plan, directory / (format.name + format.ending));
      });
  if (const std::string refusal = gguf_refusal_of(model.config); !refusal.empty())
    text += " (" + refusal + ")";
  if (llama_cpp_loses_window(model.config)) text += ", `gguf` without its window";
  return text;
}

std::string checks_of(const std::string& name, const ModelConfig& config) {
  return std::string("transformers") + (llama_cpp_agrees_on(config) ? ", llama.cpp" : "") +
         (mlx_agrees_on(name) ? ", mlx-lm" : "");
}

std::string architecture_table() {
  std::string table =
      "| model | config.json | GGUF | beyond Llama | runs | roles that NSDS sees | calibrated quantizers | "
      "out as "
      "| checked against |\n|---|---|---|---|---|---|---|---|---|\n";
  for (const std::string& name : architecture_models()) {
    const Model model = open_model(architecture_model(name).directory);
    const Architecture& architecture = architecture_of(model.config);
    std::vector<std::string> roles;
    for (const Role role : {Role::Q, Role::K, Role::V, Role::O, Role::Gate, Role::Up, Role::Down})
      if (model.config.experts.count == 0 && has_role(model, role)) roles.emplace_back(name_of(role));
    table +=
        fmt::format("| {} | `{}` | `{}` | {} | {} | {} | {} | {} | {} |\n", name, architecture.model_type,
                    architecture.gguf_name, features_of(model.config), model.runnable ? "yes" : "no",
                    roles.size() == 7 ? "all"
                    : roles.empty()   ? "none"
                                      : ticked(roles),
                    quantizers_of(model), formats_of(model), checks_of(name, model.config));
  }
  return table;
}

int run(const std::vector<std::string>& arguments) {
  set_progress_style(ProgressStyle::Quiet);
  const std::string table = architecture_table();
  if (arguments.size() < 2) {
    fmt::print("{}", table);
  } else if (read_text(arguments[1]).find(table) == std::string::npos) {
    fmt::print(stderr, "{} does not hold the table of architectures as it is now:\n\n{}", arguments[1],
               table);
    return 1;
  }
  return 0;
}

}  // namespace
}  // namespace strata

int main(int argc, char** argv) {
  try {
    return strata::run({argv, argv + argc});
  } catch (const std::exception& error) {
    fmt::print(stderr, "{}\n", error.what());
    return 1;
  }
}
