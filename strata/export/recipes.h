#pragma once

#include <string>
#include <vector>

#include "strata/allocation/plan.h"

namespace strata {

// A plan in the words of a program that quantizes for itself.
struct RecipeKind {
  std::string name;  // as in --for
  std::string what;  // one line for the help
  std::string (*text)(const Plan& plan);
};

// llama-quantize (lines REGEX=TYPE for --tensor-type-file), gptqmodel (QuantizeConfig with `dynamic`, JSON),
// llm-compressor (a recipe with config_groups, YAML), autoround (layer configuration, JSON).
const std::vector<RecipeKind>& recipe_kinds();

// The plan as one of these. Throws UsageError for an unknown kind, and for schemes that the program cannot
// make: GGUF types for llama-quantize, affine groups for the others.
std::string recipe_text(const std::string& kind, const Plan& plan);

// A tensor-type file of llama-quantize read back: the type of each of these tensors (names as in the
// checkpoint; the expressions see their GGUF names). As there, the first expression that is found in a name
// decides. Throws, naming the line, for an expression that does not compile or finds nothing, for an unknown
// type, and naming the tensor for one that no expression finds. Those of `others` that an expression finds
// follow the result, without shapes.
std::vector<Assignment> read_tensor_types(const std::string& text, const std::vector<Assignment>& tensors,
                                          const std::string& where,
                                          const std::vector<std::string>& others = {});

}  // namespace strata
