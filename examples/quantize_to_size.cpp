// Quantizes a model to a GGUF file of at most the given size and prints what that loses on a text.
//   quantize_to_size models/tiny-llama 6.5MiB small.gguf data/books/the-man-who-was-thursday.txt 2048
#include <strata/strata.h>

#include <cstdio>
#include <string>

int main(int argc, char** argv) {
  if (argc != 6) {
    std::fprintf(stderr, "usage: %s MODEL SIZE OUTPUT.gguf TEXT TOKENS\n", argv[0]);
    return 2;
  }
  try {
    strata::set_progress_style(strata::ProgressStyle::Quiet);
    strata::QuantizeRequest request;
    request.model = argv[1];
    request.allocator.budget.bytes = strata::parse_bytes(argv[2]);
    request.output = argv[3];
    request.effort = "quick";  // looks at weights alone; "standard" and "best" lose less and take longer
    request.text = argv[4];
    request.evaluation.max_tokens = std::stoll(argv[5]);

    const strata::QuantizeResult result = strata::quantize(request);
    std::printf("%s: %s\n", result.exported.path.c_str(),
                strata::format_bytes(result.exported.file_bytes).c_str());
    for (const strata::Measurement& measured : result.measurements)
      std::printf("%-14s PPL %8.3f  KLD %.4f\n", measured.name.c_str(), measured.evaluation.ppl,
                  measured.evaluation.kld.value_or(0));
    return 0;
  } catch (const strata::Error& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
  }
}
