// The commands as a user runs them, on the bundled model.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "tests/cli/program.h"

namespace strata {
namespace {

using Json = nlohmann::json;

constexpr const char* kNovel = "data/books/the-man-who-was-thursday.txt";

Json json_of(const Outcome& outcome) {
  EXPECT_EQ(outcome.code, 0) << outcome.err;
  EXPECT_EQ(outcome.err, "");
  return Json::parse(outcome.out);
}

TEST(Commands, HelpNamesEveryCommand) {
  const Scratch scratch;
  const Outcome help = run(scratch, "--help");
  EXPECT_EQ(help.code, 0);
  for (const char* command : {"inspect", "score", "allocate", "frontier", "quantize", "eval", "compare"}) {
    EXPECT_NE(help.out.find(command), std::string::npos) << command;
    const Outcome own = run(scratch, std::string(command) + " --help");
    EXPECT_EQ(own.code, 0);
    EXPECT_NE(own.out.find("--threads"), std::string::npos) << command;
  }
}

// One page of the whole run, and a card beside the file, which is never another's.
TEST(Commands, QuantizeWritesAReportAndACard) {
  const Scratch scratch;
  const std::string dir = scratch.path().string();
  const std::string command = std::string("quantize ") + kModel + " --effort quick --bpw 3.0 --text " +
                              kNovel + " --tokens 1024 --json -o " + dir + "/m.gguf --card --report " + dir +
                              "/r.html";
  const Json json = json_of(run(scratch, command));
  const std::string page = slurp(scratch / "r.html"), card = slurp(scratch / "README.md");
  for (const char* loads : {"src=", "href=", "@import", "url("})
    EXPECT_EQ(page.find(loads), std::string::npos) << loads;
  for (const char* part : {"heat-map", "layer 15, mlp.down_proj", "least cost", "Loss by place in the window",
                           "llama-cli -m", "calib-tokens", "kl-tokens", "tiny-llama at 3.00 bits"})
    EXPECT_NE(page.find(part), std::string::npos) << part;
  const Json& written = json["measurements"][2];
  const std::string kld = fmt::format("{:.4f}", written["kld"].get<double>());
  EXPECT_NE(page.find(kld), std::string::npos);
  EXPECT_EQ(card.rfind("---\nbase_model: \"tiny-llama\"\nbase_model_relation: quantized\n", 0), 0u) << card;
  EXPECT_NE(card.find(kld), std::string::npos) << card;
  EXPECT_NE(card.find(fmt::format("{:.4f}", json["plan"]["bits_per_weight"].get<double>())),
            std::string::npos);
  EXPECT_NE(card.find("llama-cli -m m.gguf"), std::string::npos) << card;

  EXPECT_EQ(run(scratch, command).code, 0);  // over its own card
  run_shell(scratch, "echo mine > " + dir + "/README.md");
  const Outcome refused = run(scratch, command);
  EXPECT_EQ(refused.code, 2);
  EXPECT_NE(refused.err.find("README.md is there and strata did not write it"), std::string::npos);
  EXPECT_EQ(slurp(scratch / "README.md"), "mine\n");
}

// --help shows what is asked for every day, --help-all what there is: declared options of methods, quantizers
// and allocators among it, which no file of the command line names.
TEST(Commands, HelpIsShortAndHelpAllIsComplete) {
  const Scratch scratch;
  const auto count = [](const std::string& help) {
    size_t options = 0;
    for (size_t at = help.find("\n  -"); at != std::string::npos; at = help.find("\n  -", at + 1)) ++options;
    return options;
  };
  for (const char* command : {"score", "allocate", "quantize", "eval", "compare"}) {
    const std::string name = command;
    const std::string help = run(scratch, name + " --help").out, all = run(scratch, name + " --help-all").out;
    EXPECT_LE(count(help), 15u) << help;
    EXPECT_GT(count(all), count(help)) << all;
    EXPECT_NE(help.find("more options: strata " + name + " --help-all"), std::string::npos) << help;
  }
  for (const char* command : {"quantize", "compare"}) {
    const std::string all = run(scratch, std::string(command) + " --help-all").out;
    for (const char* part :
         {"Method nsds", "--tau", "Method kl", "--kl-tokens INT=1024", "Method high-impact", "--interactions",
          "Quantizer gptq, awq+gptq", "--damping FLOAT=0.01", "--learn-steps INT=500", "Allocator boost",
          "--rebase", "Allocator exact, quadratic", "--gap FLOAT=0.0001", "ONNX models: images", "--labels"})
      EXPECT_NE(all.find(part), std::string::npos) << command << " " << part;
  }
}

TEST(Commands, InspectDescribesTheModel) {
  const Scratch scratch;
  const Json json = json_of(run(scratch, std::string("inspect --json ") + kModel));
  EXPECT_EQ(json["layers"], 16);
  EXPECT_EQ(json["params"], 14688512);
  EXPECT_EQ(json["tied_embeddings"], true);
  EXPECT_EQ(json["roles"].size(), 7u);
  const Outcome text = run(scratch, std::string("inspect --tensors ") + kModel);
  EXPECT_NE(text.out.find("16 layers"), std::string::npos);
  EXPECT_NE(text.out.find("model.layers.15.mlp.down_proj.weight"), std::string::npos);
}

// score -> allocate -> quantize --plan gives the same file as quantize alone.
TEST(Commands, StagesThroughFilesGiveTheSameBytesAsOneGo) {
  const Scratch scratch;
  const std::string dir = scratch.path().string();
  ASSERT_EQ(run(scratch, std::string("score ") + kModel + " --method kurtosis --schemes gguf -o " + dir +
                             "/scores.json")
                .code,
            0);
  ASSERT_EQ(
      run(scratch, "allocate " + dir + "/scores.json --schemes gguf --bpw 3.1 -o " + dir + "/plan.json").code,
      0);
  const Json plan = Json::parse(slurp(scratch / "plan.json"));
  EXPECT_EQ(plan["format"], "strata.plan");
  EXPECT_EQ(plan["assignments"].size(), 112u);
  EXPECT_LE(plan["bits_per_weight"], 3.1);
  EXPECT_GT(plan["bits_per_weight"], 3.08);
  ASSERT_EQ(run(scratch, std::string("quantize --effort quick ") + kModel + " --plan " + dir +
                             "/plan.json -o " + dir + "/staged.gguf")
                .code,
            0);
  ASSERT_EQ(run(scratch, std::string("quantize --effort quick ") + kModel +
                             " --method kurtosis --bpw 3.1 --threads 1 -o " + dir + "/direct.gguf")
                .code,
            0);
  const std::string staged = slurp(scratch / "staged.gguf");
  EXPECT_GT(staged.size(), 5000000u);
  EXPECT_TRUE(staged == slurp(scratch / "direct.gguf")) << "the two files differ";
}

// Where stdout is one document, stderr is silent.
TEST(Commands, NotesAreInTheDocumentOfJson) {
  const Scratch scratch;
  const std::string scores = (scratch / "scores.json").string();
  ASSERT_EQ(
      run(scratch, std::string("score ") + kModel + " --method kurtosis --schemes Q4_0,Q8_0 -o " + scores)
          .code,
      0);
  const Outcome outcome = run(scratch, "allocate " + scores + " --bpw 12 --json");
  EXPECT_EQ(outcome.err, "");
  const Json plan = json_of(outcome);
  ASSERT_EQ(plan["notes"].size(), 1u);
  EXPECT_NE(plan["notes"][0].get<std::string>().find("every matrix takes the largest"), std::string::npos);
  const Outcome text = run(scratch, "allocate " + scores + " --bpw 12");
  EXPECT_NE(text.err.find("every matrix takes the largest"), std::string::npos);
}

TEST(Commands, QuantizeSaysWhatWasLostAndWhatMoreWouldCost) {
  const Scratch scratch;
  const std::string quantize =
      std::string("quantize ") + kModel + " --effort quick --bpw 3.0 -o " + (scratch / "m.gguf").string();
  const std::string unknown = run(scratch, quantize).out;
  EXPECT_NE(unknown.find("lost         not measured; --text FILE does; --effort standard would take about "),
            std::string::npos)
      << unknown;
  EXPECT_NE(unknown.find(" GiB, best "), std::string::npos) << unknown;
  const std::string text = run(scratch, quantize + " --text " + kNovel + " --tokens 1024").out;
  EXPECT_NE(text.find("lost         KL divergence 0."), std::string::npos) << text;
}

// What --fit suggests is a size that quantize takes, and the file is no larger.
TEST(Commands, FrontierFindsTheFileThatFitsAMemory) {
  const Scratch scratch;
  const std::string scores = (scratch / "scores.json").string(), file = (scratch / "m.gguf").string();
  ASSERT_EQ(run(scratch, std::string("score ") + kModel + " --method prior --schemes gguf -o " + scores).code,
            0);
  const Json json = json_of(
      run(scratch, "frontier --json " + scores + " --fit 160MiB --context 4096 --plot " + file + ".html"));
  EXPECT_GT(json["points"].size(), 100u);
  const Json& fit = json["fit"];
  const int64_t layers = 16, heads = 4, features = 32;
  EXPECT_EQ(fit["cache"], layers * 4096 * heads * features * 2 * 2);
  const uint64_t size = fit["file_bytes"];
  EXPECT_EQ(size + fit["cache"].get<uint64_t>() + fit["buffers"].get<uint64_t>(), 160u << 20);
  EXPECT_NE(slurp(file + ".html").find("least cost"), std::string::npos);
  const Outcome text = run(scratch, "frontier " + scores + " --fit 160MiB --context 4096");
  EXPECT_NE(text.out.find("--size " + std::to_string(size)), std::string::npos) << text.out;

  // A memory that only small schemes fit into.
  const uint64_t memory = (160u << 20) - size + (7u << 20);
  const Json tight =
      json_of(run(scratch, fmt::format("frontier --json {} --fit {} --context 4096", scores, memory)))["fit"];
  ASSERT_EQ(tight["file_bytes"], 7u << 20);
  const Json made =
      json_of(run(scratch, fmt::format("quantize --json {} --effort quick --scores {} --size {} -o {}",
                                       kModel, scores, 7u << 20, file)));
  EXPECT_LE(made["file_bytes"], 7u << 20);
  EXPECT_NEAR(made["plan"]["cost"].get<double>(), tight["point"]["cost"].get<double>(),
              0.02 * tight["point"]["cost"].get<double>());
}

TEST(Commands, QuantizeMeasuresTheFileItWrote) {
  const Scratch scratch;
  const std::string dir = scratch.path().string();
  const Json json =
      json_of(run(scratch, std::string("quantize --json ") + kModel + " --effort quick --bpw 3.0 --text " +
                               kNovel + " --tokens 1024 -o " + dir + "/m.gguf"));
  ASSERT_EQ(json["measurements"].size(), 3u);
  EXPECT_EQ(json["measurements"][0]["name"], "unquantized");
  EXPECT_EQ(json["measurements"][0]["tokens"], 2 * 511);
  EXPECT_EQ(json["measurements"][1]["name"], "uniform");
  const Json& written = json["measurements"][2];
  EXPECT_EQ(written["name"], "prior");
  EXPECT_GT(written["kld"], 0.01);
  EXPECT_EQ(json["file_bytes"], std::filesystem::file_size(scratch / "m.gguf"));
  const Json eval = json_of(run(scratch, std::string("eval --json ") + dir + "/m.gguf --reference " + kModel +
                                             " --text " + kNovel + " --tokens 1024"));
  EXPECT_NEAR(eval["ppl"].get<double>(), written["ppl"].get<double>(), 1e-6 * written["ppl"].get<double>());
  EXPECT_NEAR(eval["kld"].get<double>(), written["kld"].get<double>(), 1e-6);
}

TEST(Commands, SizeLimitsTheWholeFile) {
  const Scratch scratch;
  const std::string file = (scratch / "m.gguf").string();
  const Json json = json_of(run(scratch, std::string("quantize --effort quick --json ") + kModel +
                                             " --method weight-error --size 7MB -o " + file));
  EXPECT_LE(std::filesystem::file_size(file), 7000000u);
  EXPECT_GT(std::filesystem::file_size(file), 6900000u);
  EXPECT_EQ(json["plan"]["budget"],
            "6.68 MiB in all");  // what was asked for, not what is left for the matrices
}

TEST(Commands, SizeLimitsADirectoryWithAllItsFiles) {
  const Scratch scratch;
  for (const char* format : {"compressed-tensors", "gptq", "gptq_v2", "mlx", "strata"}) {
    const auto target = scratch / format;
    json_of(run(scratch, std::string("quantize --effort quick --json --method uniform --size 10MB ") +
                             kModel + " --format " + format + " -o " + target.string()));
    uint64_t bytes = 0;
    for (const auto& entry : std::filesystem::directory_iterator(target)) bytes += entry.file_size();
    EXPECT_LE(bytes, 10000000u) << format;
    EXPECT_GT(bytes, 9700000u) << format;
  }
  EXPECT_EQ(run(scratch, std::string("quantize --effort quick --method uniform --size 10MB --format hf ") +
                             kModel + " -o " + (scratch / "hf").string())
                .code,
            2);
}

// Rows of two widths, planned, written, opened and measured.
TEST(Commands, MixedRowsGoThroughAllStages) {
  const Scratch scratch;
  const std::string out = (scratch / "out").string();
  const Json json = json_of(run(scratch, std::string("quantize --effort quick --json ") + kModel +
                                             " --method uniform --schemes w2g64+w3 --bpw 2.6 --allocator "
                                             "quadratic --format strata --text " +
                                             kNovel + " --tokens 1024 -o " + out));
  EXPECT_EQ(json["format"], "strata");
  EXPECT_EQ(json["measurements"].size(), 2u);  // before and after
  EXPECT_LE(json["plan"]["bits_per_weight"], 2.6);
  EXPECT_GT(json["plan"]["bits_per_weight"], 2.599);
  const Json inspected = json_of(run(scratch, "inspect --json " + out));
  EXPECT_NE(inspected.dump().find("w2g64+w3@0.1"), std::string::npos);
}

TEST(Commands, GptqLosesLessThanRoundToNearest) {
  const Scratch scratch;
  const Outcome outcome =
      run(scratch,
          "compare models/tiny-llama --text data/books/the-man-who-was-thursday.txt --tokens 512 --methods "
          "uniform --schemes w3g128 --bpw 3.25 --quantizer rtn,gptq --calib "
          "data/wikitext-2/wiki.train.first-1MB.raw --calib-tokens 1024 --json --quiet");
  ASSERT_EQ(outcome.code, 0) << outcome.err;
  const nlohmann::json rows = nlohmann::json::parse(outcome.out)["rows"];
  ASSERT_EQ(rows.size(), 3u);
  EXPECT_EQ(rows[1]["quantizer"], "rtn");
  EXPECT_LT(rows[2]["kld"].get<double>(), rows[1]["kld"].get<double>());
}

TEST(Commands, CompareGivesARowForEveryCell) {
  const Scratch scratch;
  const Json json =
      json_of(run(scratch, std::string("compare --json ") + kModel + " --text " + kNovel +
                               " --tokens 512 --methods uniform,random,zd --seeds 2 --bpw 3,4"));
  ASSERT_EQ(json["rows"].size(), 7u);
  const Json& uniform = json["rows"][1];
  const Json& random = json["rows"][2];
  EXPECT_EQ(uniform["method"], "uniform");
  EXPECT_TRUE(random.contains("ppl_spread"));
  for (size_t i = 1; i < json["rows"].size(); ++i) {
    EXPECT_LE(json["rows"][i]["bits_per_weight"], json["rows"][i]["budget"]);
    EXPECT_NEAR(json["rows"][i]["bits_per_weight"].get<double>(), json["rows"][i]["budget"].get<double>(),
                0.02);
  }
}

}  // namespace
}  // namespace strata
