#include "strata/core/mapped_files.h"

#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <cstring>
#include <iterator>
#include <utility>

namespace strata {
namespace {

namespace fs = std::filesystem;

void write_error(const char* text) {
  if (write(STDERR_FILENO, text, std::strlen(text)) < 0) return;
}

// Calls nothing but what a handler may call, and what never waits.
void on_bus_error(int signal, siginfo_t* info, void*) {
  const char* name = MappedFiles::instance().name_at(info->si_addr);
  if (name == nullptr) {
    std::signal(signal, SIG_DFL);
    return;  // the access is made again, and ends the program
  }
  write_error("strata: ");
  write_error(name);
  write_error(
      " became shorter while it was read, or its disk failed; nothing was written; start again when it is "
      "whole\n");
  _exit(1);
}

}  // namespace

MappedFiles& MappedFiles::instance() {
  static MappedFiles files;
  return files;
}

void MappedFiles::add(const std::byte* data, One file) {
  const std::lock_guard<std::mutex> lock(mutex_);
  files_.emplace(data, std::move(file));
}

void MappedFiles::remove(const std::byte* data, const fs::path& canonical) {
  const std::lock_guard<std::mutex> lock(mutex_);
  const auto [begin, end] = files_.equal_range(data);
  const auto found =
      std::find_if(begin, end, [&](const auto& one) { return one.second.canonical == canonical; });
  if (found != end) files_.erase(found);
}

bool MappedFiles::contains(const fs::path& canonical) {
  const std::lock_guard<std::mutex> lock(mutex_);
  return !canonical.empty() && std::any_of(files_.begin(), files_.end(), [&](const auto& one) {
    return one.second.canonical == canonical;
  });
}

fs::path MappedFiles::one_within(const fs::path& directory) {
  const std::lock_guard<std::mutex> lock(mutex_);
  for (const auto& [data, one] : files_)
    if (std::mismatch(directory.begin(), directory.end(), one.canonical.begin(), one.canonical.end()).first ==
        directory.end())
      return one.canonical;
  return {};
}

const char* MappedFiles::name_at(const void* address) {
  if (!mutex_.try_lock()) return "a file";
  const auto* byte = static_cast<const std::byte*>(address);
  const auto next = files_.upper_bound(byte);
  const char* name = nullptr;
  if (next != files_.begin()) {
    const auto& [data, one] = *std::prev(next);
    if (data != nullptr && byte < data + one.size) name = one.path.c_str();
  }
  mutex_.unlock();
  return name;
}

void report_lost_pages() {
  MappedFiles::instance();
  struct sigaction action {};
  action.sa_sigaction = on_bus_error;
  action.sa_flags = SA_SIGINFO;
  sigaction(SIGBUS, &action, nullptr);
}

}  // namespace strata
