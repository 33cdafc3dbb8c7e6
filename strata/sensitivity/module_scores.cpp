#include "strata/sensitivity/module_scores.h"

#include <algorithm>
#include <utility>

#include "strata/core/progress.h"
#include "strata/core/threads.h"

namespace strata {
namespace {

Scores empty_scores(const Model& model, std::string method) {
  Scores scores;
  scores.model = model.path.string();
  scores.method = std::move(method);
  scores.modules = allocation_modules(model.modules);
  return scores;
}

std::vector<double> layer_means(const Model& model, const std::vector<double>& values) {
  std::vector<double> sums(model.config.num_layers), counts(model.config.num_layers);
  for (size_t i = 0; i < values.size(); ++i) {
    sums[model.modules[i].layer] += values[i];
    counts[model.modules[i].layer] += 1;
  }
  for (size_t layer = 0; layer < sums.size(); ++layer) sums[layer] /= std::max(1.0, counts[layer]);
  return sums;
}

}  // namespace

std::vector<double> module_values(const Model& model, const std::string& what,
                                  const std::function<double(MatrixView<const float>)>& value) {
  std::vector<double> values;
  for_each_matrix(model, model.modules, what,
                  [&](const Module& module, int64_t expert, MatrixView<const float> weights) {
                    if (expert == 0) values.push_back(0);
                    values.back() += value(weights) / static_cast<double>(module.matrices());
                  });
  return values;
}

void for_each_matrix(const Model& model, const std::vector<Module>& modules, const std::string& what,
                     const SeeMatrix& visit) {
  Progress progress(what, static_cast<int64_t>(modules.size()), "matrices");
  std::vector<float> values;
  for (const Module& module : modules) {
    const TensorInfo& tensor = model.checkpoint->info(module.tensor);
    const int64_t rows = module.rows_of_matrix();
    values.resize(static_cast<size_t>(rows * module.cols));
    for (int64_t expert = 0; expert < module.matrices(); ++expert) {
      model.checkpoint->read_rows(tensor, expert * rows, rows, values.data());
      visit(module, expert, {values.data(), rows, module.cols});
    }
    progress.advance();
  }
}

std::vector<AllocationModule> allocation_modules(const std::vector<Module>& modules) {
  std::vector<AllocationModule> list;
  for (const Module& module : modules)
    list.push_back({module.layer, module.name, module.tensor, module.rows, module.cols});
  return list;
}

double sum_over(MatrixView<const float> weights,
                const std::function<double(const float* values, int64_t n)>& chunk_sum) {
  constexpr int64_t kChunk = 1 << 16;
  std::vector<double> parts(static_cast<size_t>((weights.size() + kChunk - 1) / kChunk));
  parallel_for(weights.size(), kChunk, [&](int64_t begin, int64_t end) {
    parts[begin / kChunk] = chunk_sum(weights.data + begin, end - begin);
  });
  double total = 0;
  for (double part : parts) total += part;
  return total;
}

double sum_of_squares(MatrixView<const float> weights) {
  return sum_over(weights, [](const float* w, int64_t n) {
    double sum = 0;
    for (int64_t i = 0; i < n; ++i) sum += static_cast<double>(w[i]) * w[i];
    return sum;
  });
}

Scheme lowest_scheme(const Model& model, const std::vector<Scheme>& schemes) {
  if (schemes.empty()) return parse_scheme("w2g64");
  const auto stored_bits = [&](const Scheme& scheme) {
    uint64_t bits = 0;
    for (const Module& module : model.modules) bits += scheme.stored_bits(module.rows, module.cols);
    return bits;
  };
  return *std::min_element(schemes.begin(), schemes.end(),
                           [&](const Scheme& a, const Scheme& b) { return stored_bits(a) < stored_bits(b); });
}

Scores layer_scores(const Model& model, std::string method, const std::vector<double>& values) {
  Scores scores = empty_scores(model, std::move(method));
  std::vector<int64_t> params(values.size());
  for (const Module& module : model.modules) params[module.layer] += module.params();
  for (size_t layer = 0; layer < values.size(); ++layer)
    if (params[layer] > 0)
      scores.scores.push_back({static_cast<int>(layer), "", values[layer], params[layer]});
  return scores;
}

Scores per_module_scores(const Model& model, std::string method, const std::vector<double>& values) {
  Scores scores = empty_scores(model, std::move(method));
  scores.per_module = true;
  for (size_t i = 0; i < values.size(); ++i) {
    const Module& module = model.modules[i];
    scores.scores.push_back({module.layer, module.name, values[i], module.params()});
  }
  scores.details["layer_means"] = layer_means(model, values);
  return scores;
}

Scores mean_layer_scores(const Model& model, std::string method, const std::vector<double>& values) {
  Scores scores = layer_scores(model, std::move(method), layer_means(model, values));
  Json modules = Json::array();
  for (size_t i = 0; i < values.size(); ++i)
    modules.push_back(
        {{"layer", model.modules[i].layer}, {"module", model.modules[i].name}, {"value", values[i]}});
  scores.details["modules"] = std::move(modules);
  return scores;
}

}  // namespace strata
