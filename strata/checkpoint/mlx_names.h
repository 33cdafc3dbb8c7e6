#pragma once

#include <string>

namespace strata {

// mlx-lm's names of a layer's experts, whose matrices it stores as stacks:
// "….mlp.experts.up_proj" <-> "….mlp.switch_mlp.up_proj", and of Mixtral
// "….block_sparse_moe.experts.w1" <-> "….block_sparse_moe.switch_mlp.gate_proj", or with what an architecture
// calls `stacks`. Other names stay.
std::string mlx_name(const std::string& name, const std::string& stacks);
std::string name_of_mlx(const std::string& mlx_name);

}  // namespace strata
