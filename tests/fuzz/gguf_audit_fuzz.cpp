// The reader that looks for faults in a .gguf file: where it finds none, the other reader opens the file.
#include "strata/gguf/audit.h"
#include "strata/gguf/file.h"
#include "tests/fuzz/fuzz_target.h"

STRATA_FUZZ_TARGET(gguf_audit) {
  const std::filesystem::path path = strata::fuzz_file("x.gguf", bytes);
  for (const std::string& fault : strata::gguf_faults(path))
    if (fault.find('\n') != std::string::npos) throw std::logic_error("a fault is not one line: " + fault);
}
