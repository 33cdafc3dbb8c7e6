#pragma once

#include <cstdint>
#include <functional>

namespace strata {

// Number of worker threads; 0 takes one per core this process may use. Set once at start-up.
void set_thread_count(int count);
int thread_count();

// Calls body(begin, end) for consecutive chunks of [0, count) of at most `grain` items. The chunks do not
// depend on the number of threads, so sums kept per chunk and added in order are reproducible. The first
// exception of a body is rethrown here after all threads have stopped.
void parallel_for(int64_t count, int64_t grain, const std::function<void(int64_t begin, int64_t end)>& body);

}  // namespace strata
