#include "strata/calibration/imatrix.h"

#include <fmt/format.h>

#include <cmath>
#include <cstring>
#include <filesystem>
#include <numeric>
#include <utility>

#include "strata/calibration/result_cache.h"
#include "strata/calibration/second_moments.h"
#include "strata/core/error.h"
#include "strata/core/progress.h"
#include "strata/core/text.h"
#include "strata/gguf/file.h"
#include "strata/model/gguf_names.h"
#include "strata/model/value_heads.h"

namespace strata {
namespace {

constexpr const char* kSquares = ".in_sum2";
constexpr const char* kCounts = ".counts";

double total_of(const Imatrix::Entry& entry) {
  return std::accumulate(entry.counts.begin(), entry.counts.end(), 0.0);
}

bool ends_with(const std::string& text, const std::string& ending) {
  return text.size() > ending.size() && text.compare(text.size() - ending.size(), ending.size(), ending) == 0;
}

// An F32 tensor of `count` values; throws when it is missing or of another size.
std::vector<float> read_floats(const GgufFile& file, const std::string& name, int64_t count,
                               const std::string& tensor) {
  const GgufTensor* found = file.find_tensor(name);
  if (found == nullptr)
    fail("the imatrix {} has no {}, so it belongs to another model: {} was expected to be in it",
         file.path().string(), name, tensor);
  if (found->type != GgufType::F32 || found->bytes() != static_cast<uint64_t>(count) * sizeof(float))
    fail("the imatrix {} belongs to another model: {} has {} bytes, but {} needs {} values of F32",
         file.path().string(), name, found->bytes(), tensor, count);
  std::vector<float> values(static_cast<size_t>(count));
  std::memcpy(values.data(), file.data(*found), values.size() * sizeof(float));
  for (const float value : values)
    if (!std::isfinite(value) || value < 0)
      fail("the imatrix {} has the value {} in {}; sums of squares were expected", file.path().string(),
           value, name);
  return values;
}

Imatrix::Entry read_entry(const GgufFile& file, const Model& model, const Module& module) {
  const std::string name = name_in_gguf(model, module.tensor);
  const int64_t matrices = module.matrices();
  Imatrix::Entry entry;
  entry.squares = read_floats(file, name + kSquares, matrices * module.cols, module.tensor);
  const std::vector<float> counts = read_floats(file, name + kCounts, matrices, module.tensor);
  entry.counts.assign(counts.begin(), counts.end());
  if (!(total_of(entry) > 0))
    fail("the imatrix {} saw no token for {}; make it from a longer text", file.path().string(), name);
  return entry;
}

// Throws when the file has sums for a layer's tensor that the model does not have.
void check_no_other_layers(const GgufFile& file, const Model& model) {
  for (const GgufTensor& tensor : file.tensors()) {
    if (tensor.name.compare(0, 4, "blk.") != 0 || !ends_with(tensor.name, kSquares)) continue;
    const std::string name = tensor.name.substr(0, tensor.name.size() - std::strlen(kSquares));
    if (!model.checkpoint->contains(model.runnable ? name_of_gguf(model.config, name) : name))
      fail("the imatrix {} belongs to another model: it has {}, which the model does not have",
           file.path().string(), printable(name));
  }
}

void read_origin(const GgufFile& file, Imatrix& imatrix) {
  const auto integer = [&](const char* key) -> int64_t {
    const GgufValue* value = file.find(key);
    return value == nullptr ? 0 : gguf_integer(*value).value_or(0);
  };
  imatrix.chunk_count = integer("imatrix.chunk_count");
  imatrix.chunk_size = integer("imatrix.chunk_size");
  if (const GgufValue* value = file.find("imatrix.datasets"))
    if (const auto* names = std::get_if<std::vector<std::string>>(&value->value)) imatrix.datasets = *names;
}

// The sums of one layer as the cache keeps them, by Module::input.
Json to_json(const std::map<std::string, InputMoments>& moments) {
  Json layer = Json::object();
  for (const auto& [input, inputs] : moments) {
    const at::Tensor squares = inputs.squares.to(at::kFloat).contiguous();
    const float* values = squares.data_ptr<float>();
    layer[input] = {{"count", inputs.count},
                    {"squares", std::vector<float>(values, values + squares.numel())}};
  }
  return layer;
}

void add_layer(Imatrix& imatrix, const Model& model, int layer, const Json& sums) {
  for (const Module* module : model.layer_modules(layer)) {
    Imatrix::Entry& entry = imatrix.entries[module->tensor];
    for (int64_t expert = 0; expert < module->matrices(); ++expert) {
      const Json& found = sums.at(input_of(*module, expert));
      const auto squares = found.at("squares").get<std::vector<float>>();
      entry.squares.insert(entry.squares.end(), squares.begin(), squares.end());
      entry.counts.push_back(found.at("count").get<double>());
    }
  }
}

std::string layer_key(int layer) {
  return fmt::format("layer {}", layer);
}

}  // namespace

std::vector<float> Imatrix::mean_squares(const std::string& tensor) const {
  const auto found = entries.find(tensor);
  if (found == entries.end()) return {};
  return strata::mean_squares(found->second.squares, found->second.counts);
}

std::string Imatrix::fingerprint() const {
  uint64_t hash = 0xcbf29ce484222325ull;  // FNV-1a
  const auto add = [&](float value) {
    uint32_t bits = 0;
    std::memcpy(&bits, &value, sizeof bits);
    for (int shift = 0; shift < 32; shift += 8) hash = (hash ^ (bits >> shift & 0xff)) * 0x100000001b3ull;
  };
  for (const auto& [tensor, entry] : entries) {
    for (const float value : mean_squares(tensor)) add(value);
    if (entry.counts.size() > 1)  // shares of tokens weigh experts
      for (const double count : entry.counts) add(static_cast<float>(count));
  }
  return fmt::format("{:016x}", hash);
}

Imatrix measure_imatrix(const Model& model, const Calibration& calibration, at::Device device,
                        const std::filesystem::path& cache_directory) {
  ResultCache cache;
  if (!cache_directory.empty())
    cache = ResultCache(cache_directory, "input-squares",
                        {{"weights", weights_fingerprint(model)}, {"calibration", calibration.fingerprint}});
  ActivationOptions options;
  options.device = device;
  ActivationStream stream(model, calibration, options);
  Imatrix imatrix;
  imatrix.datasets = {std::filesystem::path(calibration.source).filename().string()};
  imatrix.chunk_count = calibration.blocks();
  imatrix.chunk_size = calibration.window();
  Progress progress("measuring inputs", model.config.num_layers, "layers");
  while (!stream.at_end()) {
    const int layer = stream.layer();
    if (cache.find(layer_key(layer)) != nullptr)
      stream.advance();
    else
      cache.store(layer_key(layer), to_json(measure_inputs(stream, false, true)));
    add_layer(imatrix, model, layer, *cache.find(layer_key(layer)));
    progress.advance();
  }
  return imatrix;
}

Imatrix read_imatrix(const std::filesystem::path& path, const Model& model) {
  const GgufFile file(path);
  const GgufValue* type = file.find("general.type");
  const std::string* name = type == nullptr ? nullptr : std::get_if<std::string>(&type->value);
  if (name == nullptr || *name != "imatrix")
    fail("{} is a GGUF file but no imatrix: its general.type is {}", path.string(),
         name == nullptr ? "missing" : "\"" + printable(*name) + "\"");
  Imatrix imatrix;
  for (const Module& module : model.modules) imatrix.entries[module.tensor] = read_entry(file, model, module);
  for (const auto& [tensor, columns] : tiled_columns(model)) {
    const auto entry = imatrix.entries.find(tensor);
    if (entry == imatrix.entries.end()) continue;
    const std::vector<float> tiled = entry->second.squares;
    for (size_t i = 0; i < columns.size(); ++i)
      entry->second.squares[static_cast<size_t>(columns[i])] = tiled[i];
  }
  check_no_other_layers(file, model);
  read_origin(file, imatrix);
  return imatrix;
}

void write_imatrix(const std::filesystem::path& path, const Imatrix& imatrix) {
  const std::vector<GgufKey> keys = {
      {"general.type", gguf_string("imatrix")},
      {"imatrix.datasets", gguf_strings(imatrix.datasets)},
      {"imatrix.chunk_count", gguf_u32(static_cast<uint32_t>(imatrix.chunk_count))},
      {"imatrix.chunk_size", gguf_u32(static_cast<uint32_t>(imatrix.chunk_size))}};
  std::vector<GgufTensor> tensors;
  for (const auto& [tensor, entry] : imatrix.entries) {
    const std::string name = matrix_name_in_gguf(tensor);
    const auto matrices = static_cast<int64_t>(entry.counts.size());
    const int64_t inputs = static_cast<int64_t>(entry.squares.size()) / matrices;
    const auto shape = [&](int64_t size) {
      return matrices == 1 ? std::vector<int64_t>{size} : std::vector<int64_t>{matrices, size};
    };
    tensors.push_back({name + kSquares, shape(inputs), GgufType::F32, 0});
    tensors.push_back({name + kCounts, shape(1), GgufType::F32, 0});
  }
  GgufWriter writer(path, keys, tensors);
  const auto write = [&](const float* values, size_t count) {
    writer.write(reinterpret_cast<const std::byte*>(values), count * sizeof(float));
  };
  for (const auto& [tensor, entry] : imatrix.entries) {
    write(entry.squares.data(), entry.squares.size());
    const std::vector<float> counts(entry.counts.begin(), entry.counts.end());
    write(counts.data(), counts.size());
  }
  writer.commit();
}

}  // namespace strata
