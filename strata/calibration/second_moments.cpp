#include "strata/calibration/second_moments.h"

#include <ATen/core/grad_mode.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <numeric>

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

void ProductMoments::add(const at::Tensor& input) {
  if (input.size(0) > 0 || !products.defined()) add_products(products, input);
  tokens += input.size(0);
}

ActivationStream::See add_to(std::map<std::string, ProductMoments>& moments) {
  return [&moments](const std::string& input, const at::Tensor& values) {
    if (const auto found = moments.find(input); found != moments.end()) found->second.add(values);
  };
}

void MomentsOfMatrices::take(int64_t expert, const ProductMoments& own) {
  if (module_.experts > 0) sum_ = sum_.defined() ? sum_.add_(own.products) : own.products.clone();
  if (module_.experts > 0 && own.tokens < kFewTokens)
    few_.push_back(expert);
  else
    see_({expert}, own.products);
}

void MomentsOfMatrices::take_all(const Pass& pass, int64_t most_floats) {
  const int64_t at_once = std::max<int64_t>(1, most_floats / (module_.cols * module_.cols));
  for (int64_t first = 0; first < module_.matrices(); first += at_once) {
    const int64_t end = std::min(first + at_once, module_.matrices());
    std::map<std::string, ProductMoments> moments;
    for (int64_t expert = first; expert < end; ++expert) moments[input_of(module_, expert)];
    pass(add_to(moments));
    for (int64_t expert = first; expert < end; ++expert)
      take(expert, moments.extract(input_of(module_, expert)).mapped());
  }
}

std::vector<int64_t> MomentsOfMatrices::finish() {
  if (!few_.empty()) see_(few_, sum_);
  return few_;
}

std::vector<float> mean_squares(const std::vector<float>& squares, const std::vector<double>& tokens) {
  const size_t inputs = squares.size() / tokens.size();
  std::vector<double> sums(inputs);
  for (size_t i = 0; i < squares.size(); ++i) sums[i % inputs] += squares[i];
  const double all = std::accumulate(tokens.begin(), tokens.end(), 0.0);
  std::vector<float> means(squares.size());
  for (size_t i = 0; i < squares.size(); ++i) {
    const double count = tokens[i / inputs];
    const bool is_known = count >= std::min<double>(kFewTokens, all);
    means[i] = static_cast<float>(is_known ? squares[i] / count : sums[i % inputs] / all);
  }
  return means;
}

std::vector<float> mean_squares(const Module& module, const std::map<std::string, InputMoments>& moments) {
  std::vector<float> squares;
  std::vector<double> tokens;
  std::vector<int64_t> few;
  for (int64_t expert = 0; expert < module.matrices(); ++expert) {
    const InputMoments& of_expert = moments.at(input_of(module, expert));
    const at::Tensor values = of_expert.squares.to(at::kFloat).contiguous();
    squares.insert(squares.end(), values.data_ptr<float>(), values.data_ptr<float>() + values.numel());
    tokens.push_back(static_cast<double>(of_expert.count));
    if (module.experts > 0 && of_expert.count < kFewTokens) few.push_back(expert);
  }
  note_few_tokens(module, few);
  return mean_squares(squares, tokens);
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
