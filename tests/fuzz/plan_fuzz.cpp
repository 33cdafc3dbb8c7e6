// A plan.json, as a recipe of every kind.
#include "strata/export/recipes.h"
#include "tests/fuzz/fuzz_target.h"

STRATA_FUZZ_TARGET(plan) {
  const strata::Plan plan = strata::read_plan(strata::fuzz_file("plan.json", bytes));
  for (const strata::RecipeKind& kind : strata::recipe_kinds()) {
    try {
      strata::recipe_text(kind.name, plan);
    } catch (const strata::UsageError&) {
    }
  }
}
