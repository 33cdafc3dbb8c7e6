#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>
#include <unordered_set>
#include <utility>
#include <vector>

namespace strata::vision {

// Element types by their numbers in onnx.proto; the others are refused on reading.
enum class OnnxType : int32_t {
  Float = 1,
  UInt8 = 2,
  Int8 = 3,
  Int32 = 6,
  Int64 = 7,
  Bool = 9,
  Float16 = 10,
  Double = 11,
  BFloat16 = 16,
  UInt4 = 21,
  Int4 = 22,
};

// A constant. `data` holds little-endian elements, two to a byte (the first in the low half) at 4 bits.
struct OnnxTensor {
  std::string name;
  OnnxType type = OnnxType::Float;
  std::vector<int64_t> shape;  // empty for a scalar
  std::string data;

  int64_t elements() const;
  bool is_real() const;                   // float, double, half or bfloat16
  std::vector<float> floats() const;      // every type, converted
  std::vector<int64_t> integers() const;  // of whole-number types; throws for others
};

OnnxTensor onnx_tensor(std::string name, std::vector<int64_t> shape, const std::vector<float>& values);

// Values must fit the type: UInt8, Int8, Int32, Int64, UInt4 or Int4.
OnnxTensor onnx_integers(std::string name, OnnxType type, std::vector<int64_t> shape,
                         const std::vector<int64_t>& values);

struct OnnxAttribute {
  enum class Kind : int32_t {
    None = 0,
    Float = 1,
    Int = 2,
    String = 3,
    Tensor = 4,
    Graph = 5,
    Floats = 6,
    Ints = 7,
    Strings = 8
  };
  std::string name;
  Kind kind = Kind::None;
  float real = 0;
  int64_t integer = 0;
  std::string text;
  OnnxTensor tensor;
  std::vector<float> reals;
  std::vector<int64_t> integers;
  std::vector<std::string> texts;
};

OnnxAttribute integer_attribute(std::string name, int64_t value);
OnnxAttribute text_attribute(std::string name, std::string value);

struct OnnxNode {
  std::string op_type, name, domain;
  std::vector<std::string> inputs, outputs;  // an empty name is an input that is left out
  std::vector<OnnxAttribute> attributes;

  const OnnxAttribute* find(const char* attribute) const;  // null when absent
  std::string label() const;                               // for messages: "Conv '/features/0/Conv'"
  void drop(const char* attribute);                        // removes it where it is there
  bool is_standard() const { return domain.empty() || domain == "ai.onnx"; }  // of ONNX's own operators
};

struct OnnxValueInfo {
  std::string name;
  OnnxType type = OnnxType::Float;
  std::vector<int64_t> shape;           // -1 where the dimension is not fixed
  std::vector<std::string> dimensions;  // names of those, as many as shape
  bool has_shape = false;
};

// An ONNX model without training, functions and sparse tensors.
struct OnnxModel {
  std::filesystem::path path;  // for messages
  int64_t ir_version = 8;
  int64_t opset = 17;                                         // of the default domain
  std::vector<std::pair<std::string, int64_t>> other_opsets;  // of other domains
  std::string producer, graph_name;
  std::vector<OnnxNode> nodes;  // in an order in which they can be computed
  std::vector<OnnxTensor> constants;
  std::vector<OnnxValueInfo> inputs, outputs;  // inputs without those that are constants
  std::vector<std::pair<std::string, std::string>> metadata;

  const OnnxTensor* constant(const std::string& name) const;  // null when absent
  OnnxTensor* constant(const std::string& name);
  bool is_input(const std::string& name) const;
  bool is_output(const std::string& name) const;
};

// Names for new values and nodes of a model, other than all that it has.
class UniqueNames {
 public:
  explicit UniqueNames(const OnnxModel& model);
  std::string operator()(std::string wanted);  // the name itself, or with a number behind it

 private:
  std::unordered_set<std::string> taken_;
};

// Reads a model with its external data, which must lie in the model's folder. Throws Error, one sentence that
// names the file and the tensor or node, for files that are truncated or are no ONNX, and for tensors whose
// bytes do not fit their shapes.
OnnxModel read_onnx(const std::filesystem::path& path);

// Writes a model with all constants inside; returns the bytes written. Throws when it exceeds the 2 GiB of a
// protocol buffer. `check` sees the complete file before it takes its name; what it throws leaves no file.
using FileCheck = std::function<void(const std::filesystem::path& complete)>;
uint64_t write_onnx(const std::filesystem::path& path, const OnnxModel& model, const FileCheck& check = {});

}  // namespace strata::vision
