// strata recipe PLAN --for PROGRAM [-o FILE]: a plan in the words of another quantizer.
#include "strata/export/recipes.h"

#include <fmt/format.h>

#include "strata/cli/common.h"
#include "strata/core/file.h"
#include "strata/pipeline/plans.h"

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

void run(const RecipeArguments& options, const CommonOptions& common) {
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
  auto options = std::make_shared<RecipeArguments>();
  CLI::App* command = add_command(program, "recipe", "say a plan in the words of another quantizer",
                                  [&program, options] { run(*options, program.common); });
  command->add_option("plan", options->plan, "a plan.json, or a quantized model whose mix is wanted")
      ->required()
      ->type_name("PLAN");
  command->add_option("--for", options->kind, kinds())->required()->type_name("PROGRAM");
  command->add_option("-o,--output", options->output, "write the recipe here instead of printing it")
      ->type_name("FILE");
}

}  // namespace strata::cli
