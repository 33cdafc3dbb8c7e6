#include "strata/vision/onnx_export.h"

#include <algorithm>
#include <map>
#include <tuple>
#include <utility>

#include "strata/core/error.h"
#include "strata/vision/node_arguments.h"

namespace strata::vision {
namespace {

constexpr int64_t kPerChannelOpset = 13;  // DequantizeLinear with an axis
constexpr int64_t kInt4Opset = 21;
constexpr int64_t kPerChannelIr = 7, kInt4Ir = 10;

OnnxAttribute integer_attribute(const std::string& name, int64_t value) {
  OnnxAttribute attribute;
  attribute.name = name;
  attribute.kind = OnnxAttribute::Kind::Int;
  attribute.integer = value;
  return attribute;
}

void drop_attribute(OnnxNode& node, const std::string& name) {
  auto& attributes = node.attributes;
  attributes.erase(std::remove_if(attributes.begin(), attributes.end(),
                                  [&](const OnnxAttribute& a) { return a.name == name; }),
                   attributes.end());
}

// Raises the operator set: arguments that were attributes in the earlier one become inputs.
void raise_opset(OnnxModel& model, int64_t opset) {
  const int64_t before = model.opset;
  if (before >= opset) return;
  const auto move = [&](OnnxNode& node, const char* name, size_t index, bool is_real) {
    const OnnxAttribute* attribute = node.find(name);
    if (attribute == nullptr) return;
    const std::string constant = node.outputs.front() + "_" + name;
    using Kind = OnnxAttribute::Kind;
    if (is_real)
      model.constants.push_back(onnx_tensor(constant, {}, {attribute->real}));
    else if (attribute->kind == Kind::Ints)
      model.constants.push_back(onnx_integers(constant, OnnxType::Int64,
                                              {static_cast<int64_t>(attribute->integers.size())},
                                              attribute->integers));
    if (node.inputs.size() <= index) node.inputs.resize(index + 1);
    node.inputs[index] = constant;
    drop_attribute(node, name);
  };
  for (OnnxNode& node : model.nodes) {
    const std::string op = node.op_type;
    if (before < 11 && op == "Clip") move(node, "min", 1, true), move(node, "max", 2, true);
    if (before < 11 && op == "Pad") move(node, "pads", 1, false), move(node, "value", 2, true);
    if (before < 13 && (op == "Squeeze" || op == "Unsqueeze")) move(node, "axes", 1, false);
    if (before < 18 && opset >= 18 && op == "ReduceMean") move(node, "axes", 1, false);
    if (before < 13 && op == "Softmax" && node.find("axis") == nullptr)
      node.attributes.push_back(integer_attribute("axis", 1));
    if (before < 9 && op == "BatchNormalization") drop_attribute(node, "spatial");
  }
  model.opset = opset;
}

class Exporter {
 public:
  Exporter(QuantizedLayers& layers, const std::vector<Widths>& plan, const OnnxExportOptions& options)
      : layers_(layers), plan_(plan), options_(options), model_(layers.graph().model()) {}

  OnnxModel run() {
    const bool any_int4 =
        std::any_of(plan_.begin(), plan_.end(), [&](Widths w) { return is_int4(w.weight); });
    raise_opset(model_, any_int4 ? kInt4Opset : kPerChannelOpset);
    model_.ir_version = std::max(model_.ir_version, any_int4 ? kInt4Ir : kPerChannelIr);
    model_.producer = "strata";
    const auto& graph = layers_.graph();
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
    return std::move(model_);
  }

 private:
  bool is_int4(int bits) const { return options_.int4 && bits <= 4; }

  void quantize_input(size_t layer, OnnxNode& node, std::vector<OnnxNode>& nodes) {
    const ActivationCode code = layers_.activation(layer, plan_[layer].activation);
    const std::string source = node.inputs[0];
    std::string& quantized = inputs_[{source, code.bits, code.scale, code.zero_point}];
    if (quantized.empty()) {  // several layers may share it
      const std::string stem = fmt::format("{}_u{}_{}", source, code.bits, layer);
      quantized = stem + "_dequantized";
      std::string flow = source;
      if (code.bits < 8) {
        model_.constants.push_back(onnx_tensor(stem + "_low", {}, {code.lowest()}));
        model_.constants.push_back(onnx_tensor(stem + "_high", {}, {code.highest()}));
        nodes.push_back(
            {"Clip", stem + "_clip", "", {flow, stem + "_low", stem + "_high"}, {stem + "_clipped"}, {}});
        flow = stem + "_clipped";
      }
      model_.constants.push_back(onnx_tensor(stem + "_scale", {}, {code.scale}));
      model_.constants.push_back(onnx_integers(stem + "_zero", OnnxType::UInt8, {}, {code.zero_point}));
      nodes.push_back({"QuantizeLinear",
                       stem + "_quantize",
                       "",
                       {flow, stem + "_scale", stem + "_zero"},
                       {stem + "_codes"},
                       {}});
      nodes.push_back({"DequantizeLinear",
                       stem + "_dequantize",
                       "",
                       {stem + "_codes", stem + "_scale", stem + "_zero"},
                       {quantized},
                       {}});
    }
    node.inputs[0] = quantized;
  }

  void quantize_weight(size_t layer, OnnxNode& node, std::vector<OnnxNode>& nodes) {
    const WeightCodes& weight = layers_.weight(layer, plan_[layer].weight);
    const std::string name = node.inputs[1];
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
    *model_.constant(name) = onnx_integers(name + "_codes", type, codes.sizes().vec(), stored);
    model_.constants.push_back(onnx_tensor(name + "_scale", {outputs}, weight.scales));
    model_.constants.push_back(
        onnx_integers(name + "_zero", type, {outputs}, std::vector<int64_t>(weight.scales.size(), zero)));
    nodes.push_back({"DequantizeLinear",
                     name + "_dequantize",
                     "",
                     {name + "_codes", name + "_scale", name + "_zero"},
                     {name},
                     {integer_attribute("axis", layers_.graph().layers()[layer].output_axis)}});
  }

  void replace_bias(size_t layer, OnnxNode& node) {
    const at::Tensor bias = layers_.bias(layer, plan_[layer].weight);
    if (!bias.defined()) return;
    const at::Tensor values = bias.contiguous();
    const float* data = values.data_ptr<float>();
    const std::string name = node.inputs[1] + "_corrected_bias";
    model_.constants.push_back(onnx_tensor(name, {values.numel()}, {data, data + values.numel()}));
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
  std::map<std::tuple<std::string, int, float, int>, std::string> inputs_;
};

}  // namespace

Options declare(OnnxExportOptions& options) {
  return {flag("int8-only", options.int4, "store weights of 2 to 4 bits as INT8, for runtimes without INT4",
               false)};
}

OnnxModel quantized_model(QuantizedLayers& layers, const std::vector<Widths>& plan,
                          const OnnxExportOptions& options) {
  return Exporter(layers, plan, options).run();
}

}  // namespace strata::vision
