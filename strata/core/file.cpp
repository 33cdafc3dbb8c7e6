#include "strata/core/file.h"

#include <fcntl.h>
#include <ftw.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/asan_interface.h>
#endif

#include <algorithm>
#include <cerrno>
#include <climits>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <system_error>
#include <vector>

#include "strata/core/error.h"
#include "strata/core/interrupt.h"
#include "strata/core/mapped_files.h"

namespace strata {
namespace fs = std::filesystem;
namespace {

std::string reason(int error) {
  return std::generic_category().message(error);
}

constexpr const char* kEarlier = ".earlier";

// Names the machine, since processes of several may write to one disk, and the process.
std::string unfinished_ending(const std::string& process) {
  char host[HOST_NAME_MAX + 1] = {};
  gethostname(host, HOST_NAME_MAX);
  return fmt::format(".unfinished-{}-{}", host, process);
}

fs::path unfinished_name(const fs::path& target) {
  fs::path name = target;
  name += unfinished_ending(std::to_string(getpid()));
  return name;
}

// Whether a name is that of something unfinished whose process was killed. An earlier directory that was
// moved away belongs to it only where the target stands again.
bool is_abandoned(std::string name, const fs::path& target) {
  const std::string begin = target.filename().string() + unfinished_ending("");
  if (name.compare(0, begin.size(), begin) != 0) return false;
  const std::string process = name.substr(begin.size());
  char* end = nullptr;
  const long number = std::strtol(process.c_str(), &end, 10);
  const bool of_target = *end == '\0' || (std::strcmp(end, kEarlier) == 0 && fs::exists(target));
  return of_target && number > 0 && kill(static_cast<pid_t>(number), 0) != 0 && errno == ESRCH;
}

// Removes what processes that were killed left of this target.
void remove_abandoned(const fs::path& target) {
  std::error_code error;
  std::vector<fs::path> left;
  for (const auto& entry : fs::directory_iterator(fs::absolute(target).parent_path(), error))
    if (is_abandoned(entry.path().filename().string(), target)) left.push_back(entry.path());
  for (const fs::path& path : left) remove_tree(path);
}

void require_parent(const fs::path& target) {
  if (target.empty()) fail("the name of what is to be written is empty");
  const fs::path parent = fs::absolute(target).parent_path();
  if (!fs::is_directory(parent))
    fail("cannot write {}: the directory {} does not exist; make it first", target.string(), parent.string());
}

// Under AddressSanitizer, what lies in a mapped file's last page behind its end is not to be read either.
void guard_end([[maybe_unused]] const std::byte* data, [[maybe_unused]] size_t size,
               [[maybe_unused]] bool guarded) {
#ifdef __SANITIZE_ADDRESS__
  const size_t page = static_cast<size_t>(sysconf(_SC_PAGESIZE)), rest = (page - size % page) % page;
  if (guarded)
    __asan_poison_memory_region(data + size, rest);
  else
    __asan_unpoison_memory_region(data + size, rest);
#endif
}

fs::path canonical_or_empty(const fs::path& path) {
  std::error_code error;
  const fs::path canonical = fs::canonical(path, error);
  return error ? fs::path() : canonical;
}

bool belongs_to_a_model(const fs::directory_entry& entry) {
  const std::string name = entry.path().filename(), ending = entry.path().extension();
  return entry.is_regular_file() &&
         (ending == ".json" || ending == ".jinja" || ending == ".model" || ending == ".safetensors" ||
          name == "merges.txt" || name == "LICENSE" || name == "LICENSE.txt" || name == "NOTICE");
}

fs::path without_slash(const fs::path& target) {
  return target.has_filename() ? target : target.parent_path();
}

}  // namespace

void require_output_file(const fs::path& target) {
  require_parent(target);
  if (fs::is_directory(target)) fail("cannot write {}: it is a directory", target.string());
  if (MappedFiles::instance().contains(canonical_or_empty(target)))
    fail("cannot write {}: it is being read; choose another name", target.string());
}

void require_output_directory(const fs::path& target) {
  require_parent(without_slash(target));
  if (!fs::exists(target)) return;
  if (!fs::is_directory(target))
    fail("cannot write the directory {}: a file of that name exists", target.string());
  const fs::path read = MappedFiles::instance().one_within(canonical_or_empty(target));
  if (!read.empty())
    fail("cannot write {}: {} in it is being read; choose another name", target.string(), read.string());
  if (!fs::is_empty(target) && !fs::exists(target / "config.json"))
    fail("cannot write {}: the directory exists and does not hold a model; choose another name",
         target.string());
  for (const fs::directory_entry& entry : fs::directory_iterator(target))
    if (!belongs_to_a_model(entry))
      fail(
          "cannot write {}: the directory exists and holds {}, which is no part of a model; choose another "
          "name",
          target.string(), entry.path().filename().string());
}

void require_other_file(const fs::path& output, const fs::path& input) {
  std::error_code ignored;
  if (fs::equivalent(output, input, ignored))
    fail("cannot write {}: it is {}, which is read; choose another name", output.string(), input.string());
}

MappedFile::MappedFile(const fs::path& path) : path_(path) {
  const int descriptor = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (descriptor < 0) fail("cannot open {}: {}", path.string(), reason(errno));
  struct stat status {};
  if (fstat(descriptor, &status) != 0 || !S_ISREG(status.st_mode)) {
    close(descriptor);
    fail("{} is not a regular file", path.string());
  }
  size_ = static_cast<size_t>(status.st_size);
  if (size_ > 0) {
    void* address = mmap(nullptr, size_, PROT_READ, MAP_SHARED, descriptor, 0);
    const int error = errno;
    if (address == MAP_FAILED) {
      close(descriptor);
      fail("cannot map {}: {}", path.string(), reason(error));
    }
    data_ = static_cast<std::byte*>(address);
    guard_end(data_, size_, true);
  }
  close(descriptor);
  canonical_ = canonical_or_empty(path);
  MappedFiles::instance().add(data_, {size_, path_, canonical_});
}

MappedFile::~MappedFile() {
  MappedFiles::instance().remove(data_, canonical_);
  if (data_ != nullptr) {
    guard_end(data_, size_, false);
    munmap(data_, size_);
  }
}

MappedFile::MappedFile(MappedFile&& other) noexcept {
  *this = std::move(other);
}

MappedFile& MappedFile::operator=(MappedFile&& other) noexcept {
  std::swap(path_, other.path_);
  std::swap(canonical_, other.canonical_);
  std::swap(data_, other.data_);
  std::swap(size_, other.size_);
  return *this;
}

void MappedFile::release(size_t offset, size_t length) const {
  const size_t page = static_cast<size_t>(sysconf(_SC_PAGESIZE));
  // Whoever reads piece after piece gives back the page where the last piece ended with the next one.
  const size_t begin = offset / page * page;
  const size_t end = (offset + length) / page * page;
  if (end > begin) madvise(data_ + begin, end - begin, MADV_DONTNEED);
}

OutputFile::OutputFile(fs::path target) : target_(std::move(target)), unfinished_(unfinished_name(target_)) {
  require_output_file(target_);
  remove_abandoned(target_);
  descriptor_ = open(unfinished_.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
  if (descriptor_ < 0) fail("cannot write {}: {}", target_.string(), reason(errno));
}

OutputFile::~OutputFile() {
  if (descriptor_ >= 0) close(descriptor_);
  if (!committed_) unlink(unfinished_.c_str());
}

void OutputFile::write(const void* data, size_t size) {
  write_at(position_, data, size);
  position_ += size;
}

void OutputFile::write_at(uint64_t offset, const void* data, size_t size) {
  const char* bytes = static_cast<const char*>(data);
  while (size > 0) {
    check_interrupted();
    const size_t piece = std::min<size_t>(size, 64u << 20);
    const ssize_t written = pwrite(descriptor_, bytes, piece, static_cast<off_t>(offset));
    if (written < 0) {
      if (errno == EINTR) continue;
      fail("cannot write {}: {}", target_.string(), reason(errno));
    }
    bytes += written;
    offset += static_cast<uint64_t>(written);
    size -= static_cast<size_t>(written);
  }
}

void OutputFile::pad_to(uint64_t alignment) {
  static const char zeros[256] = {};
  while (position_ % alignment != 0)
    write(zeros, std::min<uint64_t>(sizeof(zeros), alignment - position_ % alignment));
}

void OutputFile::commit() {
  const int descriptor = descriptor_;
  descriptor_ = -1;
  if (fsync(descriptor) != 0 || close(descriptor) != 0)
    fail("cannot write {}: {}", target_.string(), reason(errno));
  if (rename(unfinished_.c_str(), target_.c_str()) != 0)
    fail("cannot put {} into place: {}", target_.string(), reason(errno));
  committed_ = true;
}

OutputDirectory::OutputDirectory(fs::path target)
    : target_(without_slash(target)), unfinished_(unfinished_name(target_)) {
  require_output_directory(target_);
  remove_abandoned(target_);
  std::error_code error;
  fs::create_directory(unfinished_, error);
  if (error) fail("cannot write {}: {}", target_.string(), error.message());
}

OutputDirectory::~OutputDirectory() {
  if (!committed_) remove_tree(unfinished_);
}

void OutputDirectory::commit() {
  std::error_code error;
  if (fs::exists(target_) &&
      renameat2(AT_FDCWD, unfinished_.c_str(), AT_FDCWD, target_.c_str(), RENAME_EXCHANGE) == 0) {
    committed_ = true;
    remove_tree(unfinished_);  // what stood there earlier
    return;
  }
  fs::path earlier;  // file systems that cannot exchange two names
  if (fs::exists(target_)) {
    earlier = unfinished_;
    earlier += kEarlier;
    fs::rename(target_, earlier, error);
    if (error) fail("cannot replace {}: {}", target_.string(), error.message());
  }
  fs::rename(unfinished_, target_, error);
  if (error) {
    if (!earlier.empty()) fs::rename(earlier, target_);
    fail("cannot put {} into place: {}", target_.string(), error.message());
  }
  committed_ = true;
  if (!earlier.empty()) remove_tree(earlier);
}

void remove_tree(const fs::path& path) noexcept {
  constexpr int kOpenDirectories = 16;
  nftw(
      path.c_str(),
      [](const char* entry, const struct stat*, int, struct FTW*) { return ::remove(entry), 0; },
      kOpenDirectories, FTW_DEPTH | FTW_PHYS);
}

std::string read_text(const fs::path& path) {
  if (fs::is_directory(path)) fail("cannot read {}: it is a directory", path.string());
  std::ifstream stream(path, std::ios::binary);
  if (!stream) fail("cannot open {}: {}", path.string(), reason(errno));
  std::string text;
  char piece[1 << 16];
  while (stream.read(piece, sizeof piece), stream.gcount() > 0)
    text.append(piece, static_cast<size_t>(stream.gcount()));
  if (stream.bad()) fail("cannot read {}: {}", path.string(), reason(errno));
  return text;
}

void write_text(const fs::path& path, const std::string& text) {
  OutputFile file(path);
  file.write(text.data(), text.size());
  file.commit();
}

}  // namespace strata
