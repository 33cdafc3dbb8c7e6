#include "strata/core/threads.h"

#include <omp.h>
#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <exception>
#include <mutex>

#include "strata/core/ranks.h"

namespace strata {
namespace {

// Ranks that share a machine share its cores, unless their launcher has bound each to some of them.
int cores_available() {
  cpu_set_t set;
  const int cores =
      sched_getaffinity(0, sizeof(set), &set) == 0 ? CPU_COUNT(&set) : std::max(1, omp_get_num_procs());
  const bool bound = cores < sysconf(_SC_NPROCESSORS_ONLN);
  return std::max(1, bound ? cores : cores / launched_ranks_of_host());
}

int& configured_count() {
  static int count = cores_available();
  return count;
}

}  // namespace

void set_thread_count(int count) {
  configured_count() = count > 0 ? count : cores_available();
}

int thread_count() {
  return configured_count();
}

void parallel_for(int64_t count, int64_t grain, const std::function<void(int64_t, int64_t)>& body) {
  if (count <= 0) return;
  grain = std::max<int64_t>(1, grain);
  const int64_t chunks = (count + grain - 1) / grain;
  std::atomic<bool> stop{false};
  std::exception_ptr error;
  std::mutex error_mutex;
  const int threads = static_cast<int>(std::min<int64_t>(thread_count(), chunks));
#pragma omp parallel for schedule(dynamic, 1) num_threads(threads)
  for (int64_t chunk = 0; chunk < chunks; ++chunk) {
    if (stop.load(std::memory_order_relaxed)) continue;
    try {
      body(chunk * grain, std::min(count, (chunk + 1) * grain));
    } catch (...) {
      std::lock_guard<std::mutex> lock(error_mutex);
      if (!error) error = std::current_exception();
      stop = true;
    }
  }
  if (error) std::rethrow_exception(error);
}

}  // namespace strata
