// Token ids in an .npy file or, where the bytes begin otherwise, in a .safetensors file.
#include "strata/calibration/token_files.h"
#include "tests/fuzz/fuzz_target.h"

STRATA_FUZZ_TARGET(token_ids) {
  if (bytes.substr(0, 6) == "\x93NUMPY")
    strata::read_npy_ids(strata::fuzz_file("x.npy", bytes));
  else
    strata::read_safetensors_ids(strata::fuzz_file("x.safetensors", bytes));
}
