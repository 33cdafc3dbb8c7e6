#pragma once

#include <ATen/ATen.h>

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "strata/forward/layer.h"

namespace strata {

// The matrices that may take the place of a layer's own, by module in the order of the layer: [options] of
// [out, in].
using LayerOptions = std::vector<std::vector<at::Tensor>>;

// Which option every module of a layer takes: 0 its own weights, i the i-th option.
using LayerChoice = std::vector<int>;

// Sees what the layer gives [B, T, d] under a choice; the unchanged layer first.
using SeeOutput = std::function<void(const LayerChoice& choice, const at::Tensor& output)>;

// Runs a layer on the stream [B, T, d] as it is, with every matrix replaced by each of its options, and,
// with `pairs`, with every two matrices replaced by each of theirs. `modules` are the names of the matrices
// inside the layer. What a choice leaves as it was is not computed again: a stage's products are computed
// once for every input and matrix, and attention runs once for every choice of q, k and v.
void for_each_change(const LayerRun& run, const std::vector<std::string>& modules,
                     const LayerOptions& options, bool pairs, const at::Tensor& stream, const SeeOutput& see);

// Where the losses of single changes and pairs stand in one flat list: for every module its options, then for
// every two modules their options' pairs, the later module's options running fastest.
class ChangeIndex {
 public:
  ChangeIndex(const LayerOptions& options, bool pairs);

  size_t size() const { return size_; }
  size_t single(size_t module, size_t option) const { return singles_[module] + option; }  // options from 0
  size_t pair(size_t module, size_t option, size_t later, size_t later_option) const {
    return pairs_[module][later] + option * counts_[later] + later_option;
  }
  size_t of(const LayerChoice& choice) const;  // one or two changes

 private:
  std::vector<size_t> counts_, singles_;
  std::vector<std::vector<size_t>> pairs_;
  size_t size_ = 0;
};

}  // namespace strata
