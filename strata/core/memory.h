#pragma once

#include <cstdint>

namespace strata {

// Lets the C library keep what is freed for what is asked for next, up to 1 GiB a thread, in the place of
// giving it back to the system: large tensors that come and go otherwise cost as much time in the kernel as
// in the computation. Does nothing where the library is not GNU's.
void keep_freed_memory();

// Bytes of memory that programs can still take here, what the system keeps of files included: those of the
// machine, or of the group of processes (cgroup v2) that this one is limited with, where those are fewer.
uint64_t free_memory();

}  // namespace strata
