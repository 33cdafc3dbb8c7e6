#include "strata/core/memory.h"

#include <malloc.h>

#include <algorithm>
#include <fstream>
#include <limits>
#include <string>

namespace strata {
namespace {

constexpr uint64_t kUnlimited = std::numeric_limits<uint64_t>::max();

// The number in a file of one, or behind a word in a file of lines; kUnlimited where there is none.
uint64_t number_in(const std::string& path, const std::string& word = "") {
  std::ifstream file(path);
  std::string found;
  while (!word.empty() && file >> found && found != word) {
  }
  uint64_t number = 0;
  return file >> number ? number : kUnlimited;
}

}  // namespace

void keep_freed_memory() {
#ifdef __GLIBC__
  constexpr int kLargestKept = 32 << 20, kKept = 1 << 30;
  [[maybe_unused]] static const bool once =
      mallopt(M_MMAP_THRESHOLD, kLargestKept) == 1 && mallopt(M_TRIM_THRESHOLD, kKept) == 1;
#endif
}

uint64_t free_memory() {
  uint64_t free = number_in("/proc/meminfo", "MemAvailable:");
  if (free != kUnlimited) free *= 1024;
  const std::string group = "/sys/fs/cgroup/memory.";
  const uint64_t limit = number_in(group + "max"), used = number_in(group + "current");
  // Pages of files are given back when the group needs them.
  const uint64_t files = number_in(group + "stat", "inactive_file");
  if (limit == kUnlimited || used == kUnlimited) return free;
  const uint64_t held = files == kUnlimited ? used : used - std::min(used, files);
  return std::min(free, limit - std::min(limit, held));
}

}  // namespace strata
