#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "strata/core/text.h"
#include "strata/vision/onnx.h"

namespace strata::vision {
namespace {

bool holds(const std::vector<OnnxValueInfo>& values, const std::string& name) {
  return std::any_of(values.begin(), values.end(),
                     [&](const OnnxValueInfo& value) { return value.name == name; });
}

}  // namespace

OnnxAttribute integer_attribute(std::string name, int64_t value) {
  OnnxAttribute attribute;
  attribute.name = std::move(name);
  attribute.kind = OnnxAttribute::Kind::Int;
  attribute.integer = value;
  return attribute;
}

OnnxAttribute text_attribute(std::string name, std::string value) {
  OnnxAttribute attribute;
  attribute.name = std::move(name);
  attribute.kind = OnnxAttribute::Kind::String;
  attribute.text = std::move(value);
  return attribute;
}

const OnnxAttribute* OnnxNode::find(const char* attribute) const {
  for (const OnnxAttribute& candidate : attributes)
    if (candidate.name == attribute) return &candidate;
  return nullptr;
}

void OnnxNode::drop(const char* attribute) {
  attributes.erase(
      std::remove_if(attributes.begin(), attributes.end(),
                     [&](const OnnxAttribute& candidate) { return candidate.name == attribute; }),
      attributes.end());
}

std::string OnnxNode::label() const {
  const std::string known = name.empty() && !outputs.empty() ? outputs.front() : name;
  return fmt::format("{} '{}'", printable(op_type), printable(known));
}

const OnnxTensor* OnnxModel::constant(const std::string& name) const {
  for (const OnnxTensor& tensor : constants)
    if (tensor.name == name) return &tensor;
  return nullptr;
}

OnnxTensor* OnnxModel::constant(const std::string& name) {
  return const_cast<OnnxTensor*>(std::as_const(*this).constant(name));
}

bool OnnxModel::is_input(const std::string& name) const {
  return holds(inputs, name);
}

bool OnnxModel::is_output(const std::string& name) const {
  return holds(outputs, name);
}

UniqueNames::UniqueNames(const OnnxModel& model) {
  for (const OnnxNode& node : model.nodes) {
    taken_.insert(node.name);
    taken_.insert(node.outputs.begin(), node.outputs.end());
  }
  for (const OnnxTensor& constant : model.constants) taken_.insert(constant.name);
  for (const OnnxValueInfo& input : model.inputs) taken_.insert(input.name);
}

std::string UniqueNames::operator()(std::string wanted) {
  std::string name = wanted;
  for (int count = 2; !taken_.insert(name).second; ++count) name = fmt::format("{}_{}", wanted, count);
  return name;
}

}  // namespace strata::vision
