// Whatever is wrong ends in one sentence, exit code 1 or 2, and no partial output.
#include <gtest/gtest.h>

#include <fstream>

#include "tests/cli/refusal.h"

namespace strata {
namespace {

class BadInput : public testing::Test {
 protected:
  std::string target() const { return (scratch_ / "out.gguf").string(); }

  size_t files() const {
    const std::filesystem::recursive_directory_iterator all(scratch_.path());
    return static_cast<size_t>(std::distance(begin(all), end(all)));
  }

  Outcome quantize(const std::string& arguments) {
    return run(scratch_, "quantize --effort quick --quiet -o " + target() + " " + arguments);
  }

  Scratch scratch_;
};

TEST_F(BadInput, CommandLines) {
  expect_refusal(run(scratch_, ""), 2, "subcommand is required");
  expect_refusal(run(scratch_, "quantise"), 2, "quantise");
  expect_refusal(run(scratch_, std::string("quantize ") + kModel), 2, "--output");
  expect_refusal(quantize(kModel), 2, "--bpw");
  expect_refusal(quantize(std::string(kModel) + " --bpw 3 --method nonsense"), 2, "nonsense");
  expect_refusal(quantize(std::string(kModel) + " --bpw 3 --schemes w9g64"), 2, "w9g64");
  expect_refusal(quantize(std::string(kModel) + " --bpw -3"), 2, "-3");
  expect_refusal(quantize(std::string(kModel) + " --size 3parsecs"), 2, "3parsecs");
  expect_refusal(quantize(std::string(kModel) + " --bpw 3 --device quantum"), 2, "quantum");
  EXPECT_EQ(files(), 0u);
}

// A base file says what is measured; nothing that would say otherwise is dropped.
TEST_F(BadInput, WhatABaseFileSaysItself) {
  const std::string eval = std::string("eval ") + kModel + " --kl-base none.bin ";
  for (const char* option : {"--text a.txt", "--window 512", "--stride 8", "--tokens 100", "--reference b"})
    expect_refusal(run(scratch_, eval + option), 2, "cannot be given with --kl-base");
  expect_refusal(run(scratch_, eval), 1, "none.bin");
  expect_refusal(
      run(scratch_, std::string("eval ") + kModel + " --text a.txt --reference b --save-kl-base c"), 2,
      "cannot be given with --save-kl-base");
}

// Options of the other kind of model are refused by name, not dropped.
TEST_F(BadInput, OptionsOfOnnxModels) {
  const std::string model = kModel;
  for (const char* option : {"--images data", "--compression 5x", "--int8-only", "--free-ends", "--labels l"})
    expect_refusal(quantize(model + " --bpw 3 " + option), 2,
                   std::string(option).substr(0, std::string(option).find(' ')) +
                       " is for ONNX models, but models/tiny-llama is a language model");
  expect_refusal(run(scratch_, "eval " + model + " --text t --images data"), 2, "--images is for ONNX");
  expect_refusal(run(scratch_, "score " + model + " --hessian-images 3"), 2, "--hessian-images is for ONNX");
  expect_refusal(run(scratch_, "compare " + model + " --text t --correlate"), 2, "--correlate is for ONNX");
  EXPECT_EQ(files(), 0u);
}

TEST_F(BadInput, DeclaredOptions) {
  const std::string model = std::string(kModel) + " --bpw 3 ";
  expect_refusal(quantize(model + "--tau 2"), 2, "--tau 2: a number from 0.01 to 1 was expected");
  expect_refusal(quantize(model + "--kl-tokens many"), 2, "--kl-tokens many: a whole number from 1");
  expect_refusal(quantize(model + "--act-order on"), 2, "off or static or reordered");
  expect_refusal(quantize(model + "--learning-rate 0"), 2, "above 0");
  expect_refusal(quantize(model + "--tune perhaps"), 2, "--tune perhaps: auto or on or off");
  expect_refusal(quantize(model + "--tune-rate 0"), 2, "above 0");
  // Before the work that a plan takes.
  expect_refusal(
      quantize(model + "--tune on --calib data/wikitext-2/wiki.train.first-1MB.raw --calib-tokens 64 "
                       "--calib-window 64 --tune-steps 1 --tune-tokens 1"),
      1, "gives 1 of 64 tokens; give a longer text, or a smaller --calib-window");
  expect_refusal(quantize(model + "--no-such-option"), 2, "--no-such-option");
  EXPECT_EQ(files(), 0u);
}

TEST_F(BadInput, MixedRows) {
  const std::string strata = std::string(kModel) + " --method uniform:exact --format strata --schemes ";
  expect_refusal(quantize(strata + "w2g64+w3@1.5 --bpw 2.6"), 2, "from 0 to 1");
  expect_refusal(quantize(strata + "w2g64+w3@x --bpw 2.6"), 2, "'x'");
  expect_refusal(quantize(strata + "w3g64+w2 --bpw 2.6"), 2, "more bits were expected");
  expect_refusal(quantize(strata + "w2g64+w3 --bpw 2.5"), 2, "2.522");
  expect_refusal(quantize(strata + "w2g64+w3 --bpw 2.6 --allocator quadratic --interactions some"), 2,
                 "some");
  expect_refusal(quantize(std::string(kModel) + " --schemes w2g64+w3 --bpw 2.6"), 2, "GGUF");
  EXPECT_EQ(files(), 0u);
}

TEST_F(BadInput, Quantizers) {
  const std::string three_bits = std::string(kModel) + " --method uniform --bpw 3.5";
  expect_refusal(quantize(three_bits + " --quantizer nonsense"), 2, "nonsense");
  expect_refusal(quantize(three_bits + " --quantizer rtn,gptq"), 2, "rtn,gptq");
  expect_refusal(quantize(three_bits + " --quantizer gptq --act-order reordered"), 2, "--act-order static");
  expect_refusal(quantize(three_bits + " --quantizer gptq --calib no/such/text"), 1, "no/such/text");
  expect_refusal(quantize(three_bits + " --schemes nf4"), 2, "nf4");
  const std::string calibrated = std::string(kModel) + " --bpw 3.5 --calib no/such/text ";
  expect_refusal(quantize(calibrated + "--quantizer adaround"), 2, "learns affine groups, but Q2_K");
  expect_refusal(quantize(calibrated + "--quantizer gptq --act-order static --schemes Q4_K,IQ2_S"), 2,
                 "IQ2_S takes whole blocks");
  expect_refusal(quantize(calibrated + "--quantizer signround --schemes IQ3_S,IQ2_S"), 2,
                 "none of the schemes to choose from has codes of its own");
  EXPECT_EQ(files(), 0u);
}

TEST_F(BadInput, BudgetsOutsideTheSchemes) {
  expect_refusal(quantize(std::string(kModel) + " --method zd --bpw 1.5"), 2, "2.625");
  expect_refusal(quantize(std::string(kModel) + " --method zd --size 1MB"), 2, "1");
  EXPECT_EQ(files(), 0u);
}

TEST_F(BadInput, MissingThings) {
  expect_refusal(quantize("no/such/model --bpw 3"), 1, "no/such/model");
  expect_refusal(run(scratch_, std::string("eval ") + kModel + " --text no-such-text"), 1, "no-such-text");
  expect_refusal(run(scratch_, "allocate no-such-scores.json --bpw 3"), 1, "no-such-scores.json");
}

TEST_F(BadInput, Texts) {
  std::ofstream(scratch_ / "empty.txt").close();
  std::ofstream(scratch_ / "short.txt") << "Too short for a window.";
  expect_refusal(
      run(scratch_, std::string("eval --quiet ") + kModel + " --text " + (scratch_ / "empty.txt").string()),
      1, "empty");
  expect_refusal(
      run(scratch_, std::string("eval --quiet ") + kModel + " --text " + (scratch_ / "short.txt").string()),
      1, "512");
}

TEST_F(BadInput, CalibrationThatCannotServe) {
  const std::string text = (scratch_ / "short.txt").string();
  std::ofstream(text) << "Few words.";
  const auto score = [&](const std::string& arguments) {
    return run(scratch_, std::string("score --quiet --method output-error ") + kModel + " " + arguments);
  };
  expect_refusal(score("--calib " + text), 1, "fewer than one window of 512");
  expect_refusal(score("--calib no/such.txt"), 1, "no/such.txt");
  expect_refusal(score("--calib " + text + " --calib-window 1"), 2, "--calib-window");
  expect_refusal(score("--imatrix " + text), 1, "short.txt");
  const std::string empty = (scratch_ / "empty.txt").string();
  std::ofstream(empty).close();
  expect_refusal(score("--calib " + empty), 1, "fewer than one window");
  expect_refusal(quantize(std::string(kModel) +
                          " --method high-impact --quantizer hybrid --format strata "
                          "--schemes w2g64+w3 --bpw 2.6 --calib " +
                          empty),
                 1, "fewer than one window");
  expect_refusal(score("--calib-tokens -1"), 2, "--calib-tokens");
}

TEST_F(BadInput, RoundingOfARuntimeNeedsItsFile) {
  expect_refusal(run(scratch_, std::string("eval --quiet ") + kModel + " --text " + kModel +
                                   "/config.json --runtime llama.cpp"),
                 2, "no GGUF");
}

TEST_F(BadInput, UnwritableTargets) {
  expect_refusal(run(scratch_, std::string("quantize --effort quick --quiet ") + kModel +
                                   " --method zd --bpw 3 -o /no/such/place/m.gguf"),
                 1, "/no/such/place");
  std::filesystem::create_directory(scratch_ / "out.gguf");
  expect_refusal(quantize(std::string(kModel) + " --format gguf --method zd --bpw 3"), 1, "directory");
  expect_refusal(quantize(std::string(kModel) + " --method zd --bpw 3"), 1, "directory");
  expect_refusal(
      run(scratch_, std::string("quantize --effort quick --quiet --method zd --bpw 3 -o '' ") + kModel), 1,
      "empty");
}

// Whatever is read, or would be written twice, stays as it is.
TEST_F(BadInput, OutputsThatWouldReplaceWhatIsRead) {
  const auto path = [&](const std::string& name) { return (scratch_ / name).string(); };
  ASSERT_EQ(run(scratch_,
                std::string("quantize --effort quick --quiet --method uniform --bpw 4 --shard-size 3MB ") +
                    kModel + " -o " + path("m.gguf"))
                .code,
            0);
  const std::string first = path("m-00001-of-00003.gguf"), second = path("m-00002-of-00003.gguf");
  const std::string model = slurp(first), part = slurp(second);
  expect_refusal(run(scratch_, "quantize --effort quick --quiet --bpw 3 " + first + " -o " + second), 1,
                 "being read");
  expect_refusal(run(scratch_, "recipe " + first + " --for llama-quantize -o " + first), 1, "which is read");
  expect_refusal(run(scratch_, "score --quiet --method uniform " + first + " -o " + first), 1,
                 "which is read");
  expect_refusal(quantize(first + " --bpw 3 --save-plan " + first), 1, "which is read");
  expect_refusal(quantize(first + " --bpw 3 --save-plan " + target()), 2, "two outputs");
  expect_refusal(quantize(first + " --bpw 3 --save-plan /no/such/plan.json"), 1, "/no/such");
  EXPECT_EQ(slurp(first), model);
  EXPECT_EQ(slurp(second), part);

  std::ofstream(scratch_ / "scores.json") << "earlier";
  expect_refusal(run(scratch_, "allocate --bpw 3 " + path("scores.json") + " -o " + path("scores.json")), 1,
                 "which is read");
  EXPECT_EQ(slurp(scratch_ / "scores.json"), "earlier");
  const std::string text = path("text.txt");
  std::ofstream(text) << "calibration";
  expect_refusal(run(scratch_, "score --quiet --calib " + text + " " + first + " -o " + text), 1,
                 "which is read");
  expect_refusal(quantize(first + " --bpw 3 --calib " + text + " --save-plan " + text), 1, "which is read");
  EXPECT_EQ(slurp(text), "calibration");
  expect_refusal(run(scratch_, std::string("quantize --effort quick --quiet --bpw 3 --format hf -o ") +
                                   scratch_.path().string() + " " + first),
                 1, "being read");
}

TEST_F(BadInput, WhatCannotBeMeasuredIsSaidBeforeTheFileIsReplaced) {
  std::ofstream(scratch_ / "short.txt") << "Too short for a window.";
  std::ofstream(scratch_ / "out.gguf") << "earlier";
  expect_refusal(quantize(std::string(kModel) + " --method uniform --bpw 3.5 --text " +
                          (scratch_ / "short.txt").string()),
                 1, "512");
  EXPECT_EQ(slurp(target()), "earlier");
}

TEST_F(BadInput, OptionsThatAPlanDecides) {
  for (const char* option : {"--bpw 3", "--size 5MB", "--method nsds", "--schemes gguf", "--scores s.json"})
    expect_refusal(quantize(std::string(kModel) + " --plan p.json " + option), 2, "excludes");
}

// A file-size limit stands for a full disk: write() fails half-way.
TEST_F(BadInput, AFullDiskLeavesTheEarlierFile) {
  std::ofstream(scratch_ / "out.gguf") << "earlier";
  const Outcome outcome =
      run_shell(scratch_, "trap '' XFSZ; ulimit -f 2000; \"$STRATA\" quantize --quiet --effort quick " +
                              std::string(kModel) + " --method zd --bpw 3 -o " + target());
  expect_refusal(outcome, 1, "out.gguf");
  EXPECT_EQ(slurp(target()), "earlier");
  EXPECT_EQ(files(), 1u);
}

TEST_F(BadInput, CtrlCLeavesTheEarlierFile) {
  std::ofstream(scratch_ / "out.gguf") << "earlier";
  const Outcome outcome = run_shell(scratch_, "\"$STRATA\" quantize --quiet " + std::string(kModel) +
                                                  " --bpw 3 --text data/wikitext-2/wiki.test.raw -o " +
                                                  (scratch_ / "second.gguf").string() +
                                                  " & pid=$!; sleep 3; kill -INT $pid; wait $pid");
  expect_refusal(outcome, 1, "interrupted");
  EXPECT_EQ(slurp(target()), "earlier");
  for (const auto& entry : std::filesystem::directory_iterator(scratch_.path()))
    EXPECT_EQ(entry.path().string().find("unfinished"), std::string::npos) << entry.path();
}

TEST_F(BadInput, ADamagedShardIsNamed) {
  const auto copy = scratch_ / "model";
  std::filesystem::copy(std::filesystem::path(STRATA_SOURCE_DIR) / kModel, copy);
  std::filesystem::resize_file(copy / "model-00002-of-00002.safetensors", 1000000);
  expect_refusal(quantize(copy.string() + " --bpw 3"), 1, "model-00002-of-00002.safetensors");
  std::filesystem::remove(copy / "model-00002-of-00002.safetensors");
  expect_refusal(quantize(copy.string() + " --bpw 3"), 1, "model-00002-of-00002.safetensors");
  EXPECT_FALSE(std::filesystem::exists(target()));
}

}  // namespace
}  // namespace strata
