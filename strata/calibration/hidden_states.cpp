#include "strata/calibration/hidden_states.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <string>
#include <utility>

#include "strata/core/error.h"

namespace strata {
namespace {

// A file that has no name any more: the system removes it when the process ends, however it does.
int open_nameless_file(const std::filesystem::path& directory) {
  const std::filesystem::path parent = directory.empty() ? std::filesystem::temp_directory_path() : directory;
  std::string name = (parent / "strata-hidden-states-XXXXXX").string();
  const int descriptor = mkstemp(name.data());
  if (descriptor < 0)
    fail("hidden states of the calibration set do not fit into memory, and {} cannot take them: {}",
         parent.string(), std::strerror(errno));
  unlink(name.c_str());
  return descriptor;
}

// Repeats pread or pwrite until all bytes are through.
template <class Transfer, class Byte>
void transfer_all(const Transfer& transfer, int descriptor, Byte* data, int64_t size, int64_t offset,
                  const char* what) {
  while (size > 0) {
    const ssize_t done = transfer(descriptor, data, static_cast<size_t>(size), offset);
    if (done < 0 && errno == EINTR) continue;
    if (done <= 0)
      fail("{} hidden states of the calibration set in a temporary file failed: {}", what,
           done == 0 ? "the file ended early" : std::strerror(errno));
    data += done;
    size -= done;
    offset += done;
  }
}

}  // namespace

HiddenStates::HiddenStates(int64_t blocks, int64_t window, int64_t hidden_size,
                           const HiddenStateOptions& options)
    : blocks_(blocks), window_(window), hidden_size_(hidden_size), options_(options) {
  const int64_t elements = blocks * window * hidden_size;
  if (elements * 4 > options.memory_limit) stored_type_ = at::kBFloat16;
  if (elements * 2 > options.memory_limit)
    descriptor_ = open_nameless_file(options.directory);
  else
    memory_ = at::empty({blocks, window, hidden_size},
                        at::TensorOptions().dtype(stored_type_).device(options.device));
}

HiddenStates::~HiddenStates() {
  if (descriptor_ >= 0) close(descriptor_);
}

HiddenStates::HiddenStates(HiddenStates&& other) noexcept
    : blocks_(other.blocks_),
      window_(other.window_),
      hidden_size_(other.hidden_size_),
      options_(std::move(other.options_)),
      stored_type_(other.stored_type_),
      memory_(std::move(other.memory_)),
      descriptor_(std::exchange(other.descriptor_, -1)) {}

HiddenStates& HiddenStates::operator=(HiddenStates&& other) noexcept {
  std::swap(blocks_, other.blocks_);
  std::swap(window_, other.window_);
  std::swap(hidden_size_, other.hidden_size_);
  std::swap(options_, other.options_);
  std::swap(stored_type_, other.stored_type_);
  std::swap(memory_, other.memory_);
  std::swap(descriptor_, other.descriptor_);
  return *this;
}

at::Tensor HiddenStates::read(int64_t first, int64_t count) const {
  if (!on_disk()) return memory_.narrow(0, first, count).to(options_.device, options_.dtype);
  at::Tensor staging = at::empty({count, window_, hidden_size_}, at::kBFloat16);
  const int64_t block_bytes = window_ * hidden_size_ * 2;
  transfer_all(pread, descriptor_, static_cast<char*>(staging.data_ptr()), count * block_bytes,
               first * block_bytes, "reading");
  return staging.to(options_.device, options_.dtype);
}

void HiddenStates::write(int64_t first, const at::Tensor& values) {
  if (!on_disk()) {
    memory_.narrow(0, first, values.size(0)).copy_(values);
    return;
  }
  const at::Tensor staging = values.to(at::kCPU, at::kBFloat16).contiguous();
  const int64_t block_bytes = window_ * hidden_size_ * 2;
  transfer_all(pwrite, descriptor_, static_cast<const char*>(staging.data_ptr()),
               values.size(0) * block_bytes, first * block_bytes, "keeping");
}

}  // namespace strata
