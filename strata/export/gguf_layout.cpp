#include "strata/export/gguf_layout.h"

#include <numeric>
#include <unordered_map>
#include <utility>

#include "strata/checkpoint/sliced_checkpoint.h"
#include "strata/core/error.h"
#include "strata/export/export_plan.h"
#include "strata/export/gguf_metadata.h"
#include "strata/gguf/file.h"
#include "strata/model/gguf_names.h"
#include "strata/model/layout.h"
#include "strata/model/rope_scaling.h"

namespace strata {
namespace {

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

// llama.cpp's order of the rows; empty where it is the checkpoint's.
std::vector<int64_t> row_order(const std::vector<RowPart>& parts) {
  return is_permuted(parts) ? gguf_row_order(parts) : std::vector<int64_t>();
}

// The rows of each part of a matrix whose parts stand apart.
std::vector<std::vector<int64_t>> rows_of_parts(const ExpectedTensor& tensor) {
  std::vector<std::vector<int64_t>> rows;
  int64_t first = 0;
  for (const RowPart& part : tensor.parts) {
    std::vector<int64_t>& of_part = rows.emplace_back(static_cast<size_t>(part.rows));
    std::iota(of_part.begin(), of_part.end(), first);
    first += part.rows;
  }
  return rows;
}

// Throws for what llama.cpp's graph of the architecture has no place for; it would refuse the file, or worse,
// ignore a part of it.
void require_place(const ModelConfig& config) {
  const std::string refusal = gguf_refusal_of(config);
  if (!refusal.empty())
    fail(
        "a {} model with {} cannot leave as GGUF, since llama.cpp's {} has no place for that; export with "
        "--format hf",
        config.architecture, refusal, architecture_of(config).gguf_name);
}

// Divisors of rotary frequencies that llama.cpp reads from tensors. (Linear scaling is a key; see
// gguf_metadata.)
std::vector<std::pair<std::string, std::vector<float>>> stored_divisors(const ModelConfig& config) {
  switch (config.rope.scaling.type) {
    case RopeScaling::Type::None:
    case RopeScaling::Type::Linear:
    case RopeScaling::Type::Yarn:
    case RopeScaling::Type::Dynamic:
      return {};
    case RopeScaling::Type::Llama3:
    case RopeScaling::Type::Proportional:
    case RopeScaling::Type::Divisors: {
      const std::vector<double> divisors = rope_divisors(config.rope);
      return {{"rope_freqs.weight", {divisors.begin(), divisors.end()}}};
    }
    case RopeScaling::Type::Long:
      return {{"rope_factors_long.weight", config.rope.scaling.long_divisors},
              {"rope_factors_short.weight", config.rope.scaling.divisors}};
  }
  return {};
}

void add(GgufLayout& layout, std::string name, std::vector<int64_t> shape, GgufType type, GgufSource source) {
  GgufTensor tensor;
  tensor.name = std::move(name);
  tensor.shape = std::move(shape);
  tensor.type = type;
  layout.tensors.push_back(std::move(tensor));
  layout.sources.push_back(std::move(source));
}

// Stacks have three dimensions; matrices of one row are vectors.
std::vector<int64_t> shape_in_gguf(const ExpectedTensor& tensor) {
  const std::vector<int64_t>& shape = tensor.shape;
  if (!tensor.gguf_shape.empty()) return tensor.gguf_shape;
  if (tensor.experts > 0 && shape.size() == 1) return {tensor.experts, shape.front() / tensor.experts};
  if (tensor.experts > 0) return {tensor.experts, shape.front() / tensor.experts, shape.back()};
  return tensor.kept && shape.front() == 1 ? std::vector<int64_t>{shape.back()} : shape;
}

GgufLayout layout_from_checkpoint(const Model& model, const ExportPlan& plan) {
  require_runnable(model, "writing a GGUF of a directory");  // names and keys are an architecture's
  require_place(model.config);
  GgufLayout layout;
  std::vector<SlicedStack> slices;
  for (const ExpectedTensor& expected : expected_tensors(model.config)) {
    for (const SlicedStack& slice : gguf_slices(expected)) {
      GgufSource source;
      source.tensor = slice.name;
      add(layout, slice.name, {slice.matrices, slice.rows, slice.cols},
          own_type(model.checkpoint->info(expected.name)), std::move(source));
      slices.push_back(slice);
    }
    if (!expected.gguf_slices.empty()) continue;
    const TensorInfo& tensor = model.checkpoint->info(expected.name);
    GgufSource source;
    source.tensor = tensor.name;
    source.rows = row_order(expected.parts);
    source.planned = plan.schemes.count(tensor.name) > 0;
    const GgufType type = expected.kept ? GgufType::F32 : type_of(model, plan, tensor);
    for (size_t part = 0; part < expected.gguf_parts.size(); ++part) {
      source.rows = rows_of_parts(expected)[part];
      add(layout, expected.gguf_parts[part], {expected.parts[part].rows, tensor.cols()}, type, source);
    }
    if (!expected.gguf_parts.empty()) continue;
    add(layout, expected.gguf_name, shape_in_gguf(expected), type, std::move(source));
  }
  for (auto& [name, divisors] : stored_divisors(model.config)) {
    GgufSource source;
    source.values = std::move(divisors);
    const auto count = static_cast<int64_t>(source.values.size());
    add(layout, name, {count}, GgufType::F32, std::move(source));
  }
  layout.checkpoint = model.checkpoint;
  if (!slices.empty()) layout.checkpoint = std::make_shared<SlicedCheckpoint>(model.checkpoint, slices);
  layout.keys = gguf_keys(model, layout.tensors);
  return layout;
}

// A GGUF as input: its keys and tensors as they stand, with new types where the plan has them.
GgufLayout layout_from_gguf(const Model& model, const ExportPlan& plan) {
  GgufLayout layout;
  layout.input = std::make_shared<GgufFile>(model.path);
  struct Known {
    std::string name;
    std::vector<int64_t> rows;  // of the tensor, in the file's order; empty: all as they are
  };
  std::unordered_map<std::string, Known> expected;  // by their names in the file
  if (model.runnable)
    for (const ExpectedTensor& tensor : expected_tensors(model.config)) {
      expected[tensor.gguf_name] = {tensor.name, row_order(tensor.parts)};
      for (size_t part = 0; part < tensor.gguf_parts.size(); ++part)
        expected[tensor.gguf_parts[part]] = {tensor.name, rows_of_parts(tensor)[part]};
    }
  for (const GgufTensor& stored : layout.input->tensors()) {
    const auto known = expected.find(stored.name);
    const std::string name = !model.runnable           ? stored.name
                             : known == expected.end() ? ""
                                                       : known->second.name;
    const TensorInfo* tensor = name.empty() ? nullptr : model.checkpoint->find(name);
    const Scheme* scheme =
        tensor == nullptr || stored.shape.size() < 2 ? nullptr : planned_scheme(model, plan, name);
    GgufSource source;
    source.planned = plan.schemes.count(name) > 0;
    if (scheme != nullptr) require_gguf_type(name, *scheme);
    const bool altered = tensor != nullptr && model.checkpoint->altered(name);
    const bool is_stored = scheme != nullptr && scheme->kind == Scheme::Kind::Gguf &&
                           stored_type(scheme->gguf, tensor->cols()) == stored.type;
    if (!altered && (scheme == nullptr || is_stored)) {
      source.copied = &stored;
      add(layout, stored.name, stored.shape, stored.type, std::move(source));
      continue;
    }
    if (scheme != nullptr && !is_coded(stored.type))
      fail("{}: {} is stored as {}, which cannot be decoded, so it can be kept but not become {}",
           model.path.string(), stored.name, traits_of(stored.type).name, scheme->name());
    source.tensor = name;
    if (known != expected.end()) source.rows = known->second.rows;
    const GgufType type =
        scheme == nullptr ? type_of(model, plan, *tensor) : stored_type(scheme->gguf, tensor->cols());
    add(layout, stored.name, stored.shape, type, std::move(source));
  }
  layout.checkpoint = model.checkpoint;
  layout.keys = requantized_keys(*layout.input, layout.tensors);
  return layout;
}

}  // namespace

GgufLayout gguf_layout(const Model& model, const ExportPlan& plan) {
  check_plan(model, plan);
  GgufLayout layout =
      is_gguf(model.path) ? layout_from_gguf(model, plan) : layout_from_checkpoint(model, plan);
  for (GgufKey& key : gguf_keys(plan.label)) layout.keys.push_back(std::move(key));
  return layout;
}

}  // namespace strata
