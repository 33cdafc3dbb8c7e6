// Times all measurements of --method high-impact for one layer: the impact of rows, and the losses of every
// module and every two modules in five ratios. The model has one layer of Llama-2-7B's shape (or --tiny: of
// tiny-llama's) with random weights, and a small vocabulary; calibration tokens are random ids, which take as
// long as any others.
#include <ATen/ATen.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <exception>
#include <filesystem>
#include <string>

#include "strata/checkpoint/safetensors_writer.h"
#include "strata/core/file.h"
#include "strata/core/json.h"
#include "strata/core/random.h"
#include "strata/core/stopwatch.h"
#include "strata/core/threads.h"
#include "strata/device/device.h"
#include "strata/model/config_json.h"
#include "strata/model/layout.h"
#include "strata/sensitivity/change_losses.h"

namespace {

using namespace strata;

struct Arguments {
  int64_t hidden = 4096, intermediate = 11008, heads = 32, kv_heads = 32, head_dim = 128;
  int64_t blocks = 32, window = 512;
  std::string schemes = "w2g64+w3";
  SensitivityOptions options;
};

[[noreturn]] void usage() {
  std::fprintf(
      stderr,
      "usage: bench_sensitivity_high_impact [--tiny 1] [--device cpu|cuda] [--blocks N] [--window N]\n"
      "       [--schemes LIST] [--tf32 1] [--threads N]\n");
  std::exit(2);
}

Arguments parse(int argc, char** argv) {
  Arguments arguments;
  for (int i = 1; i + 1 < argc; i += 2) {
    const std::string name = argv[i], value = argv[i + 1];
    if (name == "--tiny") {
      arguments.hidden = 256;
      arguments.intermediate = 768;
      arguments.heads = 8;
      arguments.kv_heads = 4;
      arguments.head_dim = 32;
    } else if (name == "--device") {
      arguments.options.device = parse_device(value);
    } else if (name == "--blocks") {
      arguments.blocks = std::atoll(value.c_str());
    } else if (name == "--window") {
      arguments.window = std::atoll(value.c_str());
    } else if (name == "--schemes") {
      arguments.schemes = value;
    } else if (name == "--tf32") {
      at::globalContext().setAllowTF32CuBLAS(value == "1");
    } else if (name == "--threads") {
      set_thread_count(std::atoi(value.c_str()));
    } else {
      usage();
    }
  }
  if (argc % 2 != 1 || arguments.blocks < 1 || arguments.window < 2) usage();
  return arguments;
}

constexpr int64_t kVocabulary = 4096;

void write_model(const std::filesystem::path& directory, const Arguments& a) {
  std::filesystem::create_directories(directory);
  write_json(directory / "config.json", {{"model_type", "llama"},
                                         {"hidden_size", a.hidden},
                                         {"intermediate_size", a.intermediate},
                                         {"num_hidden_layers", 1},
                                         {"num_attention_heads", a.heads},
                                         {"num_key_value_heads", a.kv_heads},
                                         {"head_dim", a.head_dim},
                                         {"vocab_size", kVocabulary},
                                         {"max_position_embeddings", 4096},
                                         {"rms_norm_eps", 1e-5},
                                         {"tie_word_embeddings", true},
                                         {"hidden_act", "silu"}});
  const ModelConfig config = read_config(directory / "config.json");
  std::vector<PlannedTensor> tensors;
  for (const ExpectedTensor& tensor : expected_tensors(config))
    tensors.push_back({tensor.name, tensor.shape, DType::F32});
  SafetensorsWriter writer(directory, tensors);
  Random random(1);
  std::vector<float> pool(size_t{1} << 22);
  for (float& value : pool) value = static_cast<float>(0.02 * random.normal());
  for (const PlannedTensor& tensor : tensors) {
    const bool norm = tensor.shape.size() == 1;
    const int64_t rows = norm ? 1 : tensor.shape[0], cols = tensor.shape.back();
    const std::vector<float> ones(static_cast<size_t>(cols), 1.0f);
    for (int64_t row = 0; row < rows; ++row) {
      const float* values = norm ? ones.data() : &pool[random.below(pool.size() - static_cast<size_t>(cols))];
      writer.write(values, cols);
    }
  }
  writer.finish();
}

void run(Arguments& arguments) {
  const std::filesystem::path directory =
      std::filesystem::temp_directory_path() / ("strata-bench-" + std::to_string(getpid()));
  write_model(directory, arguments);
  const Model model = open_model(directory);
  SensitivityOptions& options = arguments.options;
  options.schemes = parse_schemes(arguments.schemes);
  Random random(1);
  at::Tensor ids = at::empty({arguments.blocks, arguments.window}, at::kLong);
  for (int64_t i = 0; i < ids.numel(); ++i)
    ids.data_ptr<int64_t>()[i] = static_cast<int64_t>(random.below(kVocabulary));
  Evidence evidence;
  evidence.calibration = std::make_shared<const Calibration>(make_calibration(ids, "random ids"));
  options.methods.get<HighImpactOptions>().tokens = ids.numel();
  const Stopwatch all;
  evidence.row_impacts = row_impacts_for(model, options.schemes, options, evidence);
  const double impact_seconds = all.seconds();
  const ChangeLosses losses = measure_change_losses(model, options, evidence);
  std::printf("%lld tokens: impact of rows %.1f s, %zu losses %.1f s, together %.1f s\n",
              static_cast<long long>(ids.numel()), impact_seconds, losses.indices.front().size(),
              all.seconds() - impact_seconds, all.seconds());
  remove_tree(directory);
}

}  // namespace

int main(int argc, char** argv) {
  try {
    Arguments arguments = parse(argc, argv);
    run(arguments);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "error: %s\n", error.what());
    return 1;
  }
  return 0;
}
