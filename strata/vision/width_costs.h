#pragma once

#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "strata/core/json.h"
#include "strata/core/options.h"
#include "strata/vision/hessian.h"
#include "strata/vision/probes.h"

namespace strata::vision {

// What narrower weights, or narrower activations, of one layer cost by some method. Entries count from
// kLowestWidth up to kHighestWidth, where the cost is 0.
struct LayerCosts {
  size_t layer = 0;
  std::vector<double> weights, activations;
};

struct WidthCosts {
  std::string method;
  std::vector<LayerCosts> layers;  // those that may be changed
};

// What the information of observers is about: labels (Y), the input (X), or both with equal say.
// Automatic: labels where there are any, the input otherwise.
enum class Evidence { Automatic, Labels, Inputs, Both };

struct WidthScoreOptions {
  Evidence evidence = Evidence::Automatic;
  at::Tensor embedding;  // of the inputs, a row an image; undefined = the network's own view (observers.h)
  bool inverse_width = true;  // InfoQ's factor 1 / bits
  ObserverChoice observers = ObserverChoice::Blocks;
  int64_t directions = 128;
  int neighbours = 3;
  int hessian_samples = 8;
  int64_t hessian_images = 128;
  bool free_ends = false;
  uint64_t seed = 0;
};

Options declare(WidthScoreOptions& options);

// infoq, kl, output, accuracy, hawq, weight-error, random.
const std::vector<std::string>& width_methods();
std::string describe_width_method(std::string_view name);  // one line, for --help

// Scores a network with several methods; what they share, such as the probes of infoq, kl and accuracy, is
// done once.
class WidthScorer {
 public:
  WidthScorer(QuantizedLayers& layers, ImageSet images, WidthScoreOptions options);

  // `seed` is of the method random. Throws UsageError for other names.
  const WidthCosts& score(const std::string& method, uint64_t seed = 0);

  // Probes with what infoq reads when any method asks for it first; without observers otherwise.
  const ProbeResults& probes(bool with_information);

 private:
  WidthCosts compute(const std::string& method, uint64_t seed);
  WidthCosts infoq();
  WidthCosts kl();
  WidthCosts output();
  WidthCosts accuracy();
  void require_labels(const std::string& method) const;
  // A cost for every probe.
  template <class Cost>
  WidthCosts from_probes(const std::string& method, const ProbeResults& results, const Cost& cost) const;
  WidthCosts hawq();
  WidthCosts weight_error();
  WidthCosts random(uint64_t seed) const;
  WidthCosts empty(const std::string& method) const;

  QuantizedLayers& layers_;
  ImageSet images_;
  WidthScoreOptions options_;
  std::map<std::pair<std::string, uint64_t>, WidthCosts> scored_;  // by method and seed
  std::optional<ProbeResults> probes_;
  bool probes_have_information_ = false;
};

Json to_json(const WidthCosts& costs, const Graph& graph);

}  // namespace strata::vision
