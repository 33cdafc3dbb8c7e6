// The layout is that of ZIP archives (PKWARE's APPNOTE, sections 4.3.7, 4.3.12 and 4.3.16).
#include "strata/vision/npz.h"

#include <string_view>

#include "strata/core/error.h"
#include "strata/core/file.h"
#include "strata/core/text.h"
#include "strata/vision/image_files.h"

namespace strata::vision {
namespace {

constexpr size_t kEnd = 22, kEntry = 46, kLocal = 30;  // bytes of records without what follows them
constexpr size_t kLongestComment = 65535;

class Archive {
 public:
  explicit Archive(const std::filesystem::path& path) : file_(path) {}

  std::map<std::string, at::Tensor> read() const {
    const size_t end = find_end();
    size_t at = number(end + 16, 4);
    std::map<std::string, at::Tensor> arrays;
    for (size_t count = number(end + 10, 2); count > 0; --count) {
      if (!starts_with(at, "PK\1\2")) refuse("its list of arrays breaks off");
      const size_t name_length = number(at + 28, 2);
      std::string name(bytes(at + kEntry, name_length));
      if (number(at + 10, 2) != 0)
        refuse("the array '" + printable(name) + "' is compressed; save it with numpy.savez");
      const std::string_view data = contents(number(at + 42, 4), number(at + 24, 4));
      if (name.size() > 4 && name.compare(name.size() - 4, 4, ".npy") == 0) name.resize(name.size() - 4);
      arrays[name] = parse_npy(data, file_.path().string() + ": the array '" + printable(name) + "'");
      at += kEntry + name_length + number(at + 30, 2) + number(at + 32, 2);
    }
    return arrays;
  }

 private:
  [[noreturn]] void refuse(const std::string& reason) const {
    fail("{} is no .npz file that can be read: {}", file_.path().string(), reason);
  }

  std::string_view bytes(size_t at, size_t count) const {
    if (at > file_.size() || count > file_.size() - at) refuse("it is truncated");
    return {reinterpret_cast<const char*>(file_.data()) + at, count};
  }

  bool starts_with(size_t at, std::string_view signature) const {
    return at <= file_.size() && file_.size() - at >= signature.size() &&
           bytes(at, signature.size()) == signature;
  }

  size_t number(size_t at, size_t count) const {
    const std::string_view text = bytes(at, count);
    size_t value = 0;
    for (size_t i = count; i-- > 0;) value = value << 8 | static_cast<unsigned char>(text[i]);
    return value;
  }

  // Where the record at the archive's end begins, which a comment may follow.
  size_t find_end() const {
    for (size_t back = kEnd; back <= kEnd + kLongestComment && back <= file_.size(); ++back)
      if (starts_with(file_.size() - back, "PK\5\6")) return file_.size() - back;
    refuse("it has no list of arrays at its end");
  }

  std::string_view contents(size_t at, size_t size) const {
    if (!starts_with(at, "PK\3\4")) refuse("an array is not where its list says");
    return bytes(at + kLocal + number(at + 26, 2) + number(at + 28, 2), size);
  }

  MappedFile file_;
};

}  // namespace

std::map<std::string, at::Tensor> read_npz(const std::filesystem::path& path) {
  return Archive(path).read();
}

}  // namespace strata::vision
