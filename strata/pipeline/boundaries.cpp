#include "strata/pipeline/boundaries.h"

#include <algorithm>
#include <optional>

#include "strata/core/error.h"
#include "strata/export/export_plan.h"
#include "strata/export/other_tensors.h"
#include "strata/export/plans.h"
#include "strata/gguf/file.h"
#include "strata/model/gguf_names.h"
#include "strata/model/layout.h"

namespace strata {
namespace {

// The type of a GGUF's matrix that cannot be decoded; none for all others.
std::optional<Scheme> undecodable_type(const Model& model, const TensorInfo& tensor) {
  if (find_scheme(tensor.type) || !is_gguf(model.path)) return std::nullopt;
  const GgufFile file(model.path);
  const GgufTensor* stored = file.find_tensor(name_in_gguf(model, tensor.name));
  if (stored == nullptr || is_coded(stored->type)) return std::nullopt;
  Scheme scheme;
  scheme.kind = Scheme::Kind::Gguf;
  scheme.gguf = stored->type;
  return scheme;
}

bool is_kept(const ExportFormat& format, const Scheme& scheme) {
  return format.ending.empty() && is_floating(scheme);  // a GGUF stores floating types as asked
}

// A GGUF is made from a GGUF with all its tensors; from a directory with those of the text model, beside
// which directories keep others.
double weights_in_file(const Model& model, const ExportFormat& format) {
  double weights = 0;
  if (is_gguf(model.path)) {
    for (const TensorInfo& tensor : model.checkpoint->tensors())
      weights += static_cast<double>(tensor.elements());
    return weights;
  }
  for (const ExpectedTensor& tensor : stored_tensors(model))
    weights += static_cast<double>(model.checkpoint->info(tensor.name).elements());
  if (!format.ending.empty()) return weights;
  for (const PlannedTensor& tensor : other_tensors(model)) {
    double elements = 1;
    for (const int64_t size : tensor.shape) elements *= static_cast<double>(size);
    weights += elements;
  }
  return weights;
}

double stored_bits_per_weight(const TensorInfo& tensor, const ExportFormat& format, const Scheme& scheme) {
  if (is_kept(format, scheme)) return 8.0 * static_cast<double>(size_of(written_type(tensor)));
  return static_cast<double>(scheme.stored_bits(tensor.rows(), tensor.cols())) /
         static_cast<double>(tensor.elements());
}

}  // namespace

void choose_boundaries(const AskedBoundaries& asked, const Model& model, const ExportFormat& format,
                       ExportPlan& exported) {
  const auto chosen = [](const std::string& name, const std::string& automatic) {
    return parse_scheme(name == "auto" ? automatic : name);
  };
  exported.head = chosen(asked.head, format.head);
  exported.embedding = asked.embedding == "auto" && model.config.tied_embeddings
                           ? exported.head
                           : chosen(asked.embedding, format.embedding);
  if (!model.layer_embedding.empty())
    exported.layer_embedding =
        chosen(asked.layer_embedding == "auto" ? asked.embedding : asked.layer_embedding, format.embedding);
  else if (asked.layer_embedding != "auto")
    fail_usage("{} has no embeddings for every layer; leave out --layer-embedding", model.path.string());
  for (const Scheme& scheme :
       {exported.embedding, exported.head, exported.layer_embedding.value_or(exported.embedding)}) {
    if (is_floating(scheme)) continue;
    if (!format.packs_embedding)
      fail_usage(
          "{} keeps embedding and head as they are, but {} was asked for; leave out --embedding, --head and "
          "--layer-embedding",
          format.name, scheme.name());
    require_storable(format, scheme);
  }
}

void adopt_boundaries(const Plan& plan, const AskedBoundaries& asked, const Model& model,
                      const ExportFormat& format, ExportPlan& exported) {
  const auto adopted = [&](const std::string& name, const std::optional<Scheme>& planned, Scheme scheme) {
    const TensorInfo* tensor = model.checkpoint->find(name);
    if (tensor == nullptr || !format.packs_embedding) return scheme;
    const std::optional<Scheme> kept = undecodable_type(model, *tensor);
    const std::optional<Scheme>& found = kept ? kept : planned;
    return found && format.refusal(*found, tensor->rows(), tensor->cols()).empty() ? *found : scheme;
  };
  const bool tied = model.embedding == model.head;
  const bool open_embedding = asked.embedding == "auto", open_head = asked.head == "auto";
  if (open_embedding && (open_head || !tied))
    exported.embedding = adopted(model.embedding, plan.embedding, exported.embedding);
  if (open_head) exported.head = adopted(model.head, tied ? plan.embedding : plan.head, exported.head);
  if (exported.layer_embedding && open_embedding && asked.layer_embedding == "auto")
    exported.layer_embedding =
        adopted(model.layer_embedding, plan.layer_embedding, *exported.layer_embedding);
}

std::string obstacle_to_choosing(const AllocationModule& boundary, const Model& model,
                                 const ExportFormat& format, const AllocatorOptions& allocator) {
  if (!format.packs_embedding) return format.name + " does not pack it";
  if (!find_allocator(allocator.name).weighs_costs)
    return "the allocator " + allocator.name + " looks at layers alone";
  if (undecodable_type(model, model.checkpoint->info(boundary.tensor)))
    return "the type that it has cannot be decoded";
  for (const Scheme& scheme : allocator.schemes)
    if (!format.refusal(scheme, boundary.rows, boundary.cols).empty())
      return fmt::format("it cannot be stored as {}", scheme.name());
  return "";
}

bool has_costs(const Scores& scores, const AllocationModule& boundary) {
  return std::any_of(scores.boundaries.begin(), scores.boundaries.end(),
                     [&](const AllocationModule& scored) { return scored.tensor == boundary.tensor; });
}

void take_boundaries(const Plan& plan, const Model& model, ExportPlan& exported) {
  if (plan.embedding) exported.embedding = *plan.embedding;
  if (plan.embedding && model.head == model.embedding) exported.head = *plan.embedding;
  if (plan.head) exported.head = *plan.head;
  if (plan.layer_embedding) exported.layer_embedding = plan.layer_embedding;
}

void describe_boundaries(const Model& model, const ExportFormat& format, const ExportPlan& exported,
                         uint64_t file_bytes, Plan& plan) {
  const auto describe = [&](const std::string& name, const Scheme& scheme, std::optional<Scheme>& planned,
                            std::optional<double>& bits) {
    const TensorInfo* tensor = model.checkpoint->find(name);
    if (tensor == nullptr) return;
    planned =
        is_kept(format, scheme) ? std::nullopt : std::make_optional(stored_scheme(scheme, tensor->cols()));
    bits = stored_bits_per_weight(*tensor, format, scheme);
  };
  describe(model.embedding, exported.embedding, plan.embedding, plan.embedding_bits);
  if (model.head != model.embedding) describe(model.head, exported.head, plan.head, plan.head_bits);
  if (exported.layer_embedding)
    describe(model.layer_embedding, *exported.layer_embedding, plan.layer_embedding,
             plan.layer_embedding_bits);
  plan.file_bits = 8 * static_cast<double>(file_bytes) / weights_in_file(model, format);
}

}  // namespace strata
