#include "strata/core/options.h"

#include <gtest/gtest.h>

#include "tests/support/error_of.h"

namespace strata {
namespace {

enum class Colour { Red, Green };

struct Paint {
  int64_t coats = 2;
  double gloss = 0.5;
  Colour colour = Colour::Red;
  bool dried = true;
  std::vector<double> mix;
};

Options paint_options(OptionValues& values) {
  Paint& paint = values.get<Paint>();
  return {number("coats", paint.coats, 1, 9, "how many"), number("gloss", paint.gloss, 0.0, 1.0, "how much"),
          choice("colour", paint.colour, {{"red", Colour::Red}, {"green", Colour::Green}}, "which"),
          flag("wet", paint.dried, "as it is", false), numbers("mix", paint.mix, "A,B", "of what")};
}

Option& named(Options& options, const std::string& name) {
  for (Option& option : options)
    if (option.name == name) return option;
  throw std::out_of_range(name);
}

TEST(Options, SetTheMembersThatTheyAreDeclaredOver) {
  OptionValues values;
  Options options = paint_options(values);
  named(options, "coats").set("3");
  named(options, "gloss").set("1e-1");
  named(options, "colour").set("green");
  named(options, "wet").set("");
  named(options, "mix").set("1,0.5");
  const Paint& paint = values.get<Paint>();
  EXPECT_EQ(paint.coats, 3);
  EXPECT_EQ(paint.gloss, 0.1);
  EXPECT_EQ(paint.colour, Colour::Green);
  EXPECT_FALSE(paint.dried);
  EXPECT_EQ(paint.mix, (std::vector<double>{1, 0.5}));
  EXPECT_EQ(values_of(options),
            Json::parse(R"({"coats": 3, "gloss": 0.1, "colour": "green", "wet": true, "mix": [1.0, 0.5]})"));
}

TEST(Options, RefuseWhatTheyDoNotTakeInOneSentence) {
  OptionValues values;
  Options options = paint_options(values);
  for (const char* bad : {"0", "10", "", "3x", "2.5", "99999999999999999999"})
    EXPECT_EQ(error_of([&] { named(options, "coats").set(bad); }),
              std::string("--coats ") + bad + ": a whole number from 1 to 9 was expected");
  for (const char* bad : {"-0.1", "1.1", "nan", "inf", "", "a"})
    EXPECT_NE(error_of([&] { named(options, "gloss").set(bad); }), "") << bad;
  EXPECT_EQ(error_of([&] { named(options, "colour").set("blue"); }),
            "--colour blue: red or green was expected");
  for (const char* bad : {"", ",", "1,", "1,,2", "1;2"})
    EXPECT_NE(error_of([&] { named(options, "mix").set(bad); }), "") << bad;
  EXPECT_EQ(changed_values(paint_options, values), Json::object());
}

TEST(Options, ChangedValuesAreThoseThatDifferFromTheDefaults) {
  OptionValues values;
  values.get<Paint>().colour = Colour::Green;
  values.get<Paint>().coats = 2;
  const OptionValues copy = values;
  values.get<Paint>().gloss = 0;
  EXPECT_EQ(changed_values(paint_options, copy), Json::parse(R"({"colour": "green"})"));
  EXPECT_EQ(changed_values(nullptr, copy), Json::object());
}

}  // namespace
}  // namespace strata
