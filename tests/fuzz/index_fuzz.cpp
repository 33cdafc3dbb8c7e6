// model.safetensors.index.json beside two shards with the tensors "a" and "b".
#include "strata/checkpoint/checkpoint.h"
#include "tests/fuzz/fuzz_target.h"
#include "tests/support/tiny_model.h"

namespace {

bool write_shards() {
  for (const std::string name : {"a", "b"}) {
    strata::TinyWeights weights;
    weights.names = {name};
    weights.shapes[name] = {2};
    weights.values[name] = {1, 2};
    strata::write_safetensors(strata::fuzz_directory() / (name + ".safetensors"), weights,
                              strata::DType::F32);
  }
  return true;
}

}  // namespace

STRATA_FUZZ_TARGET(index) {
  static const bool written = write_shards();
  (void)written;
  const auto checkpoint = strata::open_safetensors(strata::fuzz_file("model.safetensors.index.json", bytes));
  for (const strata::TensorInfo& tensor : checkpoint->tensors()) checkpoint->read(tensor.name);
}
