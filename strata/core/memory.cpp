#include "strata/core/memory.h"

#include <malloc.h>

namespace strata {

void keep_freed_memory() {
#ifdef __GLIBC__
  constexpr int kLargestKept = 32 << 20, kKept = 1 << 30;
  [[maybe_unused]] static const bool once =
      mallopt(M_MMAP_THRESHOLD, kLargestKept) == 1 && mallopt(M_TRIM_THRESHOLD, kKept) == 1;
#endif
}

}  // namespace strata
