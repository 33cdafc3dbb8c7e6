// What strata sees in GGUF files: gguf_tool FILE... prints a line of JSON for each, with the faults that
// `strata verify` finds and the tensors that `strata inspect` shows.
#include <fmt/format.h>

#include "strata/core/json.h"
#include "strata/core/progress.h"
#include "strata/gguf/file.h"
#include "strata/pipeline/verify.h"

int main(int argc, char** argv) {
  using namespace strata;
  set_progress_style(ProgressStyle::Quiet);
  for (int i = 1; i < argc; ++i) {
    Json line = {
        {"file", argv[i]}, {"faults", verify(argv[i], std::nullopt).faults}, {"tensors", Json::array()}};
    const GgufFile file(argv[i]);
    for (const GgufTensor& tensor : file.tensors())
      line["tensors"].push_back({tensor.name, traits_of(tensor.type).name, tensor.shape, tensor.bytes()});
    fmt::print("{}\n", line.dump());
  }
}
