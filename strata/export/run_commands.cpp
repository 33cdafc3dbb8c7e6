#include "strata/export/run_commands.h"

#include <map>

namespace strata {

std::vector<std::string> run_commands(const std::string& format, const std::filesystem::path& path) {
  const std::string name = path.string();
  const std::map<std::string, std::vector<std::string>> by_format = {
      {"gguf", {"llama-cli -m " + name, "llama-server -m " + name + " -c 8192"}},
      {"compressed-tensors", {"vllm serve " + name, "python3 -m sglang.launch_server --model-path " + name}},
      {"gptq", {"vllm serve " + name, "python3 -m sglang.launch_server --model-path " + name}},
      {"gptq_v2", {"python3 -c \"from gptqmodel import GPTQModel; GPTQModel.load('" + name + "')\""}},
      {"mlx", {"mlx_lm.generate --model " + name + " --prompt 'Once upon a time'"}},
      {"hf",
       {"python3 -c \"from transformers import AutoModelForCausalLM; "
        "AutoModelForCausalLM.from_pretrained('" +
        name + "')\""}},
      {"strata", {"strata eval " + name + " --text sample.txt"}}};
  const auto found = by_format.find(format);
  return found == by_format.end() ? std::vector<std::string>() : found->second;
}

}  // namespace strata
