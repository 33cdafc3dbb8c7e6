#include "strata/model/config_checks.h"

#include <algorithm>
#include <cmath>

#include "strata/core/error.h"

namespace strata {
namespace {

// Far above any published model, and small enough that a product of three fits 63 bits.
constexpr int64_t kLargestWidth = 1 << 20;
constexpr int64_t kMostExperts = 1 << 14;
constexpr int64_t kLargestFilter = 1 << 10;
constexpr int64_t kLargestVocabulary = 1 << 24;

void check_size(const std::string& where, const char* name, int64_t value, int64_t limit) {
  if (value < 1 || value > limit)
    fail("{}: {} is {}, but must lie between 1 and {}", where, name, value, limit);
}

void check_real(const std::string& where, const char* name, double value, double low, double high) {
  if (!(value >= low && value <= high))
    fail("{}: {} is {}, but must lie between {} and {}", where, name, value, low, high);
}

void check_divisors(const Rope& rope, const std::vector<float>& divisors, const std::string& where) {
  if (static_cast<int64_t>(divisors.size()) != rope.rotary_dim / 2)
    fail("{}: {} rotary frequency factors where {} features of a head rotate, expected {}", where,
         divisors.size(), rope.rotary_dim, rope.rotary_dim / 2);
  // Of features that do not turn some files have 1e30.
  for (const float divisor : divisors) check_real(where, "a rotary frequency factor", divisor, 1e-6, 1e31);
}

void check_rope(const Rope& rope, const std::string& where) {
  check_real(where, "rope_theta", rope.theta, 1, 1e15);
  const RopeScaling& scaling = rope.scaling;
  if (scaling.type == RopeScaling::Type::None) return;
  if (scaling.type == RopeScaling::Type::Proportional)
    return check_real(where, "partial_rotary_factor", scaling.turning_part, 1e-6, 1);
  if (scaling.type == RopeScaling::Type::Divisors) return check_divisors(rope, scaling.divisors, where);
  if (scaling.type == RopeScaling::Type::Long) {
    check_divisors(rope, scaling.divisors, where);
    check_divisors(rope, scaling.long_divisors, where);
    check_real(where, "the attention factor of longrope", scaling.attention_factor, 1e-3, 1e3);
    check_size(where, "original_max_position_embeddings", scaling.original_max_position_embeddings,
               int64_t{1} << 40);
    return;
  }
  check_real(where, "the rope scaling factor", scaling.factor, 1, 1e6);
  if (scaling.type == RopeScaling::Type::Yarn) {
    check_real(where, "the attention factor of yarn", scaling.attention_factor, 1e-3, 1e3);
    check_real(where, "beta_slow", scaling.beta_slow, 1e-6, 1e6);
    check_real(where, "beta_fast", scaling.beta_fast, scaling.beta_slow, 1e6);
    check_size(where, "original_max_position_embeddings", scaling.original_max_position_embeddings,
               int64_t{1} << 40);
  }
  if (scaling.type == RopeScaling::Type::Dynamic && rope.rotary_dim < 4)
    fail("{}: {} features of a head rotate, too few for a dynamic base", where, rope.rotary_dim);
  if (scaling.type != RopeScaling::Type::Llama3) return;
  check_real(where, "low_freq_factor", scaling.low_freq_factor, 1e-6, 1e6);
  check_real(where, "high_freq_factor", scaling.high_freq_factor, 1e-6, 1e6);
  if (scaling.high_freq_factor <= scaling.low_freq_factor)
    fail("{}: high_freq_factor is {}, but must be larger than low_freq_factor, which is {}", where,
         scaling.high_freq_factor, scaling.low_freq_factor);
  check_size(where, "original_max_position_embeddings", scaling.original_max_position_embeddings,
             int64_t{1} << 40);
}

void check_experts(const ExpertSizes& experts, const std::string& where) {
  check_size(where, "the number of experts", experts.count, kMostExperts);
  check_size(where, "the number of experts that a token uses", experts.used, experts.count);
  check_size(where, "the intermediate size of an expert", experts.width, kLargestWidth);
  if (experts.shared_width != 0)
    check_size(where, "the intermediate size of the shared expert", experts.shared_width, kLargestWidth);
  check_size(where, "n_group, the number of groups of experts,", experts.groups, experts.count);
  if (experts.count % experts.groups != 0)
    fail("{}: n_group is {}, which does not divide the {} experts; expected a divisor", where, experts.groups,
         experts.count);
  check_size(where, "topk_group, the number of groups that a token uses,", experts.groups_used,
             experts.groups);
  if (const int64_t open = experts.count / experts.groups * experts.groups_used; experts.used > open)
    fail("{}: a token uses {} experts, but the {} groups that it uses have only {}", where, experts.used,
         experts.groups_used, open);
  check_real(where, "the scale of the experts' gates", experts.scale, 1e-6, 1e6);
}

// Of layers whose values attention does not mix.
void check_mixers(const ModelConfig& config, const std::string& where) {
  check_size(where, "the width of the convolution", config.convolution.width, kLargestFilter);
  const RecurrenceSizes& sizes = config.recurrence;
  if (sizes.value_heads == 0) return;
  check_size(where, "the number of value heads", sizes.value_heads, kLargestWidth);
  check_size(where, "the number of key heads", sizes.key_heads, sizes.value_heads);
  check_size(where, "the size of a key head", sizes.key_dim, kLargestWidth);
  check_size(where, "the size of a value head", sizes.value_dim, kLargestWidth);
  if (sizes.value_heads % sizes.key_heads != 0)
    fail("{}: {} value heads read {} key heads, but each of these must be read by equally many", where,
         sizes.value_heads, sizes.key_heads);
  if (std::max(sizes.keys(), sizes.values()) > kLargestWidth)
    fail("{}: keys of {} and values of {} features in all, but at most {} are supported", where, sizes.keys(),
         sizes.values(), kLargestWidth);
}

void check_latent(const LatentSizes& sizes, const std::string& where) {
  check_size(where, "kv_lora_rank", sizes.rank, kLargestWidth);
  if (sizes.query_rank != 0) check_size(where, "q_lora_rank", sizes.query_rank, kLargestWidth);
  check_size(where, "qk_nope_head_dim", sizes.still_dim, kLargestWidth);
  check_size(where, "qk_rope_head_dim", sizes.turning_dim, kLargestWidth);
  check_size(where, "v_head_dim", sizes.value_dim, kLargestWidth);
}

void check_shared_keys(const ModelConfig& config, const std::string& where) {
  if (config.kv_shared_layers < 0 || config.kv_shared_layers >= config.num_layers)
    fail("{}: num_kv_shared_layers is {}, but must lie between 0 and {}, one less than there are layers",
         where, config.kv_shared_layers, config.num_layers - 1);
  for (int layer = 0; layer < config.num_layers; ++layer)
    if (config.key_layer(layer) < 0)
      fail(
          "{}: num_kv_shared_layers is {}, but no layer before those {} has keys and values of the kind that "
          "layer {} attends to; expected one that {}",
          where, config.kv_shared_layers, config.kv_shared_layers, layer,
          config.slides(layer) ? "slides" : "sees all tokens");
}

}  // namespace

void check_config(const ModelConfig& config, const std::string& where) {
  check_size(where, "hidden_size", config.hidden_size, kLargestWidth);
  check_size(where, "intermediate_size", config.intermediate_size, kLargestWidth);
  check_size(where, "num_hidden_layers", config.num_layers, kMostLayers);
  check_size(where, "num_attention_heads", config.num_heads, kLargestWidth);
  check_size(where, "num_key_value_heads", config.num_kv_heads, kLargestWidth);
  check_size(where, "head_dim", config.head_dim, kLargestWidth);
  check_size(where, "vocab_size", config.vocab_size, kLargestVocabulary);
  check_size(where, "max_position_embeddings", config.max_position_embeddings, int64_t{1} << 40);
  if (config.num_heads * config.head_dim > kLargestWidth)
    fail("{}: {} heads of size {} make {} query features, but at most {} are supported", where,
         config.num_heads, config.head_dim, config.num_heads * config.head_dim, kLargestWidth);
  for (const int64_t kv_heads : {config.num_kv_heads, config.sliding_kv_heads})
    if (kv_heads != 0 && config.num_heads % kv_heads != 0)
      fail("{}: num_attention_heads is {}, which num_key_value_heads {} does not divide", where,
           config.num_heads, kv_heads);
  if (config.sliding_head_dim != 0)
    check_size(where, "head_dim of sliding layers", config.sliding_head_dim, kLargestWidth);
  if (config.sliding_head_dim % 2 != 0)
    fail("{}: head_dim of sliding layers is {}, but rotary positions need an even number", where,
         config.sliding_head_dim);
  if (config.head_dim % 2 != 0 && config.rope.rotary_dim == config.head_dim)
    fail("{}: head_dim is {}, but rotary positions need an even number", where, config.head_dim);
  if (config.rope.rotary_dim < 2 || config.rope.rotary_dim % 2 != 0 ||
      config.rope.rotary_dim > config.head_dim)
    fail("{}: {} of {} features a head rotate, but an even number of them was expected", where,
         config.rope.rotary_dim, config.head_dim);
  if (config.sliding_window < 0)
    fail("{}: sliding_window is {}, but must be positive, or null for none", where, config.sliding_window);
  check_shared_keys(config, where);
  if (config.layer_embedding_size != 0)
    check_size(where, "hidden_size_per_layer_input", config.layer_embedding_size,
               kLargestWidth / config.num_layers);
  if (config.latent.rank != 0) check_latent(config.latent, where);
  if (config.experts.count > 0) check_experts(config.experts, where);
  if (!config.attention_layers.empty()) check_mixers(config, where);
  check_real(where, "rms_norm_eps", config.rms_norm_eps, 0, 1);
  check_rope(config.rope, where);
  if (config.sliding_rope) check_rope(*config.sliding_rope, where);
  if (config.query_growth > 0)
    check_size(where, "the context after which queries grow", config.query_growth_length, int64_t{1} << 40);
  check_real(where, "the scale of what blocks add", config.residual_scale, 1e-6, 1e6);
  check_real(where, "the scale of the logits", config.logit_scale, 1e-6, 1e6);
  check_real(where, "the scale of attention", config.attention_scale, 0, 1e3);
  check_real(where, "the scale of the embedding", config.embedding_scale, 1e-3, 1e6);
  for (const double cap : {config.attention_softcap, config.final_softcap})
    if (cap != 0) check_real(where, "a softcap", cap, 1e-3, 1e6);
}

}  // namespace strata
