#include "strata/pipeline/verify.h"

#include <fmt/format.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <map>
#include <set>

#include "strata/core/error.h"
#include "strata/core/interrupt.h"
#include "strata/core/progress.h"
#include "strata/core/text.h"
#include "strata/core/threads.h"
#include "strata/export/gguf_metadata.h"
#include "strata/export/plans.h"
#include "strata/gguf/audit.h"
#include "strata/gguf/codec.h"
#include "strata/gguf/file.h"
#include "strata/model/model.h"
#include "strata/pipeline/file_label.h"
#include "strata/quantization/quantizer.h"

namespace strata {
namespace {

constexpr int64_t kSampledRows = 32;
constexpr double kMostError = 4;              // times that of rounding to nearest
constexpr double kFolded = 0.1;               // relative difference of a norm that tells of folded scales
constexpr double kOfFloats = 1.0 / 256;       // relative error of what is stored in floats: bfloat16's
constexpr int64_t kGrain = int64_t{1} << 20;  // weights that a thread looks at

// Every number of a GGUF.
void check_numbers(const GgufFile& file, Verification& found) {
  std::map<std::string, int> carried;
  int64_t weights = 0;
  for (const GgufTensor& tensor : file.tensors()) weights += static_cast<int64_t>(tensor.bytes());
  Progress progress("verifying", weights, "bytes");
  for (const GgufTensor& tensor : file.tensors()) {
    check_interrupted();
    if (!is_coded(tensor.type)) {
      ++carried[std::string(traits_of(tensor.type).name)];
      continue;
    }
    const GgufTypeTraits& traits = traits_of(tensor.type);
    int64_t elements = 1;
    for (const int64_t dimension : tensor.shape) elements *= dimension;
    const int64_t blocks = elements / traits.block_elements;
    std::atomic<bool> finite{true};
    parallel_for(blocks, std::max<int64_t>(1, kGrain / traits.block_elements),
                 [&](int64_t begin, int64_t end) {
                   if (!is_finite_gguf(tensor.type, file.data(tensor) + begin * traits.block_bytes,
                                       (end - begin) * traits.block_elements))
                     finite = false;
                 });
    if (!finite)
      found.faults.push_back(fmt::format("{} holds numbers that are not finite", printable(tensor.name)));
    ++found.tensors;
    found.bytes += tensor.bytes();
    progress.advance(static_cast<int64_t>(tensor.bytes()));
    file.release(tensor);
  }
  for (const auto& [type, count] : carried)
    found.notes.push_back(
        fmt::format("{} tensors of type {} cannot be decoded, and were not looked into", count, type));
}

// The type that most matrices of a kind of file have, by llama.cpp's numbers of these.
std::optional<GgufType> type_of_file(int64_t file_type) {
  static const std::map<int64_t, GgufType> of_mixes = {
      {11, GgufType::Q3_K}, {13, GgufType::Q3_K},  {14, GgufType::Q4_K},  {16, GgufType::Q5_K},
      {21, GgufType::Q2_K}, {22, GgufType::IQ3_S}, {27, GgufType::IQ3_S}, {29, GgufType::IQ2_S}};
  if (const auto mix = of_mixes.find(file_type); mix != of_mixes.end()) return mix->second;
  for (const GgufTypeTraits& traits : gguf_types())
    if (traits.file_type == file_type) return traits.type;
  return std::nullopt;
}

void check_label(const GgufFile& file, Verification& found) {
  const GgufValue* value = file.find("general.file_type");
  const std::optional<int64_t> label = value == nullptr ? std::nullopt : gguf_integer(*value);
  std::map<GgufType, int> counts = matrices_by_type(file.tensors());
  if (!label || counts.empty()) return;
  const std::optional<GgufType> said = type_of_file(*label);
  if (!said)
    return found.notes.push_back(
        fmt::format("general.file_type is {}, a mix that is not known here", *label));
  const auto most = std::max_element(counts.begin(), counts.end(),
                                     [](const auto& a, const auto& b) { return a.second < b.second; });
  if (counts[*said] == most->second) return;
  found.faults.push_back(
      fmt::format("general.file_type {} says that most matrices are {}, but {} are {} and {} are {}", *label,
                  traits_of(*said).name, most->second, traits_of(most->first).name, counts[*said],
                  traits_of(*said).name));
}

// Every number of a directory; a checkpoint refuses to read those that are not finite.
void check_numbers(const Model& model, Verification& found) {
  Progress progress("verifying", static_cast<int64_t>(model.checkpoint->tensors().size()), "tensors");
  std::vector<float> rows;
  for (const TensorInfo& tensor : model.checkpoint->tensors()) {
    check_interrupted();
    const int64_t step = std::max<int64_t>(1, kGrain / std::max<int64_t>(1, tensor.cols()));
    try {
      for (int64_t first = 0; first < tensor.rows(); first += step) {
        const int64_t count = std::min(step, tensor.rows() - first);
        rows.resize(static_cast<size_t>(count * tensor.cols()));
        model.checkpoint->read_rows(tensor, first, count, rows.data());
      }
      ++found.tensors;
      found.bytes += tensor.bytes;
    } catch (const Error& error) {
      found.faults.push_back(error.what());
    }
    progress.advance();
  }
}

struct Rows {
  std::vector<float> values;
  int64_t count;
};

// Rows from all over a matrix.
Rows sampled(const Checkpoint& checkpoint, const TensorInfo& tensor) {
  const int64_t count = std::min(kSampledRows, tensor.rows());
  Rows rows{std::vector<float>(static_cast<size_t>(count * tensor.cols())), count};
  for (int64_t i = 0; i < count; ++i)
    checkpoint.read_rows(tensor, i * tensor.rows() / count, 1, rows.values.data() + i * tensor.cols());
  return rows;
}

double squares(const std::vector<float>& values) {
  double sum = 0;
  for (const float value : values) sum += static_cast<double>(value) * value;
  return sum;
}

double squared_distance(const std::vector<float>& a, const std::vector<float>& b) {
  double sum = 0;
  for (size_t i = 0; i < a.size(); ++i)
    sum += (static_cast<double>(a[i]) - b[i]) * (static_cast<double>(a[i]) - b[i]);
  return sum;
}

class ReferenceComparison {
 public:
  ReferenceComparison(const Model& model, const Model& reference, Verification& found)
      : model_(model), reference_(reference), found_(found) {
    if (has_stored_plan(model))
      for (const Assignment& assignment : stored_plan(model).assignments)
        schemes_.emplace(assignment.tensor, assignment.scheme);
  }

  void run() {
    const std::set<std::string> folded = folded_layers();
    for (const std::string& layer : folded)
      found_.notes.push_back(layer +
                             "*: its norms are not the reference's, so scales have been folded into its "
                             "matrices, which cannot be compared");
    Progress progress("comparing", static_cast<int64_t>(reference_.modules.size()), "matrices");
    for (const Module& module : reference_.modules) {
      check_interrupted();
      progress.advance();
      if (folded.count(layer_of(module.tensor)) > 0) continue;
      compare(module.tensor);
    }
    compare(reference_.embedding);
    if (reference_.head != reference_.embedding) compare(reference_.head);
    if (!reference_.layer_embedding.empty()) compare(reference_.layer_embedding);
  }

 private:
  // "model.layers.3." of one of its tensors; empty of the others.
  std::string layer_of(const std::string& tensor) const {
    const std::string prefix = reference_.layer_prefix();
    if (tensor.compare(0, prefix.size(), prefix) != 0) return "";
    return tensor.substr(0, tensor.find('.', prefix.size()) + 1);
  }

  std::set<std::string> folded_layers() const {
    std::set<std::string> layers;
    for (const TensorInfo& tensor : reference_.checkpoint->tensors()) {
      const TensorInfo* own = model_.checkpoint->find(tensor.name);
      const std::string layer = layer_of(tensor.name);
      if (tensor.shape.size() != 1 || layer.empty() || own == nullptr || own->shape != tensor.shape) continue;
      const std::vector<float> expected = reference_.checkpoint->read(tensor.name);
      const double difference = squared_distance(expected, model_.checkpoint->read(tensor.name));
      if (difference > kFolded * kFolded * squares(expected)) layers.insert(layer);
    }
    return layers;
  }

  void compare(const std::string& name) {
    const TensorInfo& expected = reference_.checkpoint->info(name);
    const TensorInfo* own = model_.checkpoint->find(name);
    if (own == nullptr && name == reference_.head) own = model_.checkpoint->find(model_.head);
    if (own == nullptr) return found_.faults.push_back(name + " of the reference is not there");
    if (own->shape != expected.shape)
      return found_.faults.push_back(fmt::format("{} has {} rows of {}, and the reference {} of {}", name,
                                                 own->rows(), own->cols(), expected.rows(), expected.cols()));
    const Rows weights = sampled(*reference_.checkpoint, expected),
               stored = sampled(*model_.checkpoint, *own);
    ++found_.matrices;
    const double size = squares(weights.values), error = squared_distance(weights.values, stored.values);
    const std::optional<Scheme> scheme = scheme_of(name, *own);
    double allowed = kOfFloats * kOfFloats * size;
    if (scheme) {
      std::vector<float> rounded = weights.values;
      fake_quantize({rounded.data(), weights.count, expected.cols()}, *scheme, {});
      allowed += kMostError * kMostError * squared_distance(weights.values, rounded);
    }
    if (error <= allowed) return;
    found_.faults.push_back(fmt::format(
        "{}, stored as {}, is off by {:.1f} % of its size; at most {:.1f} % was expected", name,
        scheme ? scheme->name() : own->type, 100 * std::sqrt(error / size), 100 * std::sqrt(allowed / size)));
  }

  std::optional<Scheme> scheme_of(const std::string& name, const TensorInfo& own) const {
    if (const auto found = schemes_.find(name); found != schemes_.end()) return found->second;
    return find_scheme(own.type);
  }

  const Model &model_, &reference_;
  Verification& found_;
  std::map<std::string, Scheme> schemes_;
};

// The label's bits beside those that are stored.
void check_bits(const Model& model, Verification& found) {
  if (!has_stored_plan(model)) return;
  for (const auto& [name, value] : read_label(model)) {
    if (name != kLabelOfBits) continue;
    const std::string stored = label_of_bits(stored_plan(model));
    if (stored != value)
      found.faults.push_back(
          fmt::format("the label says {} bits a weight; the layers' matrices have {}", value, stored));
  }
}

}  // namespace

Verification verify(const std::filesystem::path& path,
                    const std::optional<std::filesystem::path>& reference) {
  Verification found;
  if (is_gguf(path)) {
    found.faults = gguf_faults(path);
    if (!found.faults.empty()) return found;  // nothing in it lies where it should
    const GgufFile file(path);
    check_numbers(file, found);
    check_label(file, found);
  }
  std::optional<Model> model;
  try {
    model = open_model(path);
  } catch (const Error& error) {
    found.faults.push_back(error.what());
    return found;
  }
  if (!is_gguf(path)) check_numbers(*model, found);
  check_bits(*model, found);
  if (reference && found.faults.empty()) ReferenceComparison(*model, open_model(*reference), found).run();
  return found;
}

}  // namespace strata
