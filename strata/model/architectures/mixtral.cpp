#include "strata/model/architectures/experts.h"

namespace strata {
namespace {

const ExpertNames kMixtralNames = [] {
  ExpertNames names = {"block_sparse_moe", "gate", "w1", "w3", "w2"};
  names.all_gate_up = names.all_down = "";
  return names;
}();

}  // namespace

// Mistral with experts; llama.cpp knows it as Llama.
Architecture mixtral() {
  Architecture mixtral;
  mixtral.model_type = "mixtral";
  mixtral.class_name = "MixtralForCausalLM";
  mixtral.gguf_slides = false;
  mixtral.gguf_name = "llama";
  mixtral.experts = true;
  mixtral.defaults = {{"rms_norm_eps", 1e-5}};
  mixtral.read_json = [](const ConfigFields& fields, ModelConfig& config) {
    read_experts(fields, "intermediate_size", config);
    read_sliding_window(fields, config);
  };
  mixtral.write_json = [](const ModelConfig& config, const std::string&, Json& json) {
    json["num_local_experts"] = config.experts.count;
    json["num_experts_per_tok"] = config.experts.used;
    json["sliding_window"] = config.sliding_window > 0 ? Json(config.sliding_window) : Json(nullptr);
  };
  mixtral.gguf_refusal = [](const ModelConfig& config) { return expert_gguf_refusal(config, true); };
  mixtral.tensors = [](const ModelConfig& config, int layer) {
    return pre_norm_expert_tensors(config, layer, true, kMixtralNames);
  };
  mixtral.plan = [](const ModelConfig& config, int layer) {
    return pre_norm_expert_plan(config, layer, kMixtralNames);
  };
  return mixtral;
}

}  // namespace strata
