#pragma once

namespace strata {

// Lets the C library keep what is freed for what is asked for next, up to 1 GiB a thread, in the place of
// giving it back to the system: large tensors that come and go otherwise cost as much time in the kernel as
// in the computation. Does nothing where the library is not GNU's.
void keep_freed_memory();

}  // namespace strata
