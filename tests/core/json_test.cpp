#include "strata/core/json.h"

#include <gtest/gtest.h>

#include "strata/core/error.h"
#include "strata/core/file.h"
#include "tests/support/temporary_directory.h"

namespace strata {
namespace {

TEST(Json, ReadsWhatIsWrittenInOrder) {
  TemporaryDirectory directory;
  const Json document = {{"z", 1}, {"a", {1.5, nullptr, true}}};
  write_json(directory / "x.json", document);
  EXPECT_EQ(read_json(directory / "x.json"), document);
  EXPECT_EQ(read_json(directory / "x.json").begin().key(), "z");
  EXPECT_EQ(read_large_json(directory / "x.json")["a"][0], 1.5);
}

TEST(Json, BadFilesAreNamed) {
  TemporaryDirectory directory;
  for (const std::string text : {"", "{", "[1,]", "\"\xff\"", "{\"a\":1}x", "\xff\xfe"}) {
    write_text(directory / "bad.json", text);
    for (const bool large : {false, true}) {
      try {
        large ? static_cast<void>(read_large_json(directory / "bad.json"))
              : static_cast<void>(read_json(directory / "bad.json"));
        ADD_FAILURE() << text;
      } catch (const Error& error) {
        EXPECT_NE(std::string(error.what()).find("bad.json is not valid JSON"), std::string::npos)
            << error.what();
      }
    }
  }
}

TEST(Json, DeepNestingIsNoDanger) {
  TemporaryDirectory directory;
  write_text(directory / "deep.json", std::string(200000, '[') + std::string(200000, ']'));
  EXPECT_TRUE(read_large_json(directory / "deep.json").is_array());
  EXPECT_TRUE(read_json(directory / "deep.json").is_array());
}

}  // namespace
}  // namespace strata
