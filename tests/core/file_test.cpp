#include "strata/core/file.h"

#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>
#include <csignal>

#include <cstring>

#include "strata/core/error.h"
#include "strata/core/mapped_files.h"
#include "tests/support/temporary_directory.h"

namespace strata {
namespace {
namespace fs = std::filesystem;

template <class Action>
std::string error_of(Action action) {
  try {
    action();
  } catch (const Error& error) {
    return error.what();
  }
  ADD_FAILURE() << "no error was thrown";
  return {};
}

bool has(const std::string& message, const std::string& part) {
  return message.find(part) != std::string::npos;
}

uint64_t resident_bytes() {
  const std::string status = read_text("/proc/self/statm");
  return std::stoull(status.substr(status.find(' ') + 1)) * static_cast<uint64_t>(sysconf(_SC_PAGESIZE));
}

TEST(MappedFile, ShowsTheBytes) {
  TemporaryDirectory directory;
  write_text(directory / "x", "hello");
  MappedFile file(directory / "x");
  EXPECT_EQ(file.size(), 5u);
  EXPECT_EQ(std::memcmp(file.data(), "hello", 5), 0);
  const MappedFile moved = std::move(file);
  EXPECT_EQ(std::memcmp(moved.data(), "hello", 5), 0);
  EXPECT_EQ(moved.path(), directory / "x");
}

TEST(MappedFile, EmptyMissingAndOtherThings) {
  TemporaryDirectory directory;
  write_text(directory / "empty", "");
  EXPECT_EQ(MappedFile(directory / "empty").size(), 0u);
  EXPECT_TRUE(has(error_of([&] { MappedFile file(directory / "none"); }), "none"));
  EXPECT_TRUE(has(error_of([&] { MappedFile file(directory.path()); }), "not a regular file"));
}

TEST(MappedFile, ReleasedPagesAreNotResidentAndComeBack) {
  TemporaryDirectory directory;
  constexpr size_t kSize = 32 << 20, kPiece = 100'000;  // pieces that do not end at pages
  write_text(directory / "x", std::string(kSize, 'a'));
  const MappedFile file(directory / "x");
  const uint64_t before = resident_bytes();
  uint64_t largest = 0, sum = 0;
  for (size_t begin = 0; begin < kSize; begin += kPiece) {
    const size_t length = std::min(kPiece, kSize - begin);
    for (size_t i = 0; i < length; ++i) sum += static_cast<uint64_t>(file.data()[begin + i]);
    file.release(begin, length);
    largest = std::max(largest, resident_bytes());
  }
  EXPECT_EQ(sum, kSize * 'a');
  EXPECT_LT(largest, before + (8 << 20)) << "of a file of 32 MiB";
  EXPECT_EQ(file.data()[0], std::byte{'a'});
}

TEST(OutputFile, AppearsOnlyWhenCommitted) {
  TemporaryDirectory directory;
  write_text(directory / "x", "earlier");
  {
    OutputFile file(directory / "x");
    file.write("new", 3);
    EXPECT_EQ(read_text(directory / "x"), "earlier");
  }
  EXPECT_EQ(read_text(directory / "x"), "earlier");
  {
    OutputFile file(directory / "x");
    file.write("abc", 3);
    file.pad_to(8);
    EXPECT_EQ(file.position(), 8u);
    file.write_at(1, "XY", 2);
    file.write("z", 1);
    file.commit();
  }
  EXPECT_EQ(read_text(directory / "x"), std::string("aXY\0\0\0\0\0z", 9));
  EXPECT_EQ(std::distance(fs::directory_iterator(directory.path()), {}), 1) << "nothing unfinished stays";
}

TEST(OutputFile, TargetsThatCannotBeAreNamed) {
  TemporaryDirectory directory;
  EXPECT_TRUE(has(error_of([&] { OutputFile file(directory / "none" / "x"); }), "does not exist"));
  EXPECT_TRUE(has(error_of([&] { OutputFile file(directory.path()); }), "is a directory"));
}

TEST(OutputFile, AFullDiskLeavesNothing) {
  TemporaryDirectory directory;
  // A limit on the size of files stands for a full disk.
  struct rlimit earlier {};
  getrlimit(RLIMIT_FSIZE, &earlier);
  signal(SIGXFSZ, SIG_IGN);
  const struct rlimit small = {10000, earlier.rlim_max};
  setrlimit(RLIMIT_FSIZE, &small);
  const std::string message = error_of([&] {
    OutputFile file(directory / "x");
    const std::string data(100000, 'a');
    file.write(data.data(), data.size());
    file.commit();
  });
  setrlimit(RLIMIT_FSIZE, &earlier);
  signal(SIGXFSZ, SIG_DFL);
  EXPECT_TRUE(has(message, "cannot write")) << message;
  EXPECT_TRUE(fs::is_empty(directory.path()));
}

TEST(OutputDirectory, AppearsOnlyWhenCommitted) {
  TemporaryDirectory directory;
  const fs::path target = directory / "model";
  {
    OutputDirectory output(target);
    write_text(output.path() / "config.json", "1");
  }
  EXPECT_TRUE(fs::is_empty(directory.path()));
  for (const std::string content : {"1", "2"}) {  // the second replaces the first
    OutputDirectory output(target);
    write_text(output.path() / "config.json", content);
    write_text(output.path() / (content + ".safetensors"), "");
    output.commit();
    EXPECT_EQ(read_text(target / "config.json"), content);
  }
  EXPECT_FALSE(fs::exists(target / "1.safetensors"));
  EXPECT_EQ(std::distance(fs::directory_iterator(directory.path()), {}), 1);
}

// What a killed process leaves, and what one that still runs writes.
TEST(OutputFile, RemovesWhatKilledProcessesLeft) {
  TemporaryDirectory directory;
  const pid_t dead = fork();
  if (dead == 0) {
    OutputFile file(directory / "x");
    OutputDirectory model(directory / "model");
    write_text(model.path() / "config.json", "1");
    raise(SIGKILL);
  }
  int status = 0;
  waitpid(dead, &status, 0);
  ASSERT_TRUE(WIFSIGNALED(status));
  ASSERT_EQ(std::distance(fs::directory_iterator(directory.path()), {}), 2);
  write_text(directory / "x.unfinished-elsewhere-1", "of another machine");
  OutputFile running(directory / "x");
  OutputDirectory(directory / "model");
  EXPECT_EQ(std::distance(fs::directory_iterator(directory.path()), {}), 2)
      << "the other machine's and our own";
  running.commit();
  EXPECT_TRUE(fs::exists(directory / "x"));
  EXPECT_TRUE(fs::exists(directory / "x.unfinished-elsewhere-1"));
}

TEST(MappedFile, ThatShrinksEndsTheProgramWithASentence) {
  TemporaryDirectory directory;
  write_text(directory / "x", std::string(1 << 16, 'a'));
  const MappedFile file(directory / "x");
  EXPECT_EXIT(
      {
        report_lost_pages();
        fs::resize_file(directory / "x", 10);
        const volatile std::byte last = file.data()[60000];
        (void)last;
      },
      testing::ExitedWithCode(1), "strata: .*/x became shorter while it was read");
}

TEST(OutputDirectory, NeverReplacesSomethingElse) {
  TemporaryDirectory directory;
  fs::create_directory(directory / "documents");
  write_text(directory / "documents" / "letter", "dear");
  write_text(directory / "file", "");
  EXPECT_TRUE(
      has(error_of([&] { OutputDirectory output(directory / "documents"); }), "does not hold a model"));
  EXPECT_TRUE(has(error_of([&] { OutputDirectory output(directory / "file"); }), "a file of that name"));
  EXPECT_EQ(read_text(directory / "documents" / "letter"), "dear");

  const fs::path model = directory / "model";
  fs::create_directories(model / "notes");
  write_text(model / "config.json", "{}");
  EXPECT_TRUE(
      has(error_of([&] { OutputDirectory output(model); }), "holds notes, which is no part of a model"));
  fs::remove(model / "notes");
  write_text(model / "notes.txt", "mine");
  EXPECT_TRUE(has(error_of([&] { OutputDirectory output(model); }), "holds notes.txt"));
  EXPECT_EQ(read_text(model / "notes.txt"), "mine");
}

TEST(OutputFile, NeverReplacesWhatIsBeingRead) {
  TemporaryDirectory directory;
  const fs::path model = directory / "model", weights = model / "model.safetensors";
  fs::create_directory(model);
  write_text(model / "config.json", "{}");
  write_text(weights, "weights");
  {
    MappedFile mapped(weights);
    const MappedFile moved = std::move(mapped);
    EXPECT_TRUE(has(error_of([&] { OutputFile file(model / "." / "model.safetensors"); }), "is being read"));
    EXPECT_TRUE(
        has(error_of([&] { OutputDirectory output(model); }), "model.safetensors in it is being read"));
    EXPECT_TRUE(has(error_of([&] { OutputDirectory output(directory.path()); }), "is being read"));
    OutputDirectory beside(directory / "mode");  // a name that the other begins with
    OutputFile another(model / "other.safetensors");
  }
  OutputDirectory output(model);
  OutputFile file(weights);
}

TEST(OutputFile, OtherFilesAreToldApart) {
  TemporaryDirectory directory;
  write_text(directory / "a", "");
  write_text(directory / "b", "");
  EXPECT_TRUE(
      has(error_of([&] { require_other_file(directory / "." / "a", directory / "a"); }), "which is read"));
  require_other_file(directory / "b", directory / "a");
  require_other_file(directory / "new", directory / "a");
  EXPECT_TRUE(has(error_of([&] { OutputFile file(""); }), "empty"));
}

}  // namespace
}  // namespace strata
