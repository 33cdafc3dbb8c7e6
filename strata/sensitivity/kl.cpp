#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <cmath>
#include <optional>
#include <set>

#include "strata/calibration/reference_distribution.h"
#include "strata/core/progress.h"
#include "strata/core/ranks.h"
#include "strata/core/size_option.h"
#include "strata/core/threads.h"
#include "strata/device/free_memory.h"
#include "strata/model/boundary_modules.h"
#include "strata/sensitivity/calibrated.h"
#include "strata/sensitivity/cost_sheet.h"
#include "strata/sensitivity/kl.h"
#include "strata/sensitivity/methods.h"

namespace strata {
namespace {

// Hidden states that run through a layer together; on a CPU at least two sequences for every thread.
constexpr int64_t kCpuStates = int64_t{1} << 20, kCudaStates = int64_t{1} << 26;
// Tokens whose states wait between layers where these are read again for every pass: so many that reading a
// layer takes little beside running it.
constexpr int64_t kCpuTokens = int64_t{1} << 16, kCudaTokens = int64_t{1} << 24;
// What the kept probabilities may take, and of the memory that there is at most an eighth.
constexpr int64_t kCpuReference = int64_t{1} << 30, kCudaReference = int64_t{8} << 30;

// A matrix in a scheme, to be measured.
struct Trial {
  const Module* module;
  size_t scheme;
};

}  // namespace

// The layers are walked once for as many trials as there is memory for (a pass): the states of all trials so
// far run through a layer as one batch, then come those of its own matrices, each of which ran through this
// layer with the matrix replaced. So a layer's weights are read once a pass, and what a trial costs is known
// when its states leave the last layer. A pass begins at the layer of its first trial.
class KlMeasurement::State {
 public:
  State(const Model& model, const SensitivityOptions& options, const Evidence& evidence)
      : model_(model),
        options_(options),
        evidence_(evidence),
        sheet_(model, "kl", options, evidence, measured_with(options)) {}

  CostSheet& sheet() { return sheet_; }

  // Ranks measure the matrices that they are dealt, and hand one another what they found.
  void measure() {
    if (rank_count() > 1) sheet_.take(broadcast(sheet_.known()));
    if (broadcast(sheet_.is_complete() ? "" : "missing").empty()) return;
    own_ = own_modules();
    if (!missing_trials().empty() || !missing_alone().empty()) measure_own();
    if (rank_count() == 1) return;
    for (const std::string& known : gather(sheet_.known())) sheet_.take(known);
  }

  void unload() {
    reference_.reset();
    decoder_.reset();
    embedded_ = last_ = at::Tensor();
  }

 private:
  // The missing costs of a matrix, as the layers that their states run through; whole layers where trials
  // measure what enters a layer.
  std::set<std::string> own_modules() const {
    std::map<std::string, double> costs;
    const auto group_of = [&](const Module& module) {
      return options_.trials && module.layer != kNoLayer ? std::to_string(module.layer) : module.tensor;
    };
    for (const Module& module : sheet_.modules())
      costs[group_of(module)] +=
          static_cast<double>(sheet_.missing(module).size()) * (layers() - entry(module) + 1);
    costs = Json::parse(broadcast(Json(costs).dump())).get<std::map<std::string, double>>();
    std::vector<double> in_order;
    for (const auto& [group, cost] : costs) in_order.push_back(cost);
    const std::vector<int> ranks = deal(in_order);
    std::map<std::string, int> rank_of;
    for (const auto& [group, cost] : costs) rank_of.emplace(group, ranks[rank_of.size()]);
    std::set<std::string> own;
    for (const Module& module : sheet_.modules())
      if (rank_of.at(group_of(module)) == rank()) own.insert(module.tensor);
    return own;
  }

  void measure_own() {
    const at::NoGradGuard no_grad;
    if (!decoder_) load();
    const std::vector<Trial> trials = missing_trials();
    int64_t runs = 0;
    for (const Trial& trial : trials) runs += layers() - entry(*trial.module);
    Progress progress("measuring KL divergences", runs, "layer runs");
    hidden_ = embedded_;
    layer_ = 0;
    const auto most = static_cast<size_t>(trials_of_pass());
    for (size_t first = 0; first < trials.size(); first += most)
      run_pass(trials, first, std::min(trials.size(), first + most), progress);
    if (!reference_) run_pass(trials, 0, 0, progress);
    hidden_ = at::Tensor();
    for (const Module* boundary : missing_alone()) measure_alone(*boundary);
  }

  // What costs depend on; not which of them are measured.
  static Json measured_with(const SensitivityOptions& options) {
    Json values = changed_values(kl_options, options.methods);
    values.erase("kl-table");
    values.erase("kl-weights");  // the quantizer's name tells
    values.erase("memory");
    return values;
  }

  int layers() const { return model_.config.num_layers; }

  // All weights stay loaded where they take at most half of the memory.
  void load() {
    memory_ = static_cast<int64_t>(
        options_.methods.get<KlOptions>().memory.value_or(free_memory(options_.device) / 4 * 3));
    DecoderOptions decoder;
    decoder.device = options_.device;
    decoder.dtype = options_.methods.get<KlOptions>().dtype;
    int64_t all = 0;
    std::vector<int64_t> of_layers(static_cast<size_t>(layers()));
    for (const Module& module : model_.modules) {
      const int64_t bytes = module.params() * static_cast<int64_t>(at::elementSize(decoder.dtype));
      all += bytes;
      of_layers[static_cast<size_t>(module.layer)] += bytes;
    }
    decoder.resident = all <= memory_ / 2;
    weights_ = decoder.resident ? all : *std::max_element(of_layers.begin(), of_layers.end());
    decoder_.emplace(model_, decoder);
    embedded_ = decoder_->embed(evidence_.calibration->ids);
  }

  // An embedding changes what enters the first layer. One that is the head, too, is quantized once for both
  // and goes through all layers alone, in each scheme.
  bool walks(const Module& module) const {
    return module.layer != kNoLayer || (module.tensor == model_.embedding && model_.embedding != model_.head);
  }

  // The first layer that states of the module's trials run through: they leave it when the trial is added.
  static int entry(const Module& module) { return module.layer == kNoLayer ? 0 : module.layer; }

  // In the order of the layers, the embedding first.
  std::vector<Trial> missing_trials() const {
    std::vector<Trial> trials;
    const auto add = [&](const Module& module) {
      if (own_.count(module.tensor) == 0) return;
      for (const size_t scheme : sheet_.missing(module)) trials.push_back({&module, scheme});
    };
    for (const Module& module : sheet_.modules())
      if (module.layer == kNoLayer && walks(module)) add(module);
    for (const Module& module : model_.modules) add(module);
    return trials;
  }

  std::vector<const Module*> missing_alone() const {
    std::vector<const Module*> alone;
    for (const Module& boundary : options_.boundaries)
      if (!walks(boundary) && own_.count(boundary.tensor) > 0 && !sheet_.missing(boundary).empty())
        alone.push_back(&boundary);
    return alone;
  }

  int64_t states_at_a_time() const {
    if (embedded_.is_cuda()) return std::max<int64_t>(1, kCudaStates / embedded_.numel());
    const int64_t for_threads = 2 * thread_count() / embedded_.size(0);
    return std::max<int64_t>({1, kCpuStates / embedded_.numel(), for_threads});
  }

  // Passes cost nothing where the weights stay loaded, and are then short.
  int64_t trials_of_pass() const {
    const int64_t left = std::max<int64_t>(0, memory_ - weights_);
    const int64_t fitting = left / (embedded_.numel() * embedded_.element_size());
    const int64_t tokens = embedded_.is_cuda() ? kCudaTokens : kCpuTokens;
    const int64_t wanted =
        decoder_->options().resident ? states_at_a_time() : tokens / evidence_.calibration->tokens();
    return std::max<int64_t>(1, std::min(fitting, wanted));
  }

  // Measures trials [first, end), and leaves hidden_ before the layer of the trial behind them.
  void run_pass(const std::vector<Trial>& trials, size_t first, size_t end, Progress& progress) {
    const int next_layer = end < trials.size() ? entry(*trials[end].module) : layers();
    const int64_t blocks = embedded_.size(0);
    at::Tensor states =
        at::empty({static_cast<int64_t>(end - first) * blocks, embedded_.size(1), embedded_.size(2)},
                  embedded_.options());
    int64_t count = 0;  // sequences of trials on their way
    const auto add = [&](const at::Tensor& output) {
      states.narrow(0, count, blocks).copy_(output);
      count += blocks;
    };
    at::Tensor unchanged = hidden_;
    size_t next = first;
    const auto quantize = [&](int layer, const CostSheet::SeeQuantized& see) {
      while (next < end && trials[next].module->layer == layer) {
        const Module& module = *trials[next].module;
        std::vector<size_t> schemes;
        for (; next < end && trials[next].module == &module; ++next) schemes.push_back(trials[next].scheme);
        sheet_.for_each(module, schemes,
                        [&](size_t scheme, const at::Tensor& exact, const at::Tensor& quantized) {
                          decoder_->replace(module.tensor, quantized);
                          see(scheme, exact, quantized);
                          decoder_->restore(module.tensor);
                        });
      }
    };
    quantize(kNoLayer, [&](size_t, const at::Tensor&, const at::Tensor&) {
      add(decoder_->embed(evidence_.calibration->ids));
    });
    for (int layer = layer_; layer < layers(); ++layer) {
      if (layer == next_layer) {
        hidden_ = unchanged;
        layer_ = layer;
      }
      decoder_->hold_layer(layer);
      for (int64_t done = 0; done < count;) {
        at::Tensor some = states.narrow(0, done, std::min(count - done, states_at_a_time() * blocks));
        some.copy_(decoder_->layer(layer, some));
        done += some.size(0);
        progress.advance(some.size(0) / blocks);
      }
      quantize(layer, [&](size_t, const at::Tensor&, const at::Tensor&) {
        add(decoder_->layer(layer, unchanged));
        progress.advance();
      });
      if (!reference_ || next < end || layer < next_layer) unchanged = decoder_->layer(layer, unchanged);
      decoder_->drop_layer(layer);
    }
    hold_head();
    if (!reference_) refer_to(unchanged);
    for (size_t i = first; i < end; ++i)
      set(*trials[i].module, trials[i].scheme,
          reference_->divergence(states.narrow(0, static_cast<int64_t>(i - first) * blocks, blocks)));
    decoder_->restore(model_.head);
  }

  // In memory while logits are made piece by piece.
  void hold_head() { decoder_->replace(model_.head, decoder_->weight(model_.head)); }

  void refer_to(const at::Tensor& last) {
    last_ = last;
    reference_ = std::make_unique<ReferenceDistribution>(
        *decoder_, last_, std::min(memory_ / 8, last_.is_cuda() ? kCudaReference : kCpuReference));
  }

  // A head, or what is head and embedding.
  void measure_alone(const Module& boundary) {
    hold_head();
    sheet_.for_each_missing(boundary, [&](size_t scheme, const at::Tensor&, const at::Tensor& quantized) {
      at::Tensor states = last_;
      if (boundary.tensor == model_.embedding) {
        decoder_->replace(boundary.tensor, quantized);
        states = decoder_->embed(evidence_.calibration->ids);
        for (int layer = 0; layer < layers(); ++layer) states = decoder_->layer(layer, states);
        decoder_->restore(boundary.tensor);
      }
      const at::Tensor head = boundary.tensor == model_.head ? quantized : at::Tensor();
      set(boundary, scheme, reference_->divergence(states, head));
    });
    decoder_->restore(model_.head);
  }

  void set(const Module& module, size_t scheme, double divergence) {
    sheet_.set(module, scheme, std::max(0.0, divergence));
  }

  const Model& model_;
  const SensitivityOptions& options_;
  const Evidence evidence_;
  CostSheet sheet_;
  std::set<std::string> own_;  // tensors that this rank measures
  std::optional<Decoder> decoder_;
  int64_t memory_ = 0, weights_ = 0;  // bytes that may be taken, and those that weights take of them
  at::Tensor embedded_, last_;        // before the first layer and behind the last, [B, T, d]
  at::Tensor hidden_;                 // before the layer where the next pass begins
  int layer_ = 0;
  std::unique_ptr<ReferenceDistribution> reference_;
};

KlMeasurement::KlMeasurement(const Model& model, const SensitivityOptions& options, const Evidence& evidence)
    : state_(std::make_unique<State>(model, options, evidence)) {}

KlMeasurement::~KlMeasurement() = default;

void KlMeasurement::measure(const Pairs& pairs) {
  state_->sheet().want([&](const Module& module, size_t scheme) {
    const auto found = pairs.find(module.tensor);
    return found != pairs.end() && found->second.count(scheme) > 0;
  });
  state_->measure();
}

void KlMeasurement::measure_all() {
  state_->sheet().want(nullptr);
  state_->measure();
}

void KlMeasurement::unload() {
  state_->unload();
}

const std::vector<Module>& KlMeasurement::modules() const {
  return state_->sheet().modules();
}

double KlMeasurement::cost(const Module& module, size_t scheme) const {
  return state_->sheet().cost(module, scheme);
}

Scores KlMeasurement::scores() const {
  return state_->sheet().scores();
}

Evidence evidence_of_kl(const SensitivityOptions& options, const Evidence& evidence) {
  Evidence few = evidence;
  few.calibration = first_blocks(*evidence.calibration, options.methods.get<KlOptions>().tokens, "kl");
  return few;
}

Options kl_options(OptionValues& values) {
  KlOptions& kl = values.get<KlOptions>();
  return {number("kl-tokens", kl.tokens, 1, int64_t{1} << 40, "calibration tokens that the method kl uses"),
          choice("kl-precision", kl.dtype, {{"float32", at::kFloat}, {"bfloat16", at::kBFloat16}},
                 "what kl computes in; bfloat16 is faster on a GPU"),
          choice("kl-table", kl.table,
                 {{"reachable", KlOptions::Table::Reachable}, {"full", KlOptions::Table::Full}},
                 "what kl measures where a budget is known: reachable, what its plan may come to, the rest "
                 "being predicted by gradients; full, every matrix in every scheme"),
          choice("kl-weights", kl.weights,
                 {{"quantizer", KlOptions::Weights::Quantizer}, {"nearest", KlOptions::Weights::Nearest}},
                 "whose weights in the schemes kl measures: quantizer, those that the plan's quantizer would "
                 "leave; nearest, those rounded to nearest"),
          size("memory", kl.memory,
               "what weights and hidden states that kl keeps from layer to layer may take on the device; "
               "default: three quarters of what is free there")};
}

// Measured for every matrix and scheme.
Scores score_kl(const Model& model, const SensitivityOptions& options, const Evidence& evidence) {
  const Evidence few = evidence_of_kl(options, evidence);
  KlMeasurement measurement(model, options, few);
  measurement.measure_all();
  Scores scores = measurement.scores();
  describe_calibration(scores, few);
  return scores;
}

}  // namespace strata
