#include "strata/pipeline/estimate.h"

#include <ATen/core/grad_mode.h>
#include <fmt/format.h>

#include <algorithm>
#include <functional>

#include "strata/core/stopwatch.h"
#include "strata/core/threads.h"
#include "strata/core/units.h"
#include "strata/device/device.h"
#include "strata/forward/linear.h"
#include "strata/forward/load_tensor.h"
#include "strata/quantization/quantizer.h"

namespace strata {
namespace {

constexpr double kMeasuredSeconds = 0.1;  // of each rate
constexpr double kFloatBytes = sizeof(float);

// How much longer each part takes than its products would at the measured rate; seen on the bundled model and
// on Llama-3.1-8B's shape (docs/files.md).
struct Slowness {
  double writing, passes, learning, tuning;
};
// What each layer takes of a step of learning on a GPU, however small its matrices are, and what comes before
// any work there, in seconds.
constexpr double kCudaLayer = 0.009, kCudaStart = 4;
constexpr Slowness kCpu = {10, 3, 2, 2}, kCuda = {20, 2, 4, 3};

// Of the pairs of a matrix and a scheme, those that a plan can come to and are measured.
constexpr double kReachable = 0.22;

// How much longer a weight takes to be rounded where errors are made up for.
constexpr double kFeedback = 3;

// What moments of inputs may take that trials of schemes keep (quantizers/layerwise_trials.h), in floats.
constexpr double kKeptMoments = 1 << 28;

double rate_of(double work, const std::function<void()>& compute) {
  compute();
  const Stopwatch watch;
  double repeats = 0;
  do {
    compute();
    ++repeats;
  } while (watch.seconds() < kMeasuredSeconds);
  return work * repeats / watch.seconds();
}

int64_t params_of_matrix(const Module& module) {
  return module.rows_of_matrix() * module.cols;
}

// Of a module, or one expert's of a stack.
const Module& largest_matrix(const Model& model) {
  return *std::max_element(model.modules.begin(), model.modules.end(), [](const Module& a, const Module& b) {
    return params_of_matrix(a) < params_of_matrix(b);
  });
}

double params_of(const Model& model, const std::string& tensor) {
  const TensorInfo& info = model.checkpoint->info(tensor);
  return static_cast<double>(info.rows() * info.cols());
}

// Parameters of a model.
struct Sizes {
  double layers = 0;
  double embedding = 0, head = 0;                // with those for every layer; head: also of a tied embedding
  double read = 0;                               // of layers, by a token: of experts those that it uses
  double count = 0;                              // of layers
  double matrices = 0, largest = 0, inputs = 0;  // inputs: squared columns of all matrices, as second moments
  bool tied = false;

  explicit Sizes(const Model& model)
      : embedding(params_of(model, model.embedding) +
                  (model.layer_embedding.empty() ? 0 : params_of(model, model.layer_embedding))),
        head(params_of(model, model.head)),
        count(static_cast<double>(model.config.num_layers)),
        matrices(static_cast<double>(model.modules.size())),
        tied(model.head == model.embedding) {
    for (const Module& module : model.modules) {
      const auto of_matrix = static_cast<double>(params_of_matrix(module));
      const auto count_of_matrices = static_cast<double>(module.matrices());
      const auto cols = static_cast<double>(module.cols);
      const double used =
          module.experts > 0 ? static_cast<double>(std::max<int64_t>(1, model.config.experts.used)) : 1;
      layers += of_matrix * count_of_matrices;
      read += of_matrix * used;
      largest = std::max(largest, of_matrix);
      inputs += cols * cols * used / 2;  // some matrices share their inputs
    }
  }

  double all() const { return layers + embedding + (tied ? 0 : head); }
  double pass() const { return 2 * (read + head); }  // operations a token
};

double quick_seconds(const Sizes& sizes, const Rates& rates, const WorkAhead& work) {
  return (static_cast<double>(work.schemes) * sizes.layers + sizes.all()) / rates.weights;
}

// Text, gradients, the reachable part of the table on GPTQ's weights, and GPTQ of the plan and of the uniform
// one.
double measured_seconds(const Sizes& sizes, const Rates& rates, const WorkAhead& work, double tokens,
                        const Slowness& slowness) {
  const auto schemes = static_cast<double>(work.schemes), few = static_cast<double>(work.kl_tokens);
  const double writing = work.own_text ? tokens * sizes.pass() * slowness.writing : 0;
  const double gradients = 3 * few * sizes.pass();
  // Half of the layers lie behind a matrix on average.
  const double costs = kReachable * schemes * sizes.matrices * few * (sizes.read + 2 * sizes.head);
  const double gptq = 3 * tokens * 2 * (sizes.read + sizes.inputs);
  const double checking = 2 * tokens / 4 * sizes.pass();
  return (writing + slowness.passes * (gradients + costs + gptq + checking)) / rates.products +
         (2 + kFeedback * kReachable) * schemes * sizes.layers / rates.weights;
}

double learned_seconds(const Sizes& sizes, const Rates& rates, const WorkAhead& work, double tokens,
                       const Slowness& slowness) {
  const double rounding = static_cast<double>(work.sign_steps * work.sign_tokens) * 6 * sizes.read;
  const double stream = 2 * tokens * 2 * sizes.read;
  // The teacher once and the student four times: forward, again in the backward pass, and its two products.
  const double tuning = static_cast<double>(work.tune_steps * work.tune_tokens) * 5 * sizes.pass();
  const double products =
      (slowness.learning * rounding + slowness.passes * stream + slowness.tuning * tuning) / rates.products;
  if (!work.device.is_cuda()) return products;
  return std::max(products,
                  kCudaLayer * sizes.count * static_cast<double>(work.sign_steps + work.tune_steps));
}

// The unquantized model by itself, and beside the uniform plan and what was written.
double evaluation_seconds(const Sizes& sizes, const Rates& rates, const WorkAhead& work,
                          const Slowness& slowness) {
  constexpr double kPasses = 1 + 2 + 2;
  return slowness.passes * kPasses * static_cast<double>(work.evaluated) * sizes.pass() / rates.products;
}

// The program, a matrix on its way, and from standard on the model as it is and as the plan leaves it, with
// the logits of a window in every thread.
double memory_of(const Effort& effort, const Model& model, const Sizes& sizes, double tokens,
                 const WorkAhead& work) {
  const double program = work.device.is_cuda() ? 3e9 : 1.8e8;
  if (effort.tokens == 0) return program + 12 * sizes.largest;
  constexpr double kWindow = 512;
  const double threads = work.device.is_cuda() ? 16 : thread_count();
  const double states = 2 * tokens * static_cast<double>(model.config.hidden_size);
  const double logits = 4 * threads * kWindow * static_cast<double>(model.config.vocab_size);
  return program + kFloatBytes * (2 * sizes.all() + states + logits + std::min(kKeptMoments, sizes.inputs));
}

std::string rough(double seconds) {
  const double minutes = seconds / 60, hours = minutes / 60;
  if (seconds < 10) return fmt::format("{:.1g} s", std::max(seconds, 0.1));
  if (minutes < 1.5) return fmt::format("{:.0f} s", seconds);
  return hours < 1.5 ? fmt::format("{:.0f} min", minutes) : fmt::format("{:.1f} h", hours);
}

}  // namespace

Rates measure_rates(const Model& model, const Scheme& scheme, at::Device device) {
  const at::NoGradGuard no_grad;
  use_threads();
  const Module& matrix = largest_matrix(model);
  Rates rates;
  {
    constexpr int64_t kWindows = 4, kWindow = 512;
    const auto options =
        at::TensorOptions().device(device).dtype(device.is_cuda() ? at::kBFloat16 : at::kFloat);
    const at::Tensor weight = at::ones({matrix.rows_of_matrix(), matrix.cols}, options),
                     input = at::ones({kWindows, kWindow, matrix.cols}, options);
    rates.products = rate_of(2.0 * kWindows * kWindow * static_cast<double>(params_of_matrix(matrix)), [&] {
      const at::Tensor output = strata::linear(input, weight, at::Tensor());
      if (device.is_cuda()) output.flatten()[0].item<float>();  // waits for it
    });
  }
  constexpr int64_t kMostWeights = int64_t{1} << 19;
  const int64_t rows = std::clamp<int64_t>(kMostWeights / matrix.cols, 1, matrix.rows_of_matrix());
  const at::Tensor weights =
      load_rows(*model.checkpoint, model.checkpoint->info(matrix.tensor), 0, rows, at::kCPU, at::kFloat);
  QuantizerOptions nearest;
  nearest.name = "rtn";
  rates.weights = rate_of(static_cast<double>(weights.numel()), [&] {
    quantization_error({weights.data_ptr<float>(), rows, matrix.cols}, scheme, nearest);
  });
  return rates;
}

Estimate estimate(const Effort& effort, const Model& model, const Rates& rates, const WorkAhead& work) {
  const Sizes sizes(model);
  const Slowness& slowness = work.device.is_cuda() ? kCuda : kCpu;
  const auto tokens = static_cast<double>(work.tokens > 0 ? work.tokens : effort.tokens);
  Estimate result;
  result.effort = effort.name;
  result.seconds = quick_seconds(sizes, rates, work);
  if (work.device.is_cuda() && effort.tokens > 0) result.seconds += kCudaStart;
  if (effort.tokens > 0) result.seconds += measured_seconds(sizes, rates, work, tokens, slowness);
  if (effort.tunes) result.seconds += learned_seconds(sizes, rates, work, tokens, slowness);
  result.seconds += evaluation_seconds(sizes, rates, work, slowness);
  result.bytes = static_cast<uint64_t>(memory_of(effort, model, sizes, tokens, work));
  return result;
}

std::string rough_cost(const Estimate& estimate) {
  return fmt::format("{} and {:.1f} GiB", rough(estimate.seconds),
                     static_cast<double>(estimate.bytes) / (1 << 30));
}

std::string describe(const std::vector<Estimate>& estimates, const std::string& chosen) {
  std::string first, others;
  for (const Estimate& one : estimates) {
    const std::string cost = rough_cost(one);
    if (one.effort == chosen)
      first = fmt::format("{} takes about {}", chosen, cost);
    else
      others += fmt::format("{}{} {}", others.empty() ? "" : ", ", one.effort, cost);
  }
  return fmt::format("{} ({})", first, others);
}

}  // namespace strata
