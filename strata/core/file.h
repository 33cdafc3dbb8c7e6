#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <string>

namespace strata {

// A file mapped for reading. Pages come in as they are touched and can be given back. While it lives, nothing
// that is written here takes its place.
class MappedFile {
 public:
  explicit MappedFile(const std::filesystem::path& path);
  ~MappedFile();
  MappedFile(MappedFile&& other) noexcept;
  MappedFile& operator=(MappedFile&& other) noexcept;
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;

  const std::byte* data() const { return data_; }
  size_t size() const { return size_; }
  const std::filesystem::path& path() const { return path_; }

  // Tells the system that these bytes are not needed again soon, so that they do not count as resident.
  void release(size_t offset, size_t length) const;

 private:
  std::filesystem::path path_;
  std::filesystem::path canonical_;
  std::byte* data_ = nullptr;
  size_t size_ = 0;
};

// A file written beside its target and renamed into place by commit(). Without commit(), or when anything
// throws, the unfinished file is removed and an earlier target stays as it was.
class OutputFile {
 public:
  explicit OutputFile(std::filesystem::path target);
  ~OutputFile();
  OutputFile(const OutputFile&) = delete;
  OutputFile& operator=(const OutputFile&) = delete;

  void write(const void* data, size_t size);                      // appends
  void write_at(uint64_t offset, const void* data, size_t size);  // overwrites bytes written before
  void pad_to(uint64_t alignment);                                // zeros up to a multiple of alignment
  uint64_t position() const { return position_; }
  const std::filesystem::path& path() const { return unfinished_; }  // where the bytes are until commit()
  void commit();

 private:
  std::filesystem::path target_, unfinished_;
  int descriptor_ = -1;
  uint64_t position_ = 0;
  bool committed_ = false;
};

// The same promise for a directory: files go to path(), commit() puts the whole directory in the target's
// place. An existing target is replaced only if it is empty or a model directory: with config.json and with
// no other files than such directories have (.json, .jinja, .model and .safetensors, merges.txt, licences).
class OutputDirectory {
 public:
  explicit OutputDirectory(std::filesystem::path target);
  ~OutputDirectory();
  OutputDirectory(const OutputDirectory&) = delete;
  OutputDirectory& operator=(const OutputDirectory&) = delete;

  const std::filesystem::path& path() const { return unfinished_; }
  void commit();

 private:
  std::filesystem::path target_, unfinished_;
  bool committed_ = false;
};

// What the constructors check first, to be asked before long work: that there is a name and its parent
// directory, that what stands there may be replaced, and that it is no file mapped for reading and no
// directory with one.
void require_output_file(const std::filesystem::path& target);
void require_output_directory(const std::filesystem::path& target);

// Throws if both are the same file, for inputs that are read once.
void require_other_file(const std::filesystem::path& output, const std::filesystem::path& input);

// Removes a file or a directory with all it holds; what cannot be removed stays. (By the system's own walk:
// programs linked with PyTorch's libtorch.so get a std::filesystem::remove_all from there, which crashes.)
void remove_tree(const std::filesystem::path& path) noexcept;

// A whole small file as text.
std::string read_text(const std::filesystem::path& path);

// Writes a whole small file through OutputFile.
void write_text(const std::filesystem::path& path, const std::string& text);

}  // namespace strata
