// strata recipe PLAN --for PROGRAM [-o FILE]: a plan in the words of another quantizer.
#include "strata/export/recipes.h"

#include <fmt/format.h>

#include "strata/cli/common.h"
#include "strata/core/file.h"
#include "strata/export/plans.h"

namespace strata::cli {
namespace {

struct RecipeArguments {
  std::string plan, kind, output;
};

// A plan.json, or a quantized model, whose own mix it then is.
Plan plan_of(const std::filesystem::path& path) {
  return path.extension() == ".json" && !std::filesystem::is_directory(path) ? read_plan(path)
                                                                             : stored_plan(open_model(path));
}

void run(RecipeArguments& options, const CommonOptions& common, const Command&) {
  require_apart({options.output}, "", {options.plan});
  const std::string text = recipe_text(options.kind, plan_of(options.plan));
  if (!options.output.empty()) write_text(options.output, text);
  if (common.json)
    print_json({{"plan", options.plan}, {"for", options.kind}, {"recipe", text}});
  else if (options.output.empty())
    fmt::print("{}", text);
}

std::string kinds() {
  std::string text;
  for (const RecipeKind& kind : recipe_kinds())
    text += fmt::format("{}{} ({})", text.empty() ? "" : ", ", kind.name, kind.what);
  return text;
}

}  // namespace

void add_recipe(Program& program) {
  auto [command, options] =
      add_command<RecipeArguments>(program, "recipe", "say a plan in the words of another quantizer", run);
  command.argument("plan", options.plan, "PLAN", "a plan.json, or a quantized model whose mix is wanted");
  command.add(
      "Recipe",
      {everyday(text("for", options.kind, "PROGRAM", kinds())),
       everyday(text("output", options.output, "FILE", "write the recipe here instead of printing it"))});
  command.require("for");
}

}  // namespace strata::cli
