#include <algorithm>

#include "strata/core/error.h"
#include "strata/model/architecture.h"
#include "strata/model/config_gguf.h"

// One line an architecture: the function that its file defines. Of several with one name in GGUF files the
// first reads these.
// clang-format off
#define STRATA_ARCHITECTURES(add) \
  add(cohere2)                    \
  add(deepseek_v2)                \
  add(deepseek_v3)                \
  add(exaone4)                    \
  add(gemma)                      \
  add(gemma2)                     \
  add(gemma3_text)                \
  add(gemma4_text)                \
  add(glm4)                       \
  add(glm4_moe)                   \
  add(gpt_oss)                    \
  add(granite)                    \
  add(granitemoe)                 \
  add(granitemoehybrid)           \
  add(kimi_k2)                    \
  add(lfm2)                       \
  add(lfm2_moe)                   \
  add(llama)                      \
  add(ministral3)                 \
  add(mistral)                    \
  add(mixtral)                    \
  add(olmo3)                      \
  add(olmo2)                      \
  add(olmoe)                      \
  add(phi3)                       \
  add(qwen2)                      \
  add(qwen2_moe)                  \
  add(qwen3)                      \
  add(qwen3_5_moe_text)           \
  add(qwen3_5_text)               \
  add(qwen3_moe)                  \
  add(seed_oss)                   \
  add(smollm3)                    \
  add(starcoder2)
// clang-format on

namespace strata {

#define STRATA_DECLARE(name) Architecture name();
STRATA_ARCHITECTURES(STRATA_DECLARE)
#undef STRATA_DECLARE

namespace {

template <class Fits>
const Architecture* find_if(const Fits& fits) {
  const std::vector<Architecture>& all = architectures();
  const auto found = std::find_if(all.begin(), all.end(), fits);
  return found == all.end() ? nullptr : &*found;
}

}  // namespace

const std::vector<Architecture>& architectures() {
#define STRATA_CALL(name) name(),
  static const std::vector<Architecture> all = {STRATA_ARCHITECTURES(STRATA_CALL)};
#undef STRATA_CALL
  return all;
}

const Architecture* find_architecture(std::string_view model_type) {
  return find_if([&](const Architecture& known) { return known.model_type == model_type; });
}

const Architecture* find_architecture_of_class(std::string_view class_name) {
  return find_if([&](const Architecture& known) { return known.class_name == class_name; });
}

const Architecture* find_gguf_architecture(std::string_view gguf_name, const GgufFile& file) {
  const GgufKeys keys(file, std::string(gguf_name));
  const bool has_experts = keys.integer("expert_count", 0) > 0;
  return find_if([&](const Architecture& known) {
    return known.gguf_name == gguf_name && known.experts.value_or(has_experts) == has_experts &&
           (known.fits_gguf == nullptr || known.fits_gguf(keys));
  });
}

const Architecture& architecture_of(const ModelConfig& config) {
  if (const Architecture* found = find_architecture(config.architecture)) return *found;
  fail("the architecture '{}' is known by its sizes only; those that can be run are {}", config.architecture,
       known_architectures());
}

std::string gguf_refusal_of(const ModelConfig& config) {
  const RopeScaling& scaling = config.rope.scaling;
  if (scaling.type == RopeScaling::Type::Dynamic) return "dynamic rope scaling";
  const Architecture& architecture = architecture_of(config);
  if (scaling.type == RopeScaling::Type::Yarn && !scaling.truncate && !architecture.rounds_yarn)
    return "YaRN whose ends are not whole dimensions";
  return architecture.gguf_refusal == nullptr ? "" : architecture.gguf_refusal(config);
}

std::string known_architectures() {
  std::string names;
  for (const Architecture& known : architectures()) names += (names.empty() ? "" : ", ") + known.model_type;
  return names;
}

}  // namespace strata
