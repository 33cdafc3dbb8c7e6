// Times the method kl: the KL divergence of every matrix of a model in every scheme. Calibration tokens are
// random ids, which take as long as any others.
#include <ATen/ATen.h>
#include <sys/resource.h>

#include <cstdio>
#include <cstdlib>
#include <exception>
#include <string>

#include "strata/core/random.h"
#include "strata/core/stopwatch.h"
#include "strata/core/threads.h"
#include "strata/device/device.h"
#include "strata/sensitivity/kl.h"
#include "strata/sensitivity/method.h"

namespace {

[[noreturn]] void usage() {
  std::fprintf(stderr,
               "usage: bench_sensitivity_kl MODEL [--schemes LIST] [--tokens N] [--window N] [--device "
               "cpu|cuda]\n"
               "       [--precision float32|bfloat16] [--quantizer rtn|hqq] [--threads N]\n");
  std::exit(2);
}

struct Arguments {
  std::string model, schemes = "w2g128,w2g64,w3g128,w3g64,w4g128,w4g64,w6g128,w8g128";
  int64_t tokens = 4096, window = 512;
  strata::SensitivityOptions options;
};

Arguments parse(int argc, char** argv) {
  Arguments arguments;
  if (argc < 2 || argv[1][0] == '-') usage();
  arguments.model = argv[1];
  for (int i = 2; i + 1 < argc; i += 2) {
    const std::string name = argv[i], value = argv[i + 1];
    if (name == "--schemes")
      arguments.schemes = value;
    else if (name == "--tokens")
      arguments.tokens = std::atoll(value.c_str());
    else if (name == "--window")
      arguments.window = std::atoll(value.c_str());
    else if (name == "--device")
      arguments.options.device = strata::parse_device(value);
    else if (name == "--precision")
      arguments.options.methods.get<strata::KlOptions>().dtype =
          value == "bfloat16" ? at::kBFloat16 : at::kFloat;
    else if (name == "--quantizer")
      arguments.options.quantizer.name = value;
    else if (name == "--threads")
      strata::set_thread_count(std::atoi(value.c_str()));
    else
      usage();
  }
  if (argc % 2 != 0 || arguments.tokens < 2 || arguments.window < 2) usage();
  return arguments;
}

double peak_gib() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  return static_cast<double>(usage.ru_maxrss) / (1 << 20);
}

void run(Arguments& arguments) {
  const strata::Model model = strata::open_model(arguments.model);
  strata::SensitivityOptions& options = arguments.options;
  options.schemes = strata::parse_schemes(arguments.schemes);
  options.methods.get<strata::KlOptions>().tokens = arguments.tokens;
  strata::Random random(1);
  at::Tensor ids = at::empty({(arguments.tokens - 1) / arguments.window + 1, arguments.window}, at::kLong);
  for (int64_t i = 0; i < ids.numel(); ++i)
    ids.data_ptr<int64_t>()[i] =
        static_cast<int64_t>(random.below(static_cast<uint64_t>(model.config.vocab_size)));
  strata::Evidence evidence;
  evidence.calibration =
      std::make_shared<const strata::Calibration>(strata::make_calibration(ids, "random ids"));
  const strata::Stopwatch stopwatch;
  const strata::Scores scores = strata::score(model, "kl", options, evidence);
  const double seconds = stopwatch.seconds();
  std::printf("%zu matrices x %zu schemes on %lld tokens: %.1f s, %.2f GiB of host memory at most\n",
              model.modules.size(), options.schemes.size(), static_cast<long long>(ids.numel()), seconds,
              peak_gib());
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
