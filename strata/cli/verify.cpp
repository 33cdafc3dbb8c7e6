// strata verify FILE [--reference MODEL]: whether a finished file is what it should be.
#include "strata/pipeline/verify.h"

#include <fmt/format.h>

#include "strata/cli/common.h"
#include "strata/cli/vision.h"
#include "strata/core/error.h"
#include "strata/core/stopwatch.h"
#include "strata/core/units.h"

namespace strata::cli {
namespace {

struct VerifyArguments {
  std::string model;
  std::filesystem::path reference;
};

void run(VerifyArguments& options, const CommonOptions& common, const Command& command) {
  if (kind_of_model(command, options.model) == ModelKind::Onnx)
    fail_usage("{} is an ONNX model; verify reads language models", options.model);
  const Stopwatch stopwatch;
  std::optional<std::filesystem::path> reference;
  if (!options.reference.empty()) reference = options.reference;
  const Verification found = verify(options.model, reference);
  const size_t count = found.faults.size();
  const std::string faults = count == 0   ? "no fault"
                             : count == 1 ? "1 fault"
                                          : fmt::format("{} faults", count);
  if (common.json) {
    print_json({{"model", options.model},
                {"faults", found.faults},
                {"notes", found.notes},
                {"tensors", found.tensors},
                {"matrices", found.matrices},
                {"bytes", found.bytes},
                {"seconds", stopwatch.seconds()}});
  } else {
    for (const std::string& fault : found.faults) fmt::print("fault: {}\n", fault);
    for (const std::string& note : found.notes) fmt::print("note: {}\n", note);
    fmt::print("{}: {} tensors of {} read", options.model, found.tensors, format_bytes(found.bytes));
    if (reference) fmt::print(", {} matrices compared with {}", found.matrices, options.reference.string());
    fmt::print(", {} in {}\n", faults, format_seconds(stopwatch.seconds()));
  }
  if (count > 0) fail("{} has {}", options.model, faults);
}

}  // namespace

void add_verify(Program& program) {
  auto [command, options] = add_command<VerifyArguments>(
      program, "verify", "check a finished file: structure, numbers, label, and nearness to its reference",
      run);
  command.argument("model", options.model, "MODEL", "the file or directory that was written");
  command.add("Reference",
              {everyday(path("reference", options.reference, "MODEL",
                             "the model that it was made from: every matrix must be as near to it as "
                             "its scheme lets it be"))},
              ModelKind::Language);
}

}  // namespace strata::cli
