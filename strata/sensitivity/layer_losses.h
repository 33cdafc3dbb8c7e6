#pragma once

#include <ATen/ATen.h>

#include <array>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "strata/model/decoder_layer.h"

namespace strata {

constexpr size_t kRoles = 7;  // q, k, v, o, gate, up, down, in the order of Role

// The matrices that may take the place of a layer's own, by role: [options] of [out, in].
using LayerOptions = std::array<std::vector<at::Tensor>, kRoles>;

// Which option every matrix of a layer takes: 0 its own weights, i the i-th option.
using LayerChoice = std::array<int, kRoles>;

// Everything that runs a layer: its weights and what does not depend on them.
struct LayerRun {
  const ModelConfig& config;
  LayerWeights weights;
  RopeTable rope;
  int64_t window = 0;  // of the attention
};

// Sees what the layer gives [B, T, d] under a choice; the unchanged layer first.
using SeeOutput = std::function<void(const LayerChoice& choice, const at::Tensor& output)>;

// Runs a layer on hidden states [B, T, d] as it is, with every matrix replaced by each of its options, and,
// with `pairs`, with every two matrices replaced by each of theirs. What a choice leaves as it was is not
// computed again: attention runs once for every choice of q, k and v, and the MLP's products once for every
// input and matrix.
void for_each_change(const LayerRun& run, const LayerOptions& options, bool pairs, const at::Tensor& hidden,
                     const SeeOutput& see);

// Where the losses of single changes and pairs stand in one flat list: for every role its options, then for
// every two roles their options' pairs, the later role's options running fastest.
class ChangeIndex {
 public:
  ChangeIndex(const LayerOptions& options, bool pairs);

  size_t size() const { return size_; }
  size_t single(size_t role, size_t option) const { return singles_[role] + option; }  // options from 0
  size_t pair(size_t role, size_t option, size_t later_role, size_t later_option) const {
    return pairs_[role][later_role] + option * counts_[later_role] + later_option;
  }
  size_t of(const LayerChoice& choice) const;  // one or two changes

 private:
  std::array<size_t, kRoles> counts_{}, singles_{};
  std::array<std::array<size_t, kRoles>, kRoles> pairs_{};
  size_t size_ = 0;
};

}  // namespace strata
