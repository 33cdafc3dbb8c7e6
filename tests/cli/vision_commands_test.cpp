// The commands on a small ONNX model, as a user runs them.
#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <nlohmann/json.hpp>

#include "tests/cli/refusal.h"
#include "tests/support/npy.h"
#include "tests/support/tiny_network.h"

namespace strata::vision {
namespace {

using Json = nlohmann::json;

class VisionCommands : public testing::Test {
 protected:
  void SetUp() override {
    write_onnx(scratch_ / "m.onnx", tiny_network());
    write_images(60, 5);
  }

  // Noise, with labels in turn that make a channel brighter.
  void write_images(int64_t count, int64_t classes) {
    Random random(3);
    std::vector<int64_t> labels;
    for (int64_t i = 0; i < count; ++i) labels.push_back(i % classes);
    const std::string n = std::to_string(count);
    std::vector<float> pixels = random_values(count * 192, random);
    for (size_t p = 0; p < pixels.size(); ++p)
      if (p % 192 < 64) pixels[p] += static_cast<float>(labels[p / 192]);
    write_npy(scratch_ / "images.npy", "<f4", n + ", 3, 8, 8", bytes_of(pixels));
    write_npy(scratch_ / "labels.npy", "<i8", n + ",", bytes_of(labels));
  }

  std::string file(const char* name) const { return (scratch_ / name).string(); }

  std::string on_images() const {
    return " --quiet --images " + file("images.npy") + " --labels " + file("labels.npy");
  }

  // `command` on the model, with the images.
  Outcome run_on(const std::string& command, const std::string& arguments = "") {
    const char* calibration = command == "eval" ? " " : " --calibration-images 40 ";
    return run(scratch_, command + " " + file("m.onnx") + on_images() + calibration + arguments);
  }

  Json json_of(const Outcome& outcome) {
    EXPECT_EQ(outcome.code, 0) << outcome.err;
    EXPECT_EQ(outcome.err, "");
    return Json::parse(outcome.out);
  }

  Scratch scratch_;
};

TEST_F(VisionCommands, InspectAndEval) {
  const Json inspected = json_of(run(scratch_, "inspect --json " + file("m.onnx")));
  EXPECT_EQ(inspected["layers"].size(), 4u);
  EXPECT_EQ(inspected["weights"], 162 + 54 + 36 + 30);
  EXPECT_EQ(inspected["multiplications"], 64 * (162 + 54 + 36) + 30);
  OnnxModel open = tiny_network();
  open.inputs = {value("image", {-1, 3, -1, -1})};
  write_onnx(scratch_ / "open.onnx", open);
  const Json any_size = json_of(run(scratch_, "inspect --json " + file("open.onnx")));
  EXPECT_EQ(any_size["weights"], inspected["weights"]);
  EXPECT_TRUE(any_size["multiplications"].is_null());
  const Json evaluated =
      json_of(run(scratch_, "eval --json " + file("m.onnx") + on_images() + " --image-count 50"));
  EXPECT_EQ(evaluated["count"], 50);
  EXPECT_EQ(evaluated["top5"], 1.0);  // of five classes
  EXPECT_LT(evaluated["top1"], 0.9);
}

TEST_F(VisionCommands, QuantizeMeetsItsBudgetAndMeasuresTheFile) {
  const Json json = json_of(run_on("quantize", "--json --compression 5x --bitops-ratio 1/20 -o " +
                                                   file("q.onnx") + " --save-plan " + file("plan.json")));
  EXPECT_GE(json["plan"]["compression"], 5.0);
  EXPECT_LE(json["plan"]["bitops_ratio"], 1.0 / 20);
  EXPECT_EQ(json["plan"]["method"], "infoq");
  EXPECT_EQ(json["plan"]["layers"][0]["weight_bits"], 8);
  EXPECT_EQ(json["file_bytes"], std::filesystem::file_size(scratch_ / "q.onnx"));
  EXPECT_LT(json["plan"]["bytes"], json["file_bytes"]);
  EXPECT_EQ(json["simulated"]["images"], 20);  // those behind the 40 that scored
  EXPECT_NEAR(json["written"]["cross_entropy"].get<double>(),
              json["simulated"]["cross_entropy"].get<double>(), 1e-2);
  EXPECT_EQ(Json::parse(slurp(scratch_ / "plan.json")), json["plan"]);
  // What was written opens like any model.
  const Json read = json_of(run(scratch_, "eval --json " + file("q.onnx") + on_images()));
  EXPECT_EQ(read["count"], 60);
}

TEST_F(VisionCommands, NeverReportsOnImagesThatItScoredOn) {
  const Json json = json_of(run(scratch_, "compare " + file("m.onnx") + on_images() +
                                              " --json --methods weight-error --compression 5"));
  EXPECT_EQ(json["scored_images"], 30);
  EXPECT_EQ(json["original"]["images"], 30);
}

TEST_F(VisionCommands, NeverReplaceTheModel) {
  const std::string before = slurp(file("m.onnx"));
  expect_refusal(run_on("quantize", "--compression 5x -o " + file("m.onnx")), 1, "which is read");
  EXPECT_EQ(slurp(file("m.onnx")), before);
}

TEST_F(VisionCommands, SizeIsThePackedSize) {
  const Json json = json_of(
      run_on("quantize", "--json --method kl --equalize --int8-only --size 440B -o " + file("q.onnx")));
  EXPECT_LE(json["plan"]["bytes"], 440);
}

// A channel that is small before and large behind a layer makes equalization worthwhile; where no pair of
// layers can be equalized, nothing is.
TEST_F(VisionCommands, EqualizeIfBetterFollowsTheImages) {
  OnnxModel model = tiny_network();
  std::vector<float> first = model.constant("depthwise.weight")->floats(),
                     second = model.constant("project.weight")->floats();
  for (size_t i = 0; i < 9; ++i) first[i] /= 50;
  for (size_t o = 0; o < 6; ++o) second[o * 6] *= 50;
  *model.constant("depthwise.weight") = onnx_tensor("depthwise.weight", {6, 1, 3, 3}, first);
  *model.constant("project.weight") = onnx_tensor("project.weight", {6, 6, 1, 1}, second);
  const auto quantized = [&](const std::string& option) {
    const Outcome outcome =
        run(scratch_, "quantize " + file("m.onnx") + " --images " + file("images.npy") + " --labels " +
                          file("labels.npy") + " --calibration-images 40 --method uniform --compression 5x " +
                          option + " -o " + file("q.onnx"));
    EXPECT_EQ(outcome.code, 0) << outcome.err;
    return std::make_pair(slurp(file("q.onnx")), outcome.err);
  };
  write_onnx(file("m.onnx"), model);
  const auto chosen = quantized("--equalize-if-better");
  EXPECT_NE(chosen.second.find(": equalized"), std::string::npos) << chosen.second;
  EXPECT_EQ(chosen.first, quantized("--equalize").first);
  EXPECT_NE(chosen.first, quantized("").first);

  model.nodes[5].inputs = {"e", "d"};  // so that two nodes read what the first layer of the pair gives
  write_onnx(file("m.onnx"), model);
  const auto left = quantized("--equalize-if-better");
  EXPECT_NE(left.second.find("left as it is"), std::string::npos) << left.second;
  EXPECT_EQ(left.first, quantized("").first);
}

TEST_F(VisionCommands, ScoresEveryFreeLayerAtEveryWidth) {
  for (const char* method : {"infoq", "kl", "output", "accuracy", "hawq", "weight-error", "random"}) {
    const Outcome outcome =
        run_on("score", std::string("--hessian-images 8 --method ") + method + " -o " + file("scores.json"));
    ASSERT_EQ(outcome.code, 0) << outcome.err;
    EXPECT_NE(outcome.out.find("depthwise.weight"), std::string::npos);
    const Json scores = Json::parse(slurp(scratch_ / "scores.json"));
    EXPECT_EQ(scores["method"], method);
    ASSERT_EQ(scores["layers"].size(), 2u);
    EXPECT_EQ(scores["layers"][1]["activations"].size(), 7u);
    EXPECT_EQ(scores["layers"][1]["activations"][6], 0.0);
    EXPECT_GE(scores["layers"][1]["weights"][0], 0.0);
  }
}

TEST_F(VisionCommands, InfoqsOptionsChangeItsScores) {
  const auto score = [&](const std::string& options) {
    return json_of(run_on("score", "--json --method infoq " + options))["layers"];
  };
  const Json labels = score("");
  EXPECT_GT(labels[0]["weights"][0], 1e-3);
  const Json whole = score("--no-inverse-width");
  for (int b = 0; b < 6; ++b)
    EXPECT_NEAR(whole[0]["weights"][b].get<double>(), labels[0]["weights"][b].get<double>() * (b + 2), 1e-9);
  EXPECT_NE(score("--observers last"), labels);
  const Json inputs = score("--evidence inputs");
  EXPECT_NE(inputs, labels);
  EXPECT_NE(score("--evidence both"), inputs);
  Random random(8);
  write_npy(scratch_ / "features.npy", "<f4", "40, 9", bytes_of(random_values(360, random)));
  EXPECT_NE(score("--evidence inputs --input-embedding " + file("features.npy")), inputs);
}

TEST_F(VisionCommands, CompareGivesEveryMethodTheSameBudgets) {
  const std::string arguments =
      "--compression 5.1x --bitops-ratio 1/20 --seeds 2 --hessian-images 8 --correlate ";
  const Json json = json_of(run_on("compare", arguments + "--json"));
  EXPECT_EQ(json["scored_images"], 40);
  ASSERT_EQ(json["rows"].size(), 14u);
  for (size_t r = 0; r < 14; ++r) {
    const Json& row = json["rows"][r];
    if (r < 7) {
      EXPECT_GE(row["compression"], 5.1);
    } else {
      EXPECT_LE(row["bitops_ratio"], 1.0 / 20);
    }
    EXPECT_EQ(row.contains("top1_spread"), row["method"] == "random");
  }
  ASSERT_EQ(json["methods"].size(), 6u);
  for (const Json& method : json["methods"]) EXPECT_LE(std::abs(method["cross_entropy"].get<double>()), 1.0);
  const Outcome table = run_on("compare", arguments + "--markdown --methods uniform,weight-error");
  EXPECT_NE(table.out.find("| weight-error |"), std::string::npos) << table.out;
  EXPECT_NE(table.out.find("1/20 of float's"), std::string::npos);
}

// ---- without labels ----

TEST_F(VisionCommands, ComparesWithAReferenceWithoutLabels) {
  ASSERT_EQ(run_on("quantize", "--compression 5x -o " + file("q.onnx")).code, 0);
  const std::string images = " --quiet --images " + file("images.npy");
  const Json json =
      json_of(run(scratch_, "eval --json " + file("q.onnx") + images + " --reference " + file("m.onnx")));
  EXPECT_EQ(json["count"], 60);
  EXPECT_FALSE(json.contains("top1"));
  EXPECT_GT(json["sqnr"], 5.0);
  EXPECT_LT(json["sqnr"], 60.0);
  EXPECT_GT(json["cosine"], 0.9);
  EXPECT_LT(json["cosine"], 1.0);
  EXPECT_GT(json["same_top1"], 0.5);
  EXPECT_EQ(json["outputs"][0]["output"], "logits");
  const Json same =
      json_of(run(scratch_, "eval --json " + file("m.onnx") + images + " --reference " + file("m.onnx")));
  EXPECT_EQ(same["same_top1"], 1.0);
  EXPECT_EQ(same["sqnr"], 200.0);
  expect_refusal(run(scratch_, "eval " + file("m.onnx") + images), 2, "has no labels; give --labels");
}

TEST_F(VisionCommands, QuantizesWithoutLabels) {
  const std::string images = " --quiet --images " + file("images.npy");
  for (const char* method : {"infoq", "kl", "output"}) {
    const Json json =
        json_of(run(scratch_, "quantize " + file("m.onnx") + images + " --json --compression 5x --method " +
                                  method + " -o " + file("q.onnx")));
    EXPECT_TRUE(json["original"].is_null());
    EXPECT_GT(json["written"]["sqnr"], 5.0);
    EXPECT_FALSE(json["written"].contains("top1"));
  }
  for (const char* method : {"accuracy", "hawq", "infoq --evidence labels"})
    expect_refusal(run(scratch_, "score " + file("m.onnx") + images + " --method " + method), 2,
                   "needs labels");
  const Json rows = json_of(
      run(scratch_, "compare " + file("m.onnx") + images + " --json --seeds 2 --compression 5"))["rows"];
  ASSERT_EQ(rows.size(), 5u);
  EXPECT_EQ(rows[4]["method"], "output");
}

// Several inputs by their names, of which one is no image.
TEST_F(VisionCommands, SeveralInputs) {
  OnnxModel model = tiny_network();
  model.inputs.push_back(value("mask", {-1, 6, 1, 1}));
  model.nodes[2].inputs[0] = "masked";
  model.nodes.insert(model.nodes.begin() + 2, {"Mul", "hide", "", {"b", "mask"}, {"masked"}, {}});
  write_onnx(scratch_ / "m.onnx", model);
  expect_refusal(run_on("eval"), 2, "the model takes 2 inputs (image, mask); give an .npz");
  Random random(4);
  const auto write = [&](const char* second, const char* shape) {
    write_npz(scratch_ / "both.npz",
              {{"image", npy("<f4", "12, 3, 8, 8", bytes_of(random_values(12 * 192, random)))},
               {second, npy("<f4", shape, bytes_of(random_values(72, random)))}});
  };
  const std::string images = " --quiet --images " + file("both.npz");
  write("mask", "12, 6, 1, 1");
  const Json json =
      json_of(run(scratch_, "quantize " + file("m.onnx") + images +
                                " --json --method output --compression 5x -o " + file("q.onnx")));
  EXPECT_GT(json["written"]["sqnr"], 3.0);
  write("other", "12, 6, 1, 1");
  expect_refusal(run(scratch_, "score " + file("m.onnx") + images), 1, "both.npz has no array 'mask'");
  write("mask", "6, 12, 1, 1");
  expect_refusal(run(scratch_, "score " + file("m.onnx") + images), 1,
                 "'mask' is 6 x 12 x 1 x 1, expected 12");
  const std::string whole = slurp(scratch_ / "both.npz");
  for (size_t size = 0; size < whole.size(); size += 3989) {
    std::ofstream(scratch_ / "both.npz", std::ios::binary) << whole.substr(0, size);
    expect_refusal(run(scratch_, "score " + file("m.onnx") + images), 1, "both.npz");
  }
}

// ---- what is wrong ends in one sentence ----

TEST_F(VisionCommands, RefuseDamagedAndUnknownModels) {
  const auto refuse = [&](const std::string& what, const std::function<void(OnnxModel&)>& change) {
    OnnxModel model = tiny_network();
    change(model);
    write_onnx(scratch_ / "m.onnx", model);
    expect_refusal(run_on("eval"), 1, what);
  };
  refuse("Einsum 'relu' is an operator that is not supported",
         [](OnnxModel& m) { m.nodes[1].op_type = "Einsum"; });
  refuse("Conv 'stem' takes its weight from the model's input 'stem.weight'", [](OnnxModel& m) {
    m.inputs.push_back(value("stem.weight", {6, 3, 3, 3}));
    m.constants.erase(m.constants.begin());
  });
  refuse("Reshape 'reshape' cannot be computed on inputs of", [](OnnxModel& m) {
    m.nodes[7] = {"Reshape", "reshape", "", {"g", "f"}, {"h"}, {}};
  });

  const std::string whole = [&] {
    write_onnx(scratch_ / "m.onnx", tiny_network());
    return slurp(scratch_ / "m.onnx");
  }();
  std::ofstream(scratch_ / "m.onnx", std::ios::binary) << whole.substr(0, whole.size() - 100);
  expect_refusal(run_on("eval"), 1, "m.onnx is truncated or not an ONNX file");
  std::ofstream(scratch_ / "m.onnx") << "text";
  expect_refusal(run_on("eval"), 1, "m.onnx");
  std::filesystem::remove(scratch_ / "m.onnx");
  expect_refusal(run_on("eval"), 1, "m.onnx");
}

TEST_F(VisionCommands, RefuseImagesThatDoNotServe) {
  expect_refusal(run(scratch_, "eval " + file("m.onnx")), 2, "--images is required");
  expect_refusal(run(scratch_, "eval " + file("m.onnx") + " --images " + file("nowhere")), 1, "nowhere");
  expect_refusal(run(scratch_, "eval " + file("m.onnx") + " --images data/cifar10/test-300.bin"), 1,
                 "but the model takes 3 x 8 x 8");
  write_images(60, 6);
  expect_refusal(run_on("eval"), 1, "image 5 has the label 5, but the model tells 5 classes apart");
  expect_refusal(run_on("score"), 1, "has the label 5");
  expect_refusal(run_on("compare", "--compression 5"), 1, "has the label 5");
  write_images(4, 4);
  expect_refusal(run_on("score"), 1,
                 "images.npy has 4 images, but mutual information with 3 neighbours needs at least 5");
  write_images(60, 5);
  write_npy(scratch_ / "features.npy", "<f4", "39, 9", std::string(39 * 36, '\1'));
  expect_refusal(run_on("score", "--evidence both --input-embedding " + file("features.npy")), 1,
                 "39 x 9, expected one row of features for each of at least 40 images");
}

TEST_F(VisionCommands, RefuseBudgetsThatCannotBeMet) {
  const std::string output = " -o " + file("q.onnx");
  expect_refusal(run_on("quantize", "--compression 20x" + output), 2, "20x cannot be met");
  expect_refusal(run_on("quantize", "--size 100B" + output), 2, "100 B cannot be met");
  expect_refusal(run_on("quantize", "--bitops-ratio 1/300" + output), 2,
                 "1/300 of float's bit operations cannot be met");
  expect_refusal(run_on("quantize", "--compression 5 --bitops 100" + output), 2, "cannot be met");
  expect_refusal(run_on("compare", "--compression 5,20"), 2, "20x cannot be met");
  expect_refusal(run_on("quantize", output), 2, "a budget is needed");
  expect_refusal(run_on("quantize", "--compression many" + output), 2, "--compression many");
  expect_refusal(run_on("quantize", "--compression 5 --method nsds" + output), 2,
                 "no method 'nsds' for ONNX models");
  expect_refusal(run_on("score", "--evidence hearsay"), 2, "--evidence");
  EXPECT_FALSE(std::filesystem::exists(scratch_ / "q.onnx"));
}

// Options of language models are refused by name, not dropped.
TEST_F(VisionCommands, OptionsOfLanguageModelsAreRefused) {
  const auto refused = [&](const std::string& command, const std::string& option) {
    expect_refusal(run_on(command, option), 2,
                   option.substr(0, option.find(' ')) + " is for language models, but " + file("m.onnx") +
                       " is an ONNX model");
  };
  for (const char* option : {"--bpw 3", "--avg-bits 3", "--text t", "--format gguf", "--schemes gguf",
                             "--quantizer hqq", "--calib self", "--kl-tokens 9", "--gap 0.1", "--ties layer"})
    refused("quantize", std::string(option) + " --compression 5x -o " + file("q.onnx"));
  refused("eval", "--text t");
  refused("score", "--save-imatrix i");
  refused("compare", "--bpw 3");
  EXPECT_FALSE(std::filesystem::exists(scratch_ / "q.onnx"));
  // What both kinds have: infoq's own options.
  EXPECT_EQ(run_on("score", "--directions 8 --neighbours 2 --no-inverse-width").code, 0);
}

}  // namespace
}  // namespace strata::vision
