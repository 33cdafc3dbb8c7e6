#include "strata/export/export_plan.h"

#include <algorithm>
#include <cmath>
#include <unordered_set>

#include "strata/core/error.h"
#include "strata/core/units.h"

namespace strata {
namespace {

constexpr int64_t kWeightsAtATime = 1 << 22;  // 16 MiB as float

int64_t matrices_of(const Model& model, const std::string& tensor) {
  for (const Module& module : model.modules)
    if (module.tensor == tensor) return module.matrices();
  return 1;
}

// sum (w - w')^2
double squared_distance(const QuantizedMatrix& matrix, const std::vector<float>& weights) {
  std::vector<float> rounded(weights.size());
  matrix.dequantize(rounded.data());
  double sum = 0;
  for (size_t i = 0; i < weights.size(); ++i) {
    const double difference = static_cast<double>(weights[i]) - rounded[i];
    sum += difference * difference;
  }
  return sum;
}

}  // namespace

void check_plan(const Model& model, const ExportPlan& plan) {
  std::unordered_set<std::string> known;
  for (const Module& module : model.modules) known.insert(module.tensor);
  for (const auto& [tensor, scheme] : plan.schemes)
    if (known.count(tensor) == 0)
      fail(
          "the plan gives {} the scheme {}, but {} has no such matrix in its layers; use a plan made for "
          "this "
          "model",
          tensor, scheme.name(), model.path.string());
}

void require_no_order(const Model& model, const ExportPlan& plan) {
  if (plan.calibrated != nullptr || !plan.importance.empty() || !plan.row_impacts.empty())
    fail(
        "{}: the plan was measured with the model's value heads in another order than the output has; "
        "measure "
        "it on the model that with_value_heads() gives",
        model.path.string());
}

const Scheme* planned_scheme(const Model& model, const ExportPlan& plan, const std::string& tensor) {
  if (tensor == model.embedding) return &plan.embedding;
  if (tensor == model.head) return &plan.head;
  if (tensor == model.layer_embedding) return plan.layer_embedding ? &*plan.layer_embedding : &plan.embedding;
  const auto found = plan.schemes.find(tensor);
  return found == plan.schemes.end() ? nullptr : &found->second;
}

const float* importance_of(const ExportPlan& plan, const TensorInfo& tensor, int64_t matrices) {
  const auto found = plan.importance.find(tensor.name);
  if (found == plan.importance.end()) return nullptr;
  if (static_cast<int64_t>(found->second.size()) != matrices * tensor.cols())
    fail("the importance of {} has {} values, but the tensor has {} columns", tensor.name,
         found->second.size(), matrices * tensor.cols());
  return found->second.data();
}

QuantizerOptions quantizer_of(const ExportPlan& plan, const TensorInfo& tensor, int64_t matrices) {
  QuantizerOptions options = plan.quantizer;
  options.matrices = matrices;
  options.importance = importance_of(plan, tensor, matrices);
  options.row_impact = impacts_of(plan.row_impacts, tensor.name, tensor.rows());
  return options;
}

bool is_calibrated(const ExportPlan& plan, const std::string& tensor) {
  return plan.calibrated != nullptr && plan.calibrated->makes(tensor);
}

void begin_calibrated(const Model& model, const ExportPlan& plan) {
  if (plan.calibrated == nullptr) return;
  std::map<std::string, Scheme> changing;
  for (const auto& [tensor, scheme] : plan.schemes)
    if (!stored_already(model.checkpoint->info(tensor), scheme)) changing[tensor] = scheme;
  plan.calibrated->begin(changing);
}

QuantizedMatrix quantize_planned(const Model& model, const ExportPlan& plan, const std::string& tensor,
                                 double* squared_error) {
  const TensorInfo& info = model.checkpoint->info(tensor);
  std::vector<float> weights(static_cast<size_t>(info.elements()));
  model.checkpoint->read(info, weights.data());
  QuantizedMatrix matrix =
      is_calibrated(plan, tensor)
          ? plan.calibrated->take(tensor)
          : quantize_matrix({weights.data(), info.rows(), info.cols()}, *planned_scheme(model, plan, tensor),
                            quantizer_of(plan, info, matrices_of(model, tensor)));
  if (squared_error != nullptr) *squared_error = squared_distance(matrix, weights);
  return matrix;
}

bool stored_already(const TensorInfo& tensor, const Scheme& scheme) {
  return scheme.kind == Scheme::Kind::Gguf &&
         tensor.type == traits_of(stored_type(scheme.gguf, tensor.cols())).name;
}

bool is_floating(const Scheme& scheme) {
  return scheme.kind == Scheme::Kind::Gguf && traits_of(scheme.gguf).block_elements == 1;
}

bool needs_whole_matrix(const Scheme& scheme) {
  if (scheme.kind == Scheme::Kind::Nf4 || scheme.kind == Scheme::Kind::MixedRows) return true;
  return scheme.kind == Scheme::Kind::Affine &&
         (scheme.affine.axis == 0 || scheme.affine.scales == ScaleStorage::SecondLevel);
}

DType written_type(const TensorInfo& tensor) {
  if (tensor.type == "BF16" || tensor.type == "MXFP4") return DType::BF16;
  if (tensor.type == "F32" || tensor.type == "F64") return DType::F32;
  return DType::F16;
}

uint64_t shard_bytes(const ExportPlan& plan) {
  constexpr uint64_t kUsual = 5000000000;
  return plan.shard_bytes > 0 ? plan.shard_bytes : kUsual;
}

int64_t rows_at_a_time(const TensorInfo& tensor, int64_t unit) {
  const int64_t rows = std::max<int64_t>(kWeightsAtATime / std::max<int64_t>(tensor.cols(), 1), 1);
  return std::min((rows + unit - 1) / unit * unit, tensor.rows());
}

void check_half_range(const std::string& tensor, const float* values, int64_t count) {
  constexpr float kOverflow = 65520;
  for (int64_t i = 0; i < count; ++i)
    if (!(std::abs(values[i]) < kOverflow))
      fail("{}: the value {} is too large for F16; choose another scheme for it", tensor, values[i]);
}

void check_target(const Model& model, const std::filesystem::path& target) {
  std::error_code ignored;
  if (std::filesystem::equivalent(model.path, target, ignored))
    fail("{} is the model itself; choose another name", target.string());
}

void check_space(const std::filesystem::path& target, uint64_t bytes) {
  std::error_code error;
  const std::filesystem::space_info space =
      std::filesystem::space(std::filesystem::absolute(target).parent_path(), error);
  // Some file systems do not know or say 0; writing will tell.
  if (error || space.available == 0 || space.available >= bytes) return;
  fail("cannot write {}: it needs {}, but only {} are free there", target.string(), format_bytes(bytes),
       format_bytes(space.available));
}

}  // namespace strata
