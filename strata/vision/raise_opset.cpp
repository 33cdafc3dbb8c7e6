#include "strata/vision/raise_opset.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <unordered_set>

#include "strata/vision/operators.h"

namespace strata::vision {
namespace {

// Operators that are carried through (carried_nodes.h) and mean the same in every later operator set up to
// 21, with the first set that this holds from.
const std::map<std::string, int64_t>& unchanged_since() {
  static const std::map<std::string, int64_t> table = {
      {"Compress", 9},           {"CumSum", 11},     {"GatherElements", 11},
      {"GatherND", 11},          {"GridSample", 20}, {"NonZero", 9},
      {"NonMaxSuppression", 10}, {"OneHot", 9},      {"RoiAlign", 16},
      {"ScatterND", 11},         {"TopK", 10},       {"ScatterElements", 11},
      {"ReverseSequence", 10},   {"Unique", 11}};
  return table;
}

class Raiser {
 public:
  Raiser(OnnxModel& model, int64_t opset)
      : model_(model), before_(model.opset), opset_(opset), unique_(model) {}

  void run() {
    const auto known = operator_names();
    std::vector<OnnxNode> nodes = std::move(model_.nodes);
    model_.nodes.clear();
    for (OnnxNode& node : nodes) {
      if (!node.is_standard()) {
        model_.nodes.push_back(std::move(node));
        continue;
      }
      if (!std::binary_search(known.begin(), known.end(), node.op_type)) check_unchanged(node);
      raise(std::move(node));
    }
    model_.opset = opset_;
  }

 private:
  bool crosses(int64_t version) const { return before_ < version && opset_ >= version; }

  void check_unchanged(const OnnxNode& node) const {
    const auto found = unchanged_since().find(node.op_type);
    if (found == unchanged_since().end() || before_ < found->second)
      NodeArguments(model_, node)
          .refuse(fmt::format("may mean something else in operator set {}, which the quantized file needs; "
                              "export the model with that set",
                              opset_));
  }

  std::string add(OnnxTensor constant) {
    model_.constants.push_back(std::move(constant));
    return model_.constants.back().name;
  }

  void put_input(OnnxNode& node, size_t index, std::string name) {
    if (node.inputs.size() <= index) node.inputs.resize(index + 1);
    node.inputs[index] = std::move(name);
  }

  // An attribute becomes an input.
  void move(OnnxNode& node, const char* name, size_t index) {
    const OnnxAttribute* attribute = node.find(name);
    if (attribute == nullptr) return;
    const std::string constant = unique_(node.outputs.front() + "_" + name);
    using Kind = OnnxAttribute::Kind;
    if (attribute->kind == Kind::Float)
      add(onnx_tensor(constant, {}, {attribute->real}));
    else if (attribute->kind == Kind::Floats)
      add(onnx_tensor(constant, {static_cast<int64_t>(attribute->reals.size())}, attribute->reals));
    else
      add(onnx_integers(constant, OnnxType::Int64, {static_cast<int64_t>(attribute->integers.size())},
                        attribute->integers));
    put_input(node, index, constant);
    node.drop(name);
  }

  void raise(OnnxNode node) {
    const std::string op = node.op_type;
    if (crosses(11) && op == "Clip") move(node, "min", 1), move(node, "max", 2);
    if (crosses(11) && op == "Pad") move(node, "pads", 1), move(node, "value", 2);
    if (crosses(10) && op == "Slice") move(node, "starts", 1), move(node, "ends", 2), move(node, "axes", 3);
    if (crosses(11) && (op == "Upsample" || op == "Resize")) raise_resize(node);
    if (crosses(13) && (op == "Squeeze" || op == "Unsqueeze" || op == "ReduceSum")) move(node, "axes", 1);
    if (crosses(13) && op == "Split") move(node, "split", 1);
    if (crosses(18) && op == "Split" && node.inputs.size() < 2)
      node.attributes.push_back(integer_attribute("num_outputs", static_cast<int64_t>(node.outputs.size())));
    if (crosses(18) && op.rfind("Reduce", 0) == 0 && op != "ReduceSum") move(node, "axes", 1);
    if (crosses(9) && op == "BatchNormalization") node.drop("spatial");
    if (crosses(13) && (op == "Softmax" || op == "LogSoftmax" || op == "Hardmax"))
      return flatten_around(node);
    if (op == "Resize" && crosses(13) && is_tensorflow(node))
      NodeArguments(model_, node)
          .refuse("has a coordinate_transformation_mode that later operator sets lack");
    model_.nodes.push_back(std::move(node));
  }

  static bool is_tensorflow(const OnnxNode& node) {
    const OnnxAttribute* mode = node.find("coordinate_transformation_mode");
    return mode != nullptr && mode->text == "tf_half_pixel_for_nn";
  }

  // Scales were the second input or an attribute, and places counted from the edge (resize_operators.cpp).
  void raise_resize(OnnxNode& node) {
    move(node, "scales", 1);
    put_input(node, 2, node.inputs.at(1));
    node.inputs[1] = add(onnx_tensor(unique_(node.outputs.front() + "_roi"), {0}, {}));
    node.op_type = "Resize";
    node.attributes.push_back(text_attribute("coordinate_transformation_mode", "asymmetric"));
    const OnnxTensor* scales = model_.constant(node.inputs[2]);
    if (scales == nullptr)
      NodeArguments(model_, node).refuse("has scales that are computed while the model runs");
    const std::vector<float> values = scales->floats();
    const bool shrinks = std::any_of(values.begin(), values.end(), [](float scale) { return scale < 1; });
    if (shrinks && std::any_of(values.begin(), values.end(), [](float scale) { return scale > 1; }))
      NodeArguments(model_, node).refuse("grows along one axis and shrinks along another");
    node.attributes.push_back(text_attribute("nearest_mode", shrinks ? "ceil" : "floor"));
  }

  // Before operator set 13 over all axes from `axis` on together: Flatten(axis), the operator, and back.
  void flatten_around(OnnxNode node) {
    const OnnxAttribute* attribute = node.find("axis");
    const int64_t axis = attribute == nullptr ? 1 : attribute->integer;
    node.drop("axis");
    node.attributes.push_back(integer_attribute("axis", -1));
    if (axis == -1) {
      model_.nodes.push_back(std::move(node));
      return;
    }
    const std::string output = node.outputs.front(), source = node.inputs.front();
    const std::string shape = unique_(output + "_shape"), rows = unique_(output + "_rows"),
                      result = unique_(output + "_of_rows");
    const auto named = [&](const char* ending) { return unique_(output + ending); };
    model_.nodes.push_back({"Shape", named("_take_shape"), "", {source}, {shape}, {}});
    model_.nodes.push_back(
        {"Flatten", named("_flatten"), "", {source}, {rows}, {integer_attribute("axis", axis)}});
    node.inputs = {rows};
    node.outputs = {result};
    model_.nodes.push_back(std::move(node));
    model_.nodes.push_back({"Reshape", named("_reshape"), "", {result, shape}, {output}, {}});
  }

  OnnxModel& model_;
  int64_t before_, opset_;
  UniqueNames unique_;
};

}  // namespace

void raise_opset(OnnxModel& model, int64_t opset) {
  if (model.opset < opset) Raiser(model, opset).run();
}

}  // namespace strata::vision
