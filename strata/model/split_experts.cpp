#include "strata/model/split_experts.h"

#include <algorithm>

#include "strata/model/layout.h"

namespace strata {

bool has_stacks(const Model& model) {
  return std::any_of(model.modules.begin(), model.modules.end(),
                     [](const Module& module) { return module.experts > 0; });
}

Model split_experts(const Model& model) {
  if (!has_stacks(model)) return model;
  require_runnable(model, "writing a Hugging Face directory");
  Model apart = model;
  apart.experts_apart = true;
  apart.checkpoint = std::make_shared<SplitCheckpoint>(model.checkpoint, expert_stacks(model.config));
  apart.modules.clear();
  for (const Module& module : model.modules) {
    if (module.experts == 0) {
      apart.modules.push_back(module);
      continue;
    }
    for (int64_t expert = 0; expert < module.experts; ++expert) {
      Module own = module;
      own.experts = 0;
      own.rows = module.rows_of_matrix();
      own.name = expert_name(module.name, expert);
      own.tensor = expert_name(module.tensor, expert);
      own.input = expert_name(module.input, expert);
      apart.modules.push_back(std::move(own));
    }
  }
  return apart;
}

}  // namespace strata
