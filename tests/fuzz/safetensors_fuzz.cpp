// A .safetensors file: its header, and all tensors.
#include "strata/checkpoint/checkpoint.h"
#include "tests/fuzz/fuzz_target.h"

STRATA_FUZZ_TARGET(safetensors) {
  const auto checkpoint = strata::open_safetensors(strata::fuzz_file("x.safetensors", bytes));
  for (const strata::TensorInfo& tensor : checkpoint->tensors()) {
    std::string stored(tensor.bytes, '\0');
    checkpoint->read_bytes(tensor, 0, tensor.bytes, reinterpret_cast<std::byte*>(stored.data()));
    if (tensor.type[0] == 'F' || tensor.type[0] == 'B') checkpoint->read(tensor.name);
  }
}
