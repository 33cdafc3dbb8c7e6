#include "strata/vision/onnx_export.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <tuple>
#include <utility>

#include "strata/core/error.h"
#include "strata/core/text.h"
#include "strata/vision/batches.h"
#include "strata/vision/raise_opset.h"

namespace strata::vision {
namespace {

constexpr int64_t kPerChannelOpset = 13;  // DequantizeLinear with an axis
constexpr int64_t kInt4Opset = 21;
constexpr int64_t kPerChannelIr = 7, kInt4Ir = 10;
constexpr int64_t kChecked = 8;     // images that a written model is checked on
constexpr double kRounding = 1e-3;  // relative root mean square error that rounding explains

class Exporter {
 public:
  Exporter(QuantizedLayers& layers, const std::vector<Widths>& plan, const OnnxExportOptions& options)
      : layers_(layers), plan_(plan), options_(options), model_(layers.graph().model()), unique_(model_) {}

  OnnxModel run() {
    const Graph& graph = layers_.graph();
    std::vector<OnnxNode> nodes;
    for (size_t n = 0; n < model_.nodes.size(); ++n) {
      OnnxNode node = model_.nodes[n];
      if (graph.nodes()[n].layer >= 0) {
        const auto layer = static_cast<size_t>(graph.nodes()[n].layer);
        quantize_input(layer, node, nodes);
        quantize_weight(layer, node, nodes);
        replace_bias(layer, node);
      }
      nodes.push_back(std::move(node));
    }
    model_.nodes = std::move(nodes);
    model_.producer = "strata";
    return std::move(model_);
  }

 private:
  bool is_int4(int bits) const { return options_.int4 && bits <= 4; }

  std::string add(OnnxTensor constant) {
    constant.name = unique_(constant.name);
    model_.constants.push_back(std::move(constant));
    return model_.constants.back().name;
  }

  // A node between `inputs` and a new value, whose name it returns.
  std::string add(std::vector<OnnxNode>& nodes, const char* op, const std::string& stem,
                  std::vector<std::string> inputs, const char* result) {
    const std::string output = unique_(stem + result);
    nodes.push_back({op, unique_(output + "_node"), "", std::move(inputs), {output}, {}});
    return output;
  }

  void quantize_input(size_t layer, OnnxNode& node, std::vector<OnnxNode>& nodes) {
    const ActivationCode code = layers_.activation(layer, plan_[layer].activation);
    std::string& source = node.inputs[layers_.graph().layers()[layer].data_input];
    std::string& quantized = inputs_[{source, code.bits, code.scale, code.zero_point}];
    if (quantized.empty()) {  // several layers may share it
      const std::string stem = fmt::format("{}_u{}_{}", source, code.bits, layer);
      std::string flow = source;
      if (code.bits < 8)
        flow = add(nodes, "Clip", stem,
                   {flow, add(onnx_tensor(stem + "_low", {}, {code.lowest()})),
                    add(onnx_tensor(stem + "_high", {}, {code.highest()}))},
                   "_clipped");
      const std::string scale = add(onnx_tensor(stem + "_scale", {}, {code.scale}));
      const std::string zero = add(onnx_integers(stem + "_zero", OnnxType::UInt8, {}, {code.zero_point}));
      const std::string codes = add(nodes, "QuantizeLinear", stem, {flow, scale, zero}, "_codes");
      quantized = add(nodes, "DequantizeLinear", stem, {codes, scale, zero}, "_dequantized");
    }
    source = quantized;
  }

  void quantize_weight(size_t index, OnnxNode& node, std::vector<OnnxNode>& nodes) {
    const Layer& layer = layers_.graph().layers()[index];
    const WeightCodes& weight = layers_.weight(index, plan_[index].weight);
    const std::string name = node.inputs[layer.weight_input];
    const at::Tensor codes = weight.codes.contiguous();
    const auto* data = codes.data_ptr<int8_t>();
    // Eight-bit codes as uint8: where the processor has no VNNI, onnxruntime's products of uint8 with int8
    // saturate, which codes of up to 7 bits are too small for.
    const int64_t zero = weight.bits == 8 ? 128 : 0;
    const OnnxType type = zero != 0              ? OnnxType::UInt8
                          : is_int4(weight.bits) ? OnnxType::Int4
                                                 : OnnxType::Int8;
    const auto outputs = static_cast<int64_t>(weight.scales.size());
    std::vector<int64_t> stored(data, data + codes.numel());
    for (int64_t& code : stored) code += zero;
    const std::string of_codes = unique_(name + "_codes");
    *model_.constant(name) = onnx_integers(of_codes, type, codes.sizes().vec(), stored);
    const std::vector<int64_t> zeros(weight.scales.size(), zero);
    nodes.push_back({"DequantizeLinear",
                     unique_(name + "_dequantize"),
                     "",
                     {of_codes, add(onnx_tensor(name + "_scale", {outputs}, weight.scales)),
                      add(onnx_integers(name + "_zero", type, {outputs}, zeros))},
                     {name},
                     {integer_attribute("axis", layer.output_axis)}});
  }

  void replace_bias(size_t layer, OnnxNode& node) {
    const at::Tensor bias = layers_.bias(layer, plan_[layer].weight);
    if (!bias.defined()) return;
    const at::Tensor values = bias.contiguous();
    const float* data = values.data_ptr<float>();
    const std::string name =
        add(onnx_tensor(node.inputs[1] + "_corrected_bias", {values.numel()}, {data, data + values.numel()}));
    node.inputs.resize(3);
    const std::string before = std::exchange(node.inputs[2], name);
    auto& constants = model_.constants;  // biases are not shared (simplify.h)
    constants.erase(std::remove_if(constants.begin(), constants.end(),
                                   [&](const OnnxTensor& tensor) { return tensor.name == before; }),
                    constants.end());
  }

  QuantizedLayers& layers_;
  const std::vector<Widths>& plan_;
  const OnnxExportOptions& options_;
  OnnxModel model_;
  UniqueNames unique_;
  std::map<std::tuple<std::string, int, float, int>, std::string> inputs_;
};

}  // namespace

Options declare(OnnxExportOptions& options) {
  return {flag("int8-only", options.int4, "store weights of 2 to 4 bits as INT8, for runtimes without INT4",
               false)};
}

OnnxModel quantized_model(QuantizedLayers& layers, const std::vector<Widths>& plan,
                          const OnnxExportOptions& options) {
  const bool any_int4 =
      options.int4 && std::any_of(plan.begin(), plan.end(), [](Widths widths) { return widths.weight <= 4; });
  OnnxModel model = Exporter(layers, plan, options).run();
  raise_opset(model, any_int4 ? kInt4Opset : kPerChannelOpset);
  model.ir_version = std::max(model.ir_version, any_int4 ? kInt4Ir : kPerChannelIr);
  return model;
}

void check_quantized(const OnnxModel& written, QuantizedLayers& layers, const std::vector<Widths>& plan,
                     const ImageSet& images) {
  const c10::InferenceMode inference;
  const Graph& graph = layers.graph();
  Graph read(written, graph.device());
  if (!graph.runs_images_together()) read.run_images_alone();
  if (read.outputs().size() != graph.outputs().size())
    fail("{}: the quantized model has {} outputs, the simulated one {}", written.path.string(),
         read.outputs().size(), graph.outputs().size());
  Overrides overrides = layers.overrides(plan);
  // In float32 as the file is computed: what lies between two codes falls to the same side.
  for (LayerOverride& change : overrides) change.whole = {};
  const int64_t count = std::min(images.size(), image_batch(graph)),
                batch = std::min<int64_t>(count, kChecked);
  const Tensors inputs = images.batch(0, batch, graph.device());
  const Tensors simulated = Execution(graph, inputs).finish(overrides),
                found = Execution(read, inputs).finish();
  for (size_t o = 0; o < simulated.size(); ++o) {
    const at::Tensor expected = simulated[o].to(at::kDouble), other = found[o].to(at::kDouble);
    if (expected.sizes() != other.sizes())
      fail(
          "{}: the output '{}' of the quantized model is {}, that of the simulated one {}; the file was not "
          "kept",
          written.path.string(), printable(graph.outputs()[o].info.name),
          fmt::join(other.sizes().vec(), " x "), fmt::join(expected.sizes().vec(), " x "));
    const double error = (expected - other).square().mean().item<double>();
    const double size = expected.square().mean().item<double>();
    if (!(error <= kRounding * kRounding * size))
      fail(
          "{}: the output '{}' of the quantized model differs from the simulated one by {:.2g} of its size, "
          "more "
          "than rounding explains; the file was not kept",
          written.path.string(), printable(graph.outputs()[o].info.name), std::sqrt(error / size));
  }
}

}  // namespace strata::vision
