// Field numbers and types are those of onnx.proto (ONNX IR version 3 and later).
#include <algorithm>
#include <cstring>
#include <map>
#include <unordered_map>
#include <unordered_set>

#include "strata/core/error.h"
#include "strata/core/file.h"
#include "strata/core/protobuf.h"
#include "strata/core/text.h"
#include "strata/vision/onnx.h"

namespace strata::vision {
namespace {

constexpr int64_t kMostElements = int64_t{1} << 34;

// Bits of one element; 0 for types that are not read.
int bits_of(int64_t type) {
  switch (static_cast<OnnxType>(type)) {
    case OnnxType::UInt4:
    case OnnxType::Int4:
      return 4;
    case OnnxType::UInt8:
    case OnnxType::Int8:
    case OnnxType::Bool:
      return 8;
    case OnnxType::Float16:
    case OnnxType::BFloat16:
      return 16;
    case OnnxType::Float:
    case OnnxType::Int32:
      return 32;
    case OnnxType::Int64:
    case OnnxType::Double:
      return 64;
  }
  return 0;
}

class Reader {
 public:
  explicit Reader(const std::filesystem::path& path) : file_(path) { model_.path = path; }

  OnnxModel read() {
    bool has_graph = false;
    each(text(file_.data(), file_.size()), "the file", [&](const ProtobufField& field) {
      if (field.number == 1) model_.ir_version = static_cast<int64_t>(field.integer);
      if (field.number == 2) model_.producer = field.bytes;
      if (field.number == 7) {
        read_graph(field.bytes);
        has_graph = true;
      }
      if (field.number == 8) read_opset(field.bytes);
      if (field.number == 14) model_.metadata.push_back(read_entry(field.bytes));
    });
    if (!has_graph || model_.nodes.empty())
      fail("{} is not an ONNX model: it holds no graph with nodes", model_.path.string());
    check_names();
    sort_nodes();
    return std::move(model_);
  }

 private:
  static std::string_view text(const std::byte* data, size_t size) {
    return {reinterpret_cast<const char*>(data), size};
  }

  template <class Body>
  void each(std::string_view message, const std::string& what, const Body& body) const {
    ProtobufReader reader(message);
    while (const auto field = reader.next()) body(*field);
    if (!reader.ok())
      fail("{} is truncated or not an ONNX file: {} breaks off; get the file again", model_.path.string(),
           what);
  }

  std::pair<std::string, std::string> read_entry(std::string_view message) const {
    std::pair<std::string, std::string> entry;
    each(message, "a text entry", [&](const ProtobufField& field) {
      if (field.number == 1) entry.first = field.bytes;
      if (field.number == 2) entry.second = field.bytes;
    });
    return entry;
  }

  void read_opset(std::string_view message) {
    std::string domain;
    int64_t version = 0;
    each(message, "the operator set", [&](const ProtobufField& field) {
      if (field.number == 1) domain = field.bytes;
      if (field.number == 2) version = static_cast<int64_t>(field.integer);
    });
    if (domain.empty() || domain == "ai.onnx")
      model_.opset = version;
    else
      model_.other_opsets.emplace_back(domain, version);
  }

  void read_graph(std::string_view message) {
    each(message, "the graph", [&](const ProtobufField& field) {
      switch (field.number) {
        case 1:
          model_.nodes.push_back(read_node(field.bytes));
          break;
        case 2:
          model_.graph_name = field.bytes;
          break;
        case 5:
          model_.constants.push_back(read_tensor(field.bytes));
          break;
        case 11:
          model_.inputs.push_back(read_value(field.bytes));
          break;
        case 12:
          model_.outputs.push_back(read_value(field.bytes));
          break;
        case 15:
          fail("{} has sparse constants, which are not supported", model_.path.string());
      }
    });
  }

  OnnxNode read_node(std::string_view message) const {
    OnnxNode node;
    each(message, "a node", [&](const ProtobufField& field) {
      if (field.number == 1) node.inputs.emplace_back(field.bytes);
      if (field.number == 2) node.outputs.emplace_back(field.bytes);
      if (field.number == 3) node.name = field.bytes;
      if (field.number == 4) node.op_type = field.bytes;
      if (field.number == 5) node.attributes.push_back(read_attribute(field.bytes));
      if (field.number == 7) node.domain = field.bytes;
    });
    return node;
  }

  OnnxAttribute read_attribute(std::string_view message) const {
    OnnxAttribute attribute;
    each(message, "an attribute", [&](const ProtobufField& field) {
      switch (field.number) {
        case 1:
          attribute.name = field.bytes;
          break;
        case 2:
          attribute.real = field.real();
          break;
        case 3:
          attribute.integer = static_cast<int64_t>(field.integer);
          break;
        case 4:
          attribute.text = field.bytes;
          break;
        case 5:
          attribute.tensor = read_tensor(field.bytes);
          break;
        case 7:
          append_floats(field, attribute.reals);
          break;
        case 8:
          append_integers(field, attribute.integers);
          break;
        case 9:
          attribute.texts.emplace_back(field.bytes);
          break;
        case 20:
          attribute.kind = static_cast<OnnxAttribute::Kind>(field.integer);
          break;
      }
    });
    return attribute;
  }

  void append_floats(const ProtobufField& field, std::vector<float>& values) const {
    if (!field.is_bytes) {
      values.push_back(field.real());
      return;
    }
    if (field.bytes.size() % sizeof(float) != 0)
      fail("{} is damaged: a list of numbers has {} bytes", model_.path.string(), field.bytes.size());
    const size_t before = values.size();
    values.resize(before + field.bytes.size() / sizeof(float));
    if (!field.bytes.empty()) std::memcpy(values.data() + before, field.bytes.data(), field.bytes.size());
  }

  void append_integers(const ProtobufField& field, std::vector<int64_t>& values) const {
    if (!field.is_bytes) {
      values.push_back(static_cast<int64_t>(field.integer));
      return;
    }
    ProtobufReader packed(field.bytes);
    while (const auto value = packed.next_packed()) values.push_back(static_cast<int64_t>(*value));
    if (!packed.ok()) fail("{} is damaged: a list of numbers breaks off", model_.path.string());
  }

  OnnxValueInfo read_value(std::string_view message) const {
    OnnxValueInfo value;
    each(message, "an input or output", [&](const ProtobufField& field) {
      if (field.number == 1) value.name = field.bytes;
      if (field.number != 2) return;
      each(field.bytes, "a type", [&](const ProtobufField& type) {
        if (type.number != 1) return;
        each(type.bytes, "a tensor type", [&](const ProtobufField& part) {
          if (part.number == 1) value.type = static_cast<OnnxType>(part.integer);
          if (part.number == 2) read_shape(part.bytes, value);
        });
      });
    });
    return value;
  }

  void read_shape(std::string_view message, OnnxValueInfo& value) const {
    value.has_shape = true;
    each(message, "a shape", [&](const ProtobufField& field) {
      if (field.number != 1) return;
      int64_t size = -1;
      std::string name;
      each(field.bytes, "a dimension", [&](const ProtobufField& dimension) {
        if (dimension.number == 1) size = static_cast<int64_t>(dimension.integer);
        if (dimension.number == 2) name = dimension.bytes;
      });
      value.shape.push_back(size > 0 ? size : -1);
      value.dimensions.push_back(std::move(name));
    });
  }

  OnnxTensor read_tensor(std::string_view message) const {
    OnnxTensor tensor;
    int64_t type = 0, location = 0;
    std::vector<float> reals;
    std::vector<int64_t> integers;
    std::string doubles;
    std::map<std::string, std::string> external;
    bool has_raw = false;
    each(message, "a tensor", [&](const ProtobufField& field) {
      switch (field.number) {
        case 1:
          append_integers(field, tensor.shape);
          break;
        case 2:
          type = static_cast<int64_t>(field.integer);
          break;
        case 4:
          append_floats(field, reals);
          break;
        case 5:
        case 7:
          append_integers(field, integers);
          break;
        case 8:
          tensor.name = field.bytes;
          break;
        case 9:
          tensor.data = field.bytes;
          has_raw = true;
          break;
        case 10:
          if (field.is_bytes)
            doubles += field.bytes;
          else
            doubles.append(reinterpret_cast<const char*>(&field.integer), sizeof(field.integer));
          break;
        case 13:
          external.insert(read_entry(field.bytes));
          break;
        case 14:
          location = static_cast<int64_t>(field.integer);
          break;
      }
    });
    const uint64_t bytes = check_size(tensor, type);
    tensor.type = static_cast<OnnxType>(type);
    if (location == 1)
      tensor.data = read_external(tensor, external, bytes);
    else if (!has_raw)
      fill(tensor, reals, integers, doubles);
    if (tensor.data.size() != bytes)
      fail("{}: the tensor '{}' has {} bytes of data, but its shape and type need {}; the file is damaged",
           model_.path.string(), printable(tensor.name), tensor.data.size(), bytes);
    return tensor;
  }

  // Returns the bytes that the shape needs.
  uint64_t check_size(const OnnxTensor& tensor, int64_t type) const {
    const int bits = bits_of(type);
    if (bits == 0)
      fail("{}: the tensor '{}' has the element type {} of onnx.proto, which is not supported",
           model_.path.string(), printable(tensor.name), type);
    int64_t elements = 1;
    for (int64_t size : tensor.shape) {
      if (size < 0 || (size > 0 && elements > kMostElements / size))
        fail("{}: the tensor '{}' has a dimension of {}; the file is damaged", model_.path.string(),
             printable(tensor.name), size);
      elements *= size;
    }
    return (static_cast<uint64_t>(elements) * static_cast<uint64_t>(bits) + 7) / 8;
  }

  // Data in the typed fields of a tensor, as the raw bytes they stand for.
  void fill(OnnxTensor& tensor, const std::vector<float>& reals, const std::vector<int64_t>& integers,
            const std::string& doubles) const {
    switch (tensor.type) {
      case OnnxType::Float:
        tensor.data.assign(reinterpret_cast<const char*>(reals.data()), reals.size() * sizeof(float));
        return;
      case OnnxType::Double:
        tensor.data = doubles;
        return;
      case OnnxType::Float16:
      case OnnxType::BFloat16:
        for (int64_t value : integers) {
          const auto half = static_cast<uint16_t>(value);
          tensor.data.append(reinterpret_cast<const char*>(&half), sizeof(half));
        }
        return;
      case OnnxType::UInt4:
      case OnnxType::Int4:  // a pair a number
        for (int64_t value : integers) tensor.data.push_back(static_cast<char>(value));
        return;
      default:
        tensor.data = onnx_integers({}, tensor.type, {}, integers).data;
    }
  }

  std::string read_external(const OnnxTensor& tensor, const std::map<std::string, std::string>& entries,
                            uint64_t bytes) const {
    const auto text_of = [&](const char* key) {
      const auto found = entries.find(key);
      return found == entries.end() ? std::string() : found->second;
    };
    const std::filesystem::path location = text_of("location");
    const bool escapes = location.is_absolute() || std::any_of(location.begin(), location.end(),
                                                               [](const auto& p) { return p == ".."; });
    if (location.empty() || escapes)
      fail("{}: the tensor '{}' names the data file '{}', but only files in the model's folder are read",
           model_.path.string(), printable(tensor.name), printable(location.string()));
    const std::string offset_text = text_of("offset");
    if (offset_text.size() > 18 || offset_text.find_first_not_of("0123456789") != std::string::npos)
      fail("{}: the tensor '{}' starts at '{}' of its data file, which is not a number", model_.path.string(),
           printable(tensor.name), printable(offset_text));
    const uint64_t offset = offset_text.empty() ? 0 : std::stoull(offset_text);
    const MappedFile file(model_.path.parent_path() / location);
    if (offset > file.size() || bytes > file.size() - offset)
      fail("{}: the tensor '{}' needs {} bytes from byte {} on, but the file has {}; it is truncated",
           file.path().string(), printable(tensor.name), bytes, offset, file.size());
    return std::string(text(file.data() + offset, static_cast<size_t>(bytes)));
  }

  void check_names() {
    std::unordered_set<std::string> names;
    for (const OnnxTensor& tensor : model_.constants)
      if (!names.insert(tensor.name).second)
        fail("{} holds two constants named '{}'; the file is damaged", model_.path.string(),
             printable(tensor.name));
    auto& inputs = model_.inputs;  // older models list constants there, too
    inputs.erase(std::remove_if(inputs.begin(), inputs.end(),
                                [&](const OnnxValueInfo& value) { return names.count(value.name) > 0; }),
                 inputs.end());
    for (const OnnxValueInfo& value : inputs) names.insert(value.name);
    for (const OnnxNode& node : model_.nodes)
      for (const std::string& output : node.outputs)
        if (!output.empty() && !names.insert(output).second)
          fail("{}: {} computes '{}', which exists already; the file is damaged", model_.path.string(),
               node.label(), printable(output));
    for (const OnnxNode& node : model_.nodes)
      for (const std::string& input : node.inputs)
        if (!input.empty() && names.count(input) == 0)
          fail("{}: {} needs '{}', which nothing computes; the file is damaged", model_.path.string(),
               node.label(), printable(input));
    for (const OnnxValueInfo& value : model_.outputs)
      if (names.count(value.name) == 0)
        fail("{}: the output '{}' is not computed by any node; the file is damaged", model_.path.string(),
             printable(value.name));
  }

  // Nodes after those whose outputs they need, otherwise in the file's order (Kahn 1962).
  void sort_nodes() {
    std::unordered_map<std::string, size_t> producer;
    for (size_t n = 0; n < model_.nodes.size(); ++n)
      for (const std::string& output : model_.nodes[n].outputs) producer[output] = n;
    std::vector<std::vector<size_t>> consumers(model_.nodes.size());
    std::vector<size_t> waits_for(model_.nodes.size(), 0);
    for (size_t n = 0; n < model_.nodes.size(); ++n)
      for (const std::string& input : model_.nodes[n].inputs) {
        const auto found = input.empty() ? producer.end() : producer.find(input);
        if (found == producer.end()) continue;
        consumers[found->second].push_back(n);
        ++waits_for[n];
      }
    std::vector<size_t> heap;  // the smallest index first
    const auto later = std::greater<size_t>();
    for (size_t n = 0; n < waits_for.size(); ++n)
      if (waits_for[n] == 0) heap.push_back(n);
    std::make_heap(heap.begin(), heap.end(), later);
    std::vector<OnnxNode> sorted;
    while (!heap.empty()) {
      std::pop_heap(heap.begin(), heap.end(), later);
      const size_t n = heap.back();
      heap.pop_back();
      for (size_t consumer : consumers[n])
        if (--waits_for[consumer] == 0) {
          heap.push_back(consumer);
          std::push_heap(heap.begin(), heap.end(), later);
        }
      sorted.push_back(std::move(model_.nodes[n]));
    }
    if (sorted.size() != model_.nodes.size())
      fail("{} is damaged: some of its nodes wait for each other", model_.path.string());
    model_.nodes = std::move(sorted);
  }

  MappedFile file_;
  OnnxModel model_;
};

}  // namespace

OnnxModel read_onnx(const std::filesystem::path& path) {
  return Reader(path).read();
}

}  // namespace strata::vision
