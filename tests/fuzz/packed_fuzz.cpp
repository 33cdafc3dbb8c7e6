// A packed directory: config.json, a zero byte, model.safetensors.
#include "strata/checkpoint/packed_checkpoint.h"
#include "tests/fuzz/fuzz_target.h"

STRATA_FUZZ_TARGET(packed) {
  const size_t end = std::min(bytes.find('\0'), bytes.size());
  const auto config = strata::read_json(strata::fuzz_file("config.json", bytes.substr(0, end)));
  const auto weights = strata::fuzz_file("model.safetensors", bytes.substr(std::min(end + 1, bytes.size())));
  const auto checkpoint = strata::open_packed(strata::open_safetensors(weights), config, "config.json");
  for (const strata::TensorInfo& tensor : checkpoint->tensors()) checkpoint->read(tensor.name);
}
