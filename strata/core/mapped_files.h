#pragma once

#include <cstddef>
#include <filesystem>
#include <map>
#include <mutex>

namespace strata {

// All files that are mapped now (MappedFile), by where their bytes begin.
class MappedFiles {
 public:
  struct One {
    size_t size;
    std::filesystem::path path, canonical;
  };

  static MappedFiles& instance();

  void add(const std::byte* data, One file);
  void remove(const std::byte* data, const std::filesystem::path& canonical);

  bool contains(const std::filesystem::path& canonical);
  std::filesystem::path one_within(const std::filesystem::path& directory);  // empty if none is

  // The name of the file that is mapped at this address, for the handler of a signal; null where there is
  // none.
  const char* name_at(const void* address);

 private:
  std::mutex mutex_;
  std::multimap<const std::byte*, One> files_;
};

// Lets the program end with one sentence where a mapped file became shorter, or its disk failed, while it is
// read, which is the signal SIGBUS. For programs; a library leaves signals alone.
void report_lost_pages();

}  // namespace strata
