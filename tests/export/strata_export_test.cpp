// Our own directories, taken apart bit by bit as docs/files.md defines them.
#include <cmath>
#include <map>

#include "strata/checkpoint/checkpoint.h"
#include "strata/core/dtype.h"
#include "strata/core/json.h"
#include "strata/export/formats.h"
#include "strata/quantization/quantizer.h"
#include "tests/export/export_test_model.h"

namespace strata {
namespace {

namespace fs = std::filesystem;

// A tensor's bytes, read as the definition needs them.
class Part {
 public:
  Part(const Checkpoint& stored, const std::string& name) : info_(stored.info(name)), bytes_(info_.bytes) {
    stored.read_bytes(info_, 0, info_.bytes, reinterpret_cast<std::byte*>(bytes_.data()));
  }

  const TensorInfo& info() const { return info_; }
  int bit(int64_t index) const { return bytes_[static_cast<size_t>(index / 8)] >> index % 8 & 1; }
  int byte(int64_t index) const { return bytes_[static_cast<size_t>(index)]; }
  uint32_t word(int64_t index) const {
    uint32_t value = 0;
    for (int b = 3; b >= 0; --b) value = value << 8 | bytes_[static_cast<size_t>(4 * index + b)];
    return value;
  }
  float half(int64_t index) const {
    return half_to_float(static_cast<uint16_t>(byte(2 * index) | byte(2 * index + 1) << 8));
  }
  // Code `index` of the stream that begins with 32-bit word `first_word`.
  int code(int64_t first_word, int64_t index, int bits) const {
    int code = 0;
    for (int b = 0; b < bits; ++b) code |= bit(32 * first_word + index * bits + b) << b;
    return code;
  }

 private:
  TensorInfo info_;
  std::vector<uint8_t> bytes_;
};

int64_t words_of(int64_t codes, int bits) {
  return (codes * bits + 31) / 32;
}

// The matrix [rows, cols] whose tensors' names begin with `prefix`.
std::vector<float> decode(const Checkpoint& stored, const std::string& prefix, const AffineScheme& scheme,
                          int64_t rows, int64_t cols) {
  std::vector<float> values;
  if (rows == 0) return values;
  const Part codes(stored, prefix + "codes"), scales(stored, prefix + "scales");
  EXPECT_EQ(codes.info().type, "U32");
  const int64_t group_size = scheme.group_size == 0 ? (scheme.axis == 1 ? cols : rows) : scheme.group_size;
  const int64_t row_groups = (cols + group_size - 1) / group_size;
  const int64_t groups = scheme.axis == 1 ? rows * row_groups : (rows * cols + group_size - 1) / group_size;
  const bool second_level = scheme.scales == ScaleStorage::SecondLevel;
  for (int64_t r = 0; r < rows; ++r)
    for (int64_t c = 0; c < cols; ++c) {
      const int64_t i = r * cols + c, group = scheme.axis == 1 ? r * row_groups + c / group_size : i % groups;
      const int code = scheme.axis == 1 ? codes.code(r * words_of(cols, scheme.bits), c, scheme.bits)
                                        : codes.code(0, i, scheme.bits);
      float scale, zero = static_cast<float>(1 << (scheme.bits - 1));
      if (second_level) {
        const Part ranges(stored, prefix + "scale_ranges");
        const float step = ranges.half(2 * (group / 128) + 1) * static_cast<float>(scales.byte(group));
        scale = ranges.half(2 * (group / 128)) + step;
      } else {
        scale = scales.half(group);
      }
      if (!scheme.symmetric) {
        const Part zeros(stored, prefix + "zeros");
        if (scheme.integer_zero) {
          zero = static_cast<float>(zeros.code(c / group_size * words_of(rows, scheme.bits), r, scheme.bits));
        } else if (second_level) {
          const Part range(stored, prefix + "zero_range");
          const float step = range.half(1) * static_cast<float>(zeros.byte(group));
          zero = range.half(0) + step;
        } else {
          zero = zeros.half(group);
        }
      }
      values.push_back((static_cast<float>(code) - zero) * scale);
    }
  return values;
}

// The rows with more bits, as the file lists them.
std::vector<bool> listed_rows(const Checkpoint& stored, const std::string& name, int64_t rows, int64_t high) {
  std::vector<bool> is_high(static_cast<size_t>(rows), high == rows);
  EXPECT_EQ(stored.contains(name), high > 0 && high < rows);
  if (high == 0 || high == rows) return is_high;
  const Part list(stored, name);
  const bool numbers = 32 * high < 8 * ((rows + 7) / 8);
  EXPECT_EQ(list.info().type, numbers ? "U32" : "U8");
  for (int64_t i = 0; i < (numbers ? high : rows); ++i)
    if (numbers)
      is_high[list.word(i)] = true;
    else
      is_high[static_cast<size_t>(i)] = list.bit(i) == 1;
  return is_high;
}

std::vector<float> decode(const Checkpoint& stored, const std::string& stem, const Scheme& scheme,
                          int64_t rows, int64_t cols) {
  if (scheme.kind == Scheme::Kind::Affine) return decode(stored, stem + ".", scheme.affine, rows, cols);
  const int64_t high = std::llround(scheme.high_ratio * static_cast<double>(rows));
  AffineScheme high_scheme = scheme.affine;
  high_scheme.bits = scheme.high_bits;
  const std::vector<float> low_values = decode(stored, stem + ".", scheme.affine, rows - high, cols);
  const std::vector<float> high_values = decode(stored, stem + ".high_", high_scheme, high, cols);
  auto next_low = low_values.begin(), next_high = high_values.begin();
  std::vector<float> values;
  for (const bool is_high : listed_rows(stored, stem + ".high_rows", rows, high)) {
    auto& next = is_high ? next_high : next_low;
    values.insert(values.end(), next, next + cols);
    next += cols;
  }
  return values;
}

class StrataExportTest : public ExportTest {
 protected:
  // Columns that no group but 32 divides, and rows that 8 does not divide.
  Model odd_model() {
    return make_model("llama", {{"hidden_size", 96}, {"intermediate_size", 100}, {"num_hidden_layers", 3}});
  }

  ExportResult write(const Model& model, const ExportPlan& plan) {
    const ExportFormat& format = format_for(target("out"), "strata");
    const ExportResult result = format.write(model, plan, target("out"));
    uint64_t shards = 0;
    for (const auto& entry : fs::directory_iterator(target("out")))
      if (entry.path().extension() == ".safetensors") shards += entry.file_size();
    EXPECT_EQ(format.file_size(model, plan), shards);
    return result;
  }
};

const char* const kSchemes[] = {"w3g64",      "w4g32s",        "w5rowz",        "w2g64m",
                                "w3g32a0",    "w2g128sm",      "w8rowa0",       "w6g32ma0",
                                "w7g64z",     "w2g64+w3@0.02", "w2g32+w4@0.3",  "w3g64z+w5@0.5",
                                "w2row+w3@1", "w2rows+w3@0",   "w2g64m+w3@0.4", "w4g128s+w8@0.15"};

TEST_F(StrataExportTest, IsWhatItsDefinitionSays) {
  const Model model = odd_model();
  ExportPlan plan = uniform_plan(model, "w4g64", "F32");
  plan.quantizer.name = "hqq";
  for (size_t m = 0; m < model.modules.size(); ++m)
    plan.schemes[model.modules[m].tensor] = parse_scheme(kSchemes[m % std::size(kSchemes)]);
  plan.schemes.erase(model.modules.back().tensor);
  const ExportResult result = write(model, plan);
  const auto stored = open_safetensors(target("out"));
  const Model back = open_model(target("out"));
  const Json section = read_json(target("out") / "config.json")["quantization_config"];
  EXPECT_EQ(section["quant_method"], "strata");
  EXPECT_EQ(section["modules"].size(), plan.schemes.size());
  uint64_t bits = 0;
  double error = 0;
  for (const Module& module : model.modules) {
    const std::vector<float> original = model.checkpoint->read(module.tensor);
    const std::vector<float> read = back.checkpoint->read(module.tensor);
    const auto planned = plan.schemes.find(module.tensor);
    if (planned == plan.schemes.end()) {
      EXPECT_EQ(read, original);
      continue;
    }
    SCOPED_TRACE(planned->second.name());
    const std::string stem = module.tensor.substr(0, module.tensor.rfind('.'));
    const Scheme scheme = parse_scheme(section["modules"][stem]["scheme"].get<std::string>());
    EXPECT_EQ(scheme, planned->second);
    EXPECT_EQ(section["modules"][stem]["shape"], Json::array({module.rows, module.cols}));
    std::vector<float> quantized = original;
    error += fake_quantize({quantized.data(), module.rows, module.cols}, scheme, plan.quantizer);
    EXPECT_EQ(decode(*stored, stem, scheme, module.rows, module.cols), quantized);
    EXPECT_EQ(read, quantized);
    EXPECT_EQ(back.checkpoint->info(module.tensor).type, scheme.name());
    std::vector<float> rows(static_cast<size_t>(7 * module.cols));
    back.checkpoint->read_rows(back.checkpoint->info(module.tensor), 5, 7, rows.data());
    EXPECT_TRUE(std::equal(rows.begin(), rows.end(), quantized.begin() + 5 * module.cols));
    // Not a bit more in the file than the scheme counts.
    uint64_t stored_bits = 0;
    for (const TensorInfo& tensor : stored->tensors())
      if (tensor.name.rfind(stem + ".", 0) == 0) stored_bits += 8 * tensor.bytes;
    EXPECT_EQ(stored_bits, scheme.stored_bits(module.rows, module.cols));
    bits += stored_bits;
  }
  EXPECT_EQ(result.weight_bits, bits);
  EXPECT_NEAR(result.squared_error, error, 1e-9 * error);
}

// Pieces of rows, zero points packed down them, and an embedding of which some rows have more bits.
TEST_F(StrataExportTest, HoldsEmbeddingAndHead) {
  const Model model =
      make_model("llama", {{"num_hidden_layers", 1}, {"tie_word_embeddings", false}, {"vocab_size", 70001}});
  ExportPlan plan = uniform_plan(model, "w4g64", "w3g32z");
  plan.head = parse_scheme("w2g64+w3@0.01");
  write(model, plan);
  const Model back = open_model(target("out"));
  for (const std::string& tensor : {model.embedding, model.head}) {
    const TensorInfo& info = model.checkpoint->info(tensor);
    std::vector<float> expected = model.checkpoint->read(tensor);
    fake_quantize({expected.data(), info.rows(), info.cols()},
                  tensor == model.head ? plan.head : plan.embedding, plan.quantizer);
    EXPECT_TRUE(back.checkpoint->read(tensor) == expected) << tensor;
  }
}

TEST_F(StrataExportTest, RowsOfTheLargestImpactHaveMoreBits) {
  const Model model = odd_model();
  const Module& module = model.modules[2];
  ExportPlan plan = uniform_plan(model, "w2g64+w8@0.25", "F32");
  std::vector<float> impact(static_cast<size_t>(module.rows));
  for (size_t r = 0; r < impact.size(); ++r) impact[r] = static_cast<float>(r * 5 % impact.size());
  plan.row_impacts[module.tensor] = impact;
  QuantizerOptions quantizer = plan.quantizer;
  quantizer.row_impact = impact.data();
  std::vector<float> expected = model.checkpoint->read(module.tensor);
  fake_quantize({expected.data(), module.rows, module.cols}, plan.schemes[module.tensor], quantizer);
  for (const char* name : {"strata", "hf"}) {
    format_for(target(name), name).write(model, plan, target(name));
    const Model back = open_model(target(name));
    EXPECT_EQ(back.checkpoint->read(module.tensor), expected) << name;
    EXPECT_NE(back.checkpoint->read(model.modules[3].tensor),
              model.checkpoint->read(model.modules[3].tensor));
  }
  plan.row_impacts[module.tensor].pop_back();
  EXPECT_NE(error_of([&] { write(model, plan); }).find(module.tensor), std::string::npos);
}

TEST_F(StrataExportTest, OtherFormatsRefuseMixedRows) {
  const Model model = odd_model();
  const ExportPlan plan = uniform_plan(model, "w2g32s+w3@0.1", "F32");
  for (const char* name : {"gguf", "compressed-tensors", "gptq", "gptq_v2", "mlx"}) {
    const std::string message = error_of([&] { format_for("x", name).write(model, plan, target("out")); });
    EXPECT_NE(message.find("w2g32s+w3@0.1"), std::string::npos) << name << ": " << message;
    EXPECT_EQ(message.find('\n'), std::string::npos);
    EXPECT_THROW(require_storable(format_for("x", name), parse_scheme("w2g32s+w3@0.1")), UsageError);
  }
  for (const char* scheme : {"Q4_K", "nf4"}) {
    const std::string message = error_of([&] { write(model, uniform_plan(model, scheme, "F32")); });
    EXPECT_NE(message.find("holds affine groups"), std::string::npos) << message;
  }
  EXPECT_TRUE(written().empty());
}

}  // namespace
}  // namespace strata
