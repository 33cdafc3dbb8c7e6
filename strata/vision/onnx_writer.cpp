#include "strata/core/error.h"
#include "strata/core/file.h"
#include "strata/core/protobuf.h"
#include "strata/vision/onnx.h"

namespace strata::vision {
namespace {

constexpr size_t kLargestMessage = size_t{1} << 31;

uint64_t unsigned_of(int64_t value) {
  return static_cast<uint64_t>(value);
}

std::string entry_message(const std::string& key, const std::string& value) {
  ProtobufWriter writer;
  writer.bytes(1, key);
  writer.bytes(2, value);
  return writer.message();
}

std::string opset_message(const std::string& domain, int64_t version) {
  ProtobufWriter writer;
  writer.bytes(1, domain);
  writer.integer(2, unsigned_of(version));
  return writer.message();
}

std::string tensor_message(const OnnxTensor& tensor) {
  ProtobufWriter writer;
  if (!tensor.shape.empty()) writer.packed(1, tensor.shape);
  writer.integer(2, unsigned_of(static_cast<int64_t>(tensor.type)));
  writer.bytes(8, tensor.name);
  writer.bytes(9, tensor.data);
  return writer.message();
}

std::string attribute_message(const OnnxAttribute& attribute) {
  using Kind = OnnxAttribute::Kind;
  ProtobufWriter writer;
  writer.bytes(1, attribute.name);
  switch (attribute.kind) {
    case Kind::Float:
      writer.real(2, attribute.real);
      break;
    case Kind::Int:
      writer.integer(3, unsigned_of(attribute.integer));
      break;
    case Kind::String:
      writer.bytes(4, attribute.text);
      break;
    case Kind::Tensor:
      writer.bytes(5, tensor_message(attribute.tensor));
      break;
    case Kind::Floats:
      for (float value : attribute.reals) writer.real(7, value);
      break;
    case Kind::Ints:
      for (int64_t value : attribute.integers) writer.integer(8, unsigned_of(value));
      break;
    case Kind::Strings:
      for (const std::string& value : attribute.texts) writer.bytes(9, value);
      break;
    case Kind::None:
    case Kind::Graph:
      fail("the attribute '{}' cannot be written to ONNX", attribute.name);
  }
  writer.integer(20, unsigned_of(static_cast<int64_t>(attribute.kind)));
  return writer.message();
}

std::string node_message(const OnnxNode& node) {
  ProtobufWriter writer;
  for (const std::string& input : node.inputs) writer.bytes(1, input);
  for (const std::string& output : node.outputs) writer.bytes(2, output);
  writer.bytes(3, node.name);
  writer.bytes(4, node.op_type);
  for (const OnnxAttribute& attribute : node.attributes) writer.bytes(5, attribute_message(attribute));
  if (!node.domain.empty()) writer.bytes(7, node.domain);
  return writer.message();
}

std::string value_message(const OnnxValueInfo& value) {
  ProtobufWriter tensor_type;
  tensor_type.integer(1, unsigned_of(static_cast<int64_t>(value.type)));
  if (value.has_shape) {
    ProtobufWriter shape;
    for (size_t d = 0; d < value.shape.size(); ++d) {
      ProtobufWriter dimension;
      if (value.shape[d] >= 0)
        dimension.integer(1, unsigned_of(value.shape[d]));
      else if (!value.dimensions[d].empty())
        dimension.bytes(2, value.dimensions[d]);
      shape.bytes(1, dimension.message());
    }
    tensor_type.bytes(2, shape.message());
  }
  ProtobufWriter type, writer;
  type.bytes(1, tensor_type.message());
  writer.bytes(1, value.name);
  writer.bytes(2, type.message());
  return writer.message();
}

std::string graph_message(const OnnxModel& model) {
  ProtobufWriter writer;
  for (const OnnxNode& node : model.nodes) writer.bytes(1, node_message(node));
  writer.bytes(2, model.graph_name.empty() ? "main" : model.graph_name);
  for (const OnnxTensor& tensor : model.constants) writer.bytes(5, tensor_message(tensor));
  for (const OnnxValueInfo& value : model.inputs) writer.bytes(11, value_message(value));
  for (const OnnxValueInfo& value : model.outputs) writer.bytes(12, value_message(value));
  return writer.message();
}

}  // namespace

uint64_t write_onnx(const std::filesystem::path& path, const OnnxModel& model, const FileCheck& check) {
  ProtobufWriter writer;
  writer.integer(1, unsigned_of(model.ir_version));
  writer.bytes(2, model.producer);
  writer.bytes(7, graph_message(model));
  writer.bytes(8, opset_message("", model.opset));
  for (const auto& [domain, version] : model.other_opsets) writer.bytes(8, opset_message(domain, version));
  for (const auto& [key, value] : model.metadata) writer.bytes(14, entry_message(key, value));
  const std::string& message = writer.message();
  if (message.size() >= kLargestMessage)
    fail("{} would have {} bytes, but an ONNX file without external data holds less than 2 GiB",
         path.string(), message.size());
  OutputFile file(path);
  file.write(message.data(), message.size());
  if (check) check(file.path());
  file.commit();
  return message.size();
}

}  // namespace strata::vision
