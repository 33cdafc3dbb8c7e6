// A PNG, an array of NumPy or, where the bytes begin otherwise, a JPEG.
#include "strata/vision/image_files.h"
#include "tests/fuzz/fuzz_target.h"

STRATA_FUZZ_TARGET(image) {
  if (bytes.substr(0, 6) == "\x93NUMPY")
    strata::vision::read_npy(strata::fuzz_file("x.npy", bytes));
  else
    strata::vision::decode_image(
        strata::fuzz_file(bytes.substr(0, 4) == "\x89PNG" ? "x.png" : "x.jpg", bytes));
}
