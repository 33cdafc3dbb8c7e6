#include "strata/vision/equalize.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>

#include "strata/vision/node_arguments.h"

namespace strata::vision {
namespace {

constexpr int kRounds = 40;
constexpr float kSettled = 1e-4f;  // largest change of a factor that still counts as none

// Weights of a layer with the meaning of their dimensions: [outputs, inputs of a group x rest].
struct Weights {
  OnnxTensor* tensor = nullptr;
  std::vector<float> values;
  int64_t outputs = 0, inputs = 0, rest = 1;
  bool depthwise = false, outputs_first = true;

  int64_t channels_in() const { return depthwise ? outputs : inputs; }

  template <class Body>
  void each(const Body& body) {  // body(value, output channel, input channel)
    for (int64_t a = 0, i = 0; a < (outputs_first ? outputs : inputs); ++a)
      for (int64_t b = 0; b < (outputs_first ? inputs : outputs); ++b)
        for (int64_t r = 0; r < rest; ++r, ++i) {
          const int64_t out = outputs_first ? a : b, in = outputs_first ? b : a;
          body(values[static_cast<size_t>(i)], out, depthwise ? out : in);
        }
  }
};

struct Pair {
  size_t first, second;  // nodes
  int between = -1;      // the activation's node
  float bound = std::numeric_limits<float>::infinity();
  std::vector<float> scales;  // product of all s so far
  bool images = true;         // the channels are the second of four dimensions
};

class Equalizer {
 public:
  explicit Equalizer(OnnxModel& model) : model_(model), unique_(model) {}

  int run() {
    for (size_t n = 0; n < model_.nodes.size(); ++n) find_pair(n);
    for (int round = 0; round < kRounds; ++round) {
      float change = 0;
      for (Pair& pair : pairs_) change = std::max(change, balance(pair));
      if (change < kSettled) break;
    }
    for (auto& [node, weights] : weights_)
      *weights.tensor = onnx_tensor(weights.tensor->name, weights.tensor->shape, weights.values);
    // From the back, so that the places of earlier nodes stay.
    std::sort(pairs_.begin(), pairs_.end(),
              [](const Pair& a, const Pair& b) { return a.between > b.between; });
    for (const Pair& pair : pairs_) replace_clip(pair);
    return static_cast<int>(pairs_.size());
  }

 private:
  int only_consumer(const std::string& value) const {
    int consumer = -1;
    for (size_t n = 0; n < model_.nodes.size(); ++n)
      for (const std::string& input : model_.nodes[n].inputs) {
        if (input != value) continue;
        if (consumer >= 0) return -1;
        consumer = static_cast<int>(n);
      }
    for (const OnnxValueInfo& output : model_.outputs)
      if (output.name == value) return -1;
    return consumer;
  }

  bool load(size_t node) {
    if (weights_.count(node) > 0) return true;
    const OnnxNode& onnx = model_.nodes[node];
    const NodeArguments arguments(model_, onnx);
    const bool conv = onnx.op_type == "Conv";
    if (!conv && onnx.op_type != "Gemm") return false;
    OnnxTensor* tensor = model_.constant(onnx.inputs[1]);
    if (tensor == nullptr || tensor->shape.size() != (conv ? 4u : 2u)) return false;
    if (arguments.has_input(2) && model_.constant(onnx.inputs[2]) == nullptr) return false;
    if (!conv && (arguments.integer("transA", 0) != 0 || arguments.real("alpha", 1) != 1)) return false;
    Weights weights;
    weights.tensor = tensor;
    weights.values = tensor->floats();
    weights.outputs_first = conv || arguments.integer("transB", 0) != 0;
    weights.outputs = tensor->shape[weights.outputs_first ? 0 : 1];
    weights.inputs = tensor->shape[weights.outputs_first ? 1 : 0];
    if (conv) weights.rest = tensor->shape[2] * tensor->shape[3];
    const int64_t groups = arguments.integer("group", 1);
    weights.depthwise = conv && groups > 1 && groups == weights.outputs && weights.inputs == 1;
    if (groups > 1 && !weights.depthwise) return false;
    weights_.emplace(node, std::move(weights));
    return true;
  }

  void find_pair(size_t first) {
    const std::string& op = model_.nodes[first].op_type;
    if ((op != "Conv" && op != "Gemm") || model_.nodes[first].outputs.empty()) return;
    Pair pair{first, 0, -1, std::numeric_limits<float>::infinity(), {}, true};
    int next = only_consumer(model_.nodes[first].outputs.front());
    if (next < 0) return;
    const OnnxNode& node = model_.nodes[static_cast<size_t>(next)];
    if (node.op_type == "Relu" || node.op_type == "Clip") {
      if (node.op_type == "Clip" && !read_clip(node, pair)) return;
      pair.between = next;
      next = only_consumer(node.outputs.front());
      if (next < 0) return;
    }
    pair.second = static_cast<size_t>(next);
    const OnnxNode& second = model_.nodes[pair.second];
    const std::string& flow =
        model_.nodes[pair.between >= 0 ? static_cast<size_t>(pair.between) : first].outputs.front();
    pair.images = second.op_type == "Conv";
    if ((second.op_type != "Conv" && second.op_type != "Gemm") || second.inputs.front() != flow) return;
    if (!load(first) || !load(pair.second)) return;
    if (weights_.at(first).outputs != weights_.at(pair.second).channels_in()) return;
    pair.scales.assign(static_cast<size_t>(weights_.at(first).outputs), 1.0f);
    pairs_.push_back(std::move(pair));
  }

  bool read_clip(const OnnxNode& node, Pair& pair) const {
    const NodeArguments arguments(model_, node);
    const float low = arguments.has_input(1) ? arguments.scalar(1, "min") : arguments.real("min", -1);
    pair.bound = arguments.has_input(2) ? arguments.scalar(2, "max")
                                        : arguments.real("max", std::numeric_limits<float>::infinity());
    return low == 0;
  }

  // Returns the largest |s - 1|.
  float balance(Pair& pair) {
    Weights &first = weights_.at(pair.first), &second = weights_.at(pair.second);
    std::vector<float> r1(pair.scales.size(), 0.0f), r2 = r1, s(pair.scales.size(), 1.0f);
    const auto channel = [](int64_t c) { return static_cast<size_t>(c); };
    first.each(
        [&](float w, int64_t out, int64_t) { r1[channel(out)] = std::max(r1[channel(out)], std::abs(w)); });
    second.each(
        [&](float w, int64_t, int64_t in) { r2[channel(in)] = std::max(r2[channel(in)], std::abs(w)); });
    float change = 0;
    for (size_t c = 0; c < s.size(); ++c) {
      if (!(r1[c] > 1e-12f) || !(r2[c] > 1e-12f)) continue;
      s[c] = std::sqrt(r1[c] / r2[c]);
      pair.scales[c] *= s[c];
      change = std::max(change, std::abs(s[c] - 1));
    }
    first.each([&](float& w, int64_t out, int64_t) { w /= s[channel(out)]; });
    second.each([&](float& w, int64_t, int64_t in) { w *= s[channel(in)]; });
    const OnnxNode& node = model_.nodes[pair.first];
    if (node.inputs.size() > 2 && !node.inputs[2].empty()) {
      OnnxTensor& bias = *model_.constant(node.inputs[2]);
      std::vector<float> values = bias.floats();
      for (size_t c = 0; c < values.size() && c < s.size(); ++c) values[c] /= s[c];
      bias = onnx_tensor(bias.name, bias.shape, values);
    }
    return change;
  }

  void replace_clip(const Pair& pair) {
    if (pair.between < 0 || !std::isfinite(pair.bound)) return;
    const OnnxNode clip = model_.nodes[static_cast<size_t>(pair.between)];
    const std::string& output = clip.outputs.front();
    const std::string positive = unique_(output + "_relu"), bound = unique_(output + "_bound");
    OnnxNode relu{"Relu", unique_(clip.name + "_relu"), "", {clip.inputs.front()}, {positive}, {}};
    OnnxNode least{"Min", unique_(clip.name + "_min"), "", {positive, bound}, {output}, {}};
    std::vector<float> bounds;
    for (float scale : pair.scales) bounds.push_back(pair.bound / scale);
    std::vector<int64_t> shape = {static_cast<int64_t>(bounds.size())};
    if (pair.images) shape.insert(shape.end(), {1, 1});
    model_.constants.push_back(onnx_tensor(bound, shape, bounds));
    const auto place = model_.nodes.begin() + pair.between;
    *place = std::move(least);
    model_.nodes.insert(place, std::move(relu));
  }

  OnnxModel& model_;
  UniqueNames unique_;
  std::map<size_t, Weights> weights_;  // by node
  std::vector<Pair> pairs_;
};

}  // namespace

int equalize(OnnxModel& model) {
  return Equalizer(model).run();
}

}  // namespace strata::vision
