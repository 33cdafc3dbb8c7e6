#include "strata/sensitivity/layer_losses.h"

#include <algorithm>

namespace strata {
namespace {

constexpr size_t kQ = 0, kK = 1, kV = 2, kO = 3, kGate = 4, kUp = 5, kDown = 6;

class ChangedLayer {
 public:
  ChangedLayer(const LayerRun& run, const LayerOptions& options, bool pairs, const at::Tensor& hidden,
               const SeeOutput& see)
      : run_(run), options_(options), most_changes_(pairs ? 2 : 1), hidden_(hidden), see_(see) {}

  void attention_choices() {
    for_each_option(kQ, [&] {
      for_each_option(kK, [&] {
        for_each_option(kV, [&] {
          const at::Tensor mixed = mix();
          for_each_option(kO,
                          [&] { mlp_choices(hidden_ + at::linear(mixed, weight(kO), run_.weights.o_bias)); });
        });
      });
    });
  }

 private:
  // Calls `next` with the role unchanged, and then with each of its options while changes are left.
  template <class Next>
  void for_each_option(size_t role, const Next& next) {
    const int count = changes_ < most_changes_ ? static_cast<int>(options_[role].size()) : 0;
    for (int option = 0; option <= count; ++option) {
      choice_[role] = option;
      changes_ += option == 1;
      next();
    }
    changes_ -= count > 0;
    choice_[role] = 0;
  }

  const at::Tensor& weight(size_t role) {
    if (choice_[role] > 0) return options_[role][static_cast<size_t>(choice_[role] - 1)];
    return weight_of(run_.weights, static_cast<Role>(role));
  }

  // The input of the output projection.
  at::Tensor mix() {
    LayerWeights weights = run_.weights;
    weights.q = weight(kQ);
    weights.k = weight(kK);
    weights.v = weight(kV);
    at::Tensor mixed;
    attention_output(run_.config, weights, run_.rope, causal_attention_over(run_.window), hidden_,
                     [&](std::string_view module, const at::Tensor& input) {
                       if (module == "self_attn.o_proj") mixed = input;
                     });
    return mixed;
  }

  void mlp_choices(const at::Tensor& attended) {
    const at::Tensor normed = rms_norm(attended, run_.weights.post_attention_norm, run_.config.rms_norm_eps);
    std::vector<at::Tensor> ups(options_[kUp].size() + 1);  // products, where they are needed
    for_each_option(kGate, [&] {
      at::Tensor gate = at::linear(normed, weight(kGate), run_.weights.gate_bias);
      at::silu_(gate);
      for_each_option(kUp, [&] {
        at::Tensor& up = ups[static_cast<size_t>(choice_[kUp])];
        if (!up.defined()) up = at::linear(normed, weight(kUp), run_.weights.up_bias);
        const at::Tensor activated = gate * up;
        for_each_option(kDown, [&] {
          see_(choice_, at::linear(activated, weight(kDown), run_.weights.down_bias).add_(attended));
        });
      });
    });
  }

  LayerRun run_;
  const LayerOptions& options_;
  const int most_changes_;
  const at::Tensor& hidden_;
  const SeeOutput& see_;
  LayerChoice choice_{};
  int changes_ = 0;
};

}  // namespace

void for_each_change(const LayerRun& run, const LayerOptions& options, bool pairs, const at::Tensor& hidden,
                     const SeeOutput& see) {
  ChangedLayer(run, options, pairs, hidden, see).attention_choices();
}

ChangeIndex::ChangeIndex(const LayerOptions& options, bool pairs) {
  for (size_t role = 0; role < kRoles; ++role) {
    counts_[role] = options[role].size();
    singles_[role] = size_;
    size_ += counts_[role];
  }
  for (size_t role = 0; pairs && role < kRoles; ++role) {
    for (size_t later = role + 1; later < kRoles; ++later) {
      pairs_[role][later] = size_;
      size_ += counts_[role] * counts_[later];
    }
  }
}

size_t ChangeIndex::of(const LayerChoice& choice) const {
  std::vector<size_t> changed;
  for (size_t role = 0; role < kRoles; ++role)
    if (choice[role] > 0) changed.push_back(role);
  const auto option = [&](size_t i) { return static_cast<size_t>(choice[changed[i]] - 1); };
  if (changed.size() == 1) return single(changed[0], option(0));
  return pair(changed[0], option(0), changed[1], option(1));
}

}  // namespace strata
