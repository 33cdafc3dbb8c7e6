// strata verify: what every format's writer leaves is without fault, and what was damaged is not.
#include <gtest/gtest.h>

#include <fstream>

#include "tests/cli/refusal.h"

namespace strata {
namespace {

TEST(VerifyCommand, FindsNothingInWhatIsWritten) {
  const Scratch scratch;
  for (const char* format : {"gguf", "strata", "compressed-tensors", "mlx", "gptq"}) {
    const std::string target = (scratch / format).string() + (std::string(format) == "gguf" ? ".gguf" : "");
    const Outcome written =
        run(scratch, std::string("quantize ") + kModel + " --effort quick --method uniform --bpw 4.6" +
                         " --quiet --format " + format + " -o " + target);
    ASSERT_EQ(written.code, 0) << written.err;
    const Outcome outcome = run(scratch, "verify " + target + " --reference " + kModel);
    EXPECT_EQ(outcome.code, 0) << outcome.out;
    EXPECT_NE(outcome.out.find("113 matrices compared with models/tiny-llama, no fault"), std::string::npos)
        << format << ": " << outcome.out;
  }
}

TEST(VerifyCommand, NamesFaultsAndFails) {
  const Scratch scratch;
  const std::string target = (scratch / "out.gguf").string();
  ASSERT_EQ(run(scratch, std::string("quantize ") + kModel +
                             " --effort quick --method uniform --bpw 4.6 --quiet -o " + target)
                .code,
            0);
  std::fstream stream(target, std::ios::binary | std::ios::in | std::ios::out);
  stream.seekp(-256 * 4, std::ios::end);  // inside the final norm, whose numbers are floats
  const std::string none(16, '\xFF');
  stream << none;
  stream.close();
  const Outcome outcome = run(scratch, "verify " + target);
  EXPECT_EQ(outcome.code, 1);
  EXPECT_NE(outcome.out.find("fault: output_norm.weight holds numbers that are not finite\n"),
            std::string::npos)
      << outcome.out;
  EXPECT_NE(outcome.err.find("out.gguf has"), std::string::npos) << outcome.err;
  const Outcome json = run(scratch, "verify --json " + target);
  EXPECT_EQ(json.code, 1);
  EXPECT_NE(json.out.find("\"faults\""), std::string::npos);
  expect_refusal(run(scratch, "verify models/mobilenetv2-cifar10.onnx"), 2, "verify reads language models");
}

}  // namespace
}  // namespace strata
