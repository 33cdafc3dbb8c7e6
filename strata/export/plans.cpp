#include "strata/export/plans.h"

#include <algorithm>
#include <unordered_map>

#include "strata/core/error.h"
#include "strata/core/file.h"
#include "strata/core/text.h"
#include "strata/export/export_plan.h"
#include "strata/export/recipes.h"
#include "strata/gguf/file.h"

namespace strata {
namespace {

std::vector<Assignment> matrices_of(const Model& model) {
  std::vector<Assignment> matrices;
  for (const Module& module : model.modules)
    matrices.push_back({module.tensor, module.rows, module.cols, {}});
  return matrices;
}

Plan plan_from_gguf(const Model& model, const std::filesystem::path& path) {
  const Model other = open_model(path);
  Plan plan = stored_plan(other);
  for (const Assignment& assignment : plan.assignments) {
    const TensorInfo* tensor = model.checkpoint->find(assignment.tensor);
    if (tensor == nullptr || tensor->rows() != assignment.rows || tensor->cols() != assignment.cols)
      fail("{} holds {} of shape [{}, {}], which {} does not have; a file of the same model was expected",
           path.string(), assignment.tensor, assignment.rows, assignment.cols, model.path.string());
  }
  if (plan.assignments.size() != model.modules.size())
    fail("{} has {} matrices in its layers and {} has {}; a file of the same model was expected",
         path.string(), plan.assignments.size(), model.path.string(), model.modules.size());
  if (const TensorInfo* tensor = other.checkpoint->find(other.embedding))
    plan.embedding = find_scheme(tensor->type);
  if (const TensorInfo* tensor = other.checkpoint->find(other.head)) plan.head = find_scheme(tensor->type);
  if (const TensorInfo* tensor = other.checkpoint->find(other.layer_embedding))
    plan.layer_embedding = find_scheme(tensor->type);
  return plan;
}

// A plan of llama-quantize's lines REGEX=TYPE.
Plan plan_from_types(const Model& model, const std::filesystem::path& path) {
  Plan plan;
  plan.model = model.path.string();
  plan.method = path.filename().string();
  plan.allocator = "none";
  plan.budget = "none";
  plan.layers = model.config.num_layers;
  std::vector<std::string> boundaries = {model.embedding};
  if (model.head != model.embedding) boundaries.push_back(model.head);
  if (!model.layer_embedding.empty()) boundaries.push_back(model.layer_embedding);
  for (Assignment& found :
       read_tensor_types(read_text(path), matrices_of(model), path.string(), boundaries)) {
    if (found.tensor == model.embedding) plan.embedding = found.scheme;
    if (found.tensor == model.head) plan.head = found.scheme;
    if (found.tensor == model.layer_embedding) plan.layer_embedding = found.scheme;
    if (std::find(boundaries.begin(), boundaries.end(), found.tensor) == boundaries.end())
      plan.assignments.push_back(std::move(found));
  }
  plan.sum_up();
  return plan;
}

// A plan.json that is for all of the model's matrices and no others, with shapes where it gives none.
Plan complete_plan(const Model& model, const std::filesystem::path& path) {
  Plan plan = read_plan(path);
  std::unordered_map<std::string, const Module*> left;
  for (const Module& module : model.modules) left[module.tensor] = &module;
  for (Assignment& assignment : plan.assignments) {
    const auto found = left.find(assignment.tensor);
    if (found == left.end())
      fail("the plan {} names the tensor {}, which {} does not have among its layers' matrices",
           path.string(), printable(assignment.tensor), model.path.string());
    const Module& module = *found->second;
    if (assignment.rows > 0 && (assignment.rows != module.rows || assignment.cols != module.cols))
      fail("the plan {} is for another model: its {} has the shape [{}, {}], and that of {} has [{}, {}]",
           path.string(), assignment.tensor, assignment.rows, assignment.cols, model.path.string(),
           module.rows, module.cols);
    assignment.rows = module.rows;
    assignment.cols = module.cols;
    left.erase(found);
  }
  for (const Module& module : model.modules)
    if (left.count(module.tensor) > 0)
      fail(
          "the plan {} gives no scheme to {} ({} of {} matrices lack one); a plan of the whole model was "
          "expected, in which F16 stands for what is to be kept",
          path.string(), module.tensor, left.size(), model.modules.size());
  plan.sum_up();
  return plan;
}

}  // namespace

std::optional<Scheme> find_scheme(const std::string& name) {
  try {
    return parse_scheme(name);
  } catch (const UsageError&) {
    return std::nullopt;
  }
}

bool has_stored_plan(const Model& model) {
  bool quantized = false;
  for (const Module& module : model.modules) {
    const auto scheme = find_scheme(model.checkpoint->info(module.tensor).type);
    if (!scheme) return false;
    quantized = quantized || !is_floating(*scheme);
  }
  return quantized;
}

Plan stored_plan(const Model& model) {
  Plan plan;
  plan.model = model.path.string();
  plan.method = "as stored";
  plan.allocator = "none";
  plan.budget = "none";
  plan.layers = model.config.num_layers;
  plan.assignments = matrices_of(model);
  for (Assignment& assignment : plan.assignments) {
    const std::string& type = model.checkpoint->info(assignment.tensor).type;
    const auto scheme = find_scheme(type);
    if (!scheme)
      fail("{}: {} is stored as {}, which is no scheme that can be asked for", model.path.string(),
           assignment.tensor, type);
    assignment.scheme = *scheme;
  }
  plan.sum_up();
  return plan;
}

Plan read_plan_for(const Model& model, const std::filesystem::path& path) {
  if (is_gguf(path)) return plan_from_gguf(model, path);
  if (path.extension() == ".txt") return plan_from_types(model, path);
  return complete_plan(model, path);
}

}  // namespace strata
