#include "strata/calibration/second_moments.h"

#include <ATen/core/grad_mode.h>
#include <fmt/ranges.h>

#include "strata/core/progress.h"
#include "strata/device/products.h"

namespace strata {

void add_products(at::Tensor& sum, const at::Tensor& input) {
  const at::NoGradGuard no_grad;
  const at::Tensor x = input.to(at::kFloat);
  if (sum.defined())
    add_product(sum, x.t(), x);
  else
    sum = product(x.t(), x);
}

void InputMoments::add(const at::Tensor& input, bool with_products) {
  const at::NoGradGuard no_grad;
  const at::Tensor x = input.to(at::kFloat);
  const auto add_to = [](at::Tensor& total, const at::Tensor& part) {
    total = total.defined() ? total.add_(part) : part.clone();
  };
  // Sums of a piece are taken in double over rows of float squares, so that long texts lose nothing.
  add_to(squares, x.square().sum(0, false, at::kDouble).cpu());
  add_to(sums, x.sum(0, false, at::kDouble).cpu());
  if (with_products) add_products(products, x);
  count += x.size(0);
}

std::map<std::string, InputMoments> measure_inputs(ActivationStream& stream, bool with_products,
                                                   bool advance) {
  std::map<std::string, InputMoments> moments;
  const auto see = [&](const std::string& input, const at::Tensor& values) {
    moments[input].add(values, with_products);
  };
  if (advance)
    stream.advance(see);
  else
    stream.observe(see);
  return moments;
}

void note_few_tokens(const Module& module, const std::vector<int64_t>& experts) {
  if (experts.empty()) return;
  const bool half = 2 * static_cast<int64_t>(experts.size()) >= module.experts;
  show_note(fmt::format(
      "layer {}: {} of the {} experts of {} read fewer than {} of the calibration tokens and take their "
      "layer's "
      "average: {}{}",
      module.layer, experts.size(), module.experts, module.name, kFewTokens, fmt::join(experts, ", "),
      half ? "; its router sends nearly nothing to half of them, so give more or other text" : ""));
}

at::Tensor output_squares(const at::Tensor& weight, const InputMoments& moments) {
  const at::NoGradGuard no_grad;
  return product(weight, moments.products).mul_(weight).sum(1, false, at::kDouble).cpu();
}

}  // namespace strata
