// Damaged safetensors files and packed directories: each is read without a crash, or refused with an Error.
#include "strata/checkpoint/checkpoint.h"
#include "strata/checkpoint/packed_checkpoint.h"
#include "strata/checkpoint/safetensors_writer.h"
#include "strata/core/file.h"
#include "strata/core/json.h"
#include "tests/readers/damage.h"

namespace strata {
namespace {
namespace fs = std::filesystem;

TEST(CheckpointFiles, Safetensors) {
  TemporaryDirectory directory;
  const std::string header =
      R"({"__metadata__":{"format":"pt"},"a":{"dtype":"F32","shape":[2,3],"data_offsets":[0,24]},)"
      R"("b":{"dtype":"BF16","shape":[4],"data_offsets":[24,32]},"c":{"dtype":"I64","shape":[],"data_offsets":[32,40]}})";
  const std::string original = bytes_of<uint64_t>(header.size()) + header + std::string(40, '\1');
  const fs::path target = directory / "x.safetensors";
  expect_no_crash(original, target, 3000, [&] {
    const auto checkpoint = open_safetensors(target);
    for (const TensorInfo& tensor : checkpoint->tensors())
      if (tensor.type != "I64") checkpoint->read(tensor.name);
  });
}

struct Part {
  std::string name;
  std::vector<int64_t> shape;
  DType type;
};

// A directory with a packed matrix "m" of 32 rows and 64 columns, whose files are damaged in turn. `section`
// is what its config.json says of it.
void expect_no_crash_of_packed(const std::vector<Part>& parts, const std::string& key, const Json& section,
                               const std::map<std::string, std::string>& contents = {}) {
  TemporaryDirectory directory;
  std::vector<PlannedTensor> planned;
  for (const Part& part : parts) planned.push_back({part.name, part.shape, part.type});
  SafetensorsWriter writer(directory.path(), planned);
  for (const Part& part : parts) {
    uint64_t bytes = size_of(part.type);
    for (const int64_t size : part.shape) bytes *= static_cast<uint64_t>(size);
    std::string content(bytes, '\x12');
    if (contents.count(part.name)) content = contents.at(part.name);
    writer.write_bytes(reinterpret_cast<const std::byte*>(content.data()), content.size());
  }
  writer.finish();
  write_json(directory / "config.json", Json{{key, section}});
  const auto read = [&] {
    const Json config = read_json(directory / "config.json");
    const auto checkpoint = open_packed(open_safetensors(directory.path()), config, "config.json");
    for (const TensorInfo& tensor : checkpoint->tensors()) checkpoint->read(tensor.name);
  };
  for (const char* file : {"model.safetensors", "config.json"})
    expect_no_crash(read_text(directory / file), directory / file, 1000, read);
}

TEST(CheckpointFiles, CompressedTensors) {
  expect_no_crash_of_packed({{"m.weight_packed", {32, 8}, DType::I32},
                             {"m.weight_scale", {32, 2}, DType::F16},
                             {"m.weight_shape", {2}, DType::I64},
                             {"m.weight_zero_point", {4, 2}, DType::I32}},
                            "quantization_config",
                            {{"quant_method", "compressed-tensors"},
                             {"format", "pack-quantized"},
                             {"config_groups",
                              {{"group_0",
                                {{"targets", {"Linear"}},
                                 {"weights",
                                  {{"num_bits", 4},
                                   {"group_size", 32},
                                   {"strategy", "group"},
                                   {"symmetric", false},
                                   {"type", "int"}}}}}}}},
                            {{"m.weight_shape", bytes_of<int64_t>(32) + bytes_of<int64_t>(64)}});
}

TEST(CheckpointFiles, Gptq) {
  std::string columns;
  for (int32_t k = 0; k < 64; ++k) columns += bytes_of<int32_t>(k / 32);
  expect_no_crash_of_packed({{"m.qweight", {8, 32}, DType::I32},
                             {"m.qzeros", {2, 4}, DType::I32},
                             {"m.scales", {2, 32}, DType::F16},
                             {"m.g_idx", {64}, DType::I32}},
                            "quantization_config",
                            {{"quant_method", "gptq"}, {"bits", 4}, {"group_size", 32}, {"sym", false}},
                            {{"m.g_idx", columns}});
}

TEST(CheckpointFiles, Mlx) {
  expect_no_crash_of_packed({{"m.weight", {32, 8}, DType::U32},
                             {"m.scales", {32, 2}, DType::F16},
                             {"m.biases", {32, 2}, DType::F16}},
                            "quantization", {{"bits", 4}, {"group_size", 32}});
}

TEST(CheckpointFiles, Strata) {
  expect_no_crash_of_packed({{"m.codes", {30, 4}, DType::U32},
                             {"m.scales", {30, 1}, DType::F16},
                             {"m.zeros", {30, 1}, DType::F16},
                             {"m.high_codes", {2, 6}, DType::U32},
                             {"m.high_scales", {2, 1}, DType::F16},
                             {"m.high_zeros", {2, 1}, DType::F16},
                             {"m.high_rows", {4}, DType::U8}},
                            "quantization_config",
                            {{"quant_method", "strata"},
                             {"version", 1},
                             {"modules", {{"m", {{"scheme", "w2row+w3@0.0625"}, {"shape", {32, 64}}}}}}},
                            {{"m.high_rows", std::string("\x01\x10\x00\x00", 4)}});
}

}  // namespace
}  // namespace strata
