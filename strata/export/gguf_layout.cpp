#include "strata/export/gguf_layout.h"

#include <optional>

#include "strata/core/error.h"
#include "strata/export/export_plan.h"
#include "strata/export/gguf_metadata.h"
#include "strata/model/gguf_names.h"
#include "strata/model/layout.h"
#include "strata/model/rope.h"

namespace strata {
namespace {

constexpr const char* kRopeDivisors = "rope_freqs.weight";

void require_gguf_type(const std::string& tensor, const Scheme& scheme) {
  if (scheme.kind == Scheme::Kind::Gguf) return;
  std::string types;
  for (const GgufTypeTraits& known : gguf_types())
    types += fmt::format("{}{}", types.empty() ? "" : ", ", known.name);
  fail(
      "{} is planned as {}, which a GGUF file cannot hold; it holds {}: plan with those, or export with "
      "--format hf",
      tensor, scheme.name(), types);
}

// The GGUF type in which a kept matrix loses nothing.
GgufType own_type(const TensorInfo& tensor) {
  if (tensor.type == "F16") return GgufType::F16;
  if (tensor.type == "BF16") return GgufType::BF16;
  return GgufType::F32;
}

GgufType type_of(const Model& model, const ExportPlan& plan, const TensorInfo& tensor) {
  if (tensor.shape.size() < 2) return GgufType::F32;
  const Scheme* scheme = planned_scheme(model, plan, tensor.name);
  if (scheme == nullptr) return own_type(tensor);
  require_gguf_type(tensor.name, *scheme);
  return stored_type(scheme->gguf, tensor.cols());
}

bool is_projection(const std::string& tensor, const std::string& projection) {
  return tensor.find(".self_attn." + projection + ".") != std::string::npos;
}

// Heads whose rows llama.cpp orders its own way; 0 for every tensor but q and k where it does.
int64_t permuted_heads(const ModelConfig& config, const std::string& tensor) {
  if (!permutes_qk(gguf_architecture(config.architecture))) return 0;
  if (is_projection(tensor, "q_proj")) return config.num_heads;
  if (is_projection(tensor, "k_proj")) return config.num_kv_heads;
  return 0;
}

// What llama.cpp's graphs of an architecture have no place for; it would refuse the file, or worse, ignore a
// part of it.
void require_runnable(const ModelConfig& config) {
  const std::string architecture = gguf_architecture(config.architecture);
  const auto refuse = [&](const std::string& what) {
    fail(
        "a {} model with {} cannot leave as GGUF, since llama.cpp's {} has no place for that; export with "
        "--format hf",
        config.architecture, what, architecture);
  };
  if (architecture == "llama") return;
  const RopeScaling::Type scaling = config.rope_scaling.type;
  if (scaling == RopeScaling::Type::Llama3 || scaling == RopeScaling::Type::Divisors)
    refuse("llama3 rope scaling");
  if (config.output_bias) refuse("a bias on o_proj");
  if (config.mlp_bias) refuse("biases in the MLP");
  if (architecture == "qwen2" && config.head_dim * config.num_heads != config.hidden_size)
    refuse(fmt::format("{} heads of {} beside a hidden size of {}", config.num_heads, config.head_dim,
                       config.hidden_size));
}

// Divisors that llama.cpp reads from a tensor. (Linear scaling is a key; see gguf_metadata.)
std::vector<float> stored_divisors(const ModelConfig& config) {
  const RopeScaling::Type type = config.rope_scaling.type;
  if (type != RopeScaling::Type::Llama3 && type != RopeScaling::Type::Divisors) return {};
  const std::vector<double> divisors = rope_divisors(config);
  return {divisors.begin(), divisors.end()};
}

void add(GgufLayout& layout, std::string name, std::vector<int64_t> shape, GgufType type, GgufSource source) {
  GgufTensor tensor;
  tensor.name = std::move(name);
  tensor.shape = std::move(shape);
  tensor.type = type;
  layout.tensors.push_back(std::move(tensor));
  layout.sources.push_back(std::move(source));
}

GgufLayout layout_from_checkpoint(const Model& model, const ExportPlan& plan) {
  require_runnable(model.config);
  GgufLayout layout;
  for (const ExpectedTensor& expected : expected_tensors(model.config)) {
    const TensorInfo& tensor = model.checkpoint->info(expected.name);
    GgufSource source;
    source.tensor = tensor.name;
    source.heads = permuted_heads(model.config, tensor.name);
    source.planned = plan.schemes.count(tensor.name) > 0;
    add(layout, gguf_name(tensor.name), tensor.shape, type_of(model, plan, tensor), std::move(source));
  }
  std::vector<float> divisors = stored_divisors(model.config);
  if (!divisors.empty()) {
    GgufSource source;
    source.values = std::move(divisors);
    const int64_t count = static_cast<int64_t>(source.values.size());
    add(layout, kRopeDivisors, {count}, GgufType::F32, std::move(source));
  }
  layout.keys = gguf_keys(model, layout.tensors);
  return layout;
}

// A GGUF as input: its keys and tensors as they stand, with new types where the plan has them.
GgufLayout layout_from_gguf(const Model& model, const ExportPlan& plan) {
  GgufLayout layout;
  layout.input = std::make_shared<GgufFile>(model.path);
  for (const GgufTensor& stored : layout.input->tensors()) {
    const std::string name = model.runnable ? hf_name(stored.name) : stored.name;
    const TensorInfo* tensor = name.empty() ? nullptr : model.checkpoint->find(name);
    const Scheme* scheme =
        tensor == nullptr || stored.shape.size() < 2 ? nullptr : planned_scheme(model, plan, name);
    GgufSource source;
    source.planned = plan.schemes.count(name) > 0;
    if (scheme != nullptr) require_gguf_type(name, *scheme);
    const bool altered = tensor != nullptr && model.checkpoint->altered(name);
    if (!altered && (scheme == nullptr || stored_already(*tensor, *scheme))) {
      source.copied = &stored;
      add(layout, stored.name, stored.shape, stored.type, std::move(source));
      continue;
    }
    if (scheme != nullptr && !is_coded(stored.type))
      fail("{}: {} is stored as {}, which cannot be decoded, so it can be kept but not become {}",
           model.path.string(), stored.name, traits_of(stored.type).name, scheme->name());
    source.tensor = name;
    source.heads = model.runnable ? permuted_heads(model.config, name) : 0;
    const GgufType type =
        scheme == nullptr ? type_of(model, plan, *tensor) : stored_type(scheme->gguf, tensor->cols());
    add(layout, stored.name, stored.shape, type, std::move(source));
  }
  layout.keys = requantized_keys(*layout.input, layout.tensors);
  return layout;
}

}  // namespace

GgufLayout gguf_layout(const Model& model, const ExportPlan& plan) {
  check_plan(model, plan);
  return model.path.extension() == ".gguf" ? layout_from_gguf(model, plan)
                                           : layout_from_checkpoint(model, plan);
}

}  // namespace strata
