// A tensor-type file of llama-quantize.
#include "strata/export/recipes.h"
#include "tests/fuzz/fuzz_target.h"

STRATA_FUZZ_TARGET(recipe) {
  const std::vector<strata::Assignment> tensors = {{"model.layers.0.self_attn.q_proj.weight", 64, 256, {}},
                                                   {"model.layers.11.mlp.down_proj.weight", 256, 512, {}}};
  strata::read_tensor_types(std::string(bytes), tensors, "types.txt", {"model.embed_tokens.weight"});
}
