#pragma once

#include <ATen/ATen.h>

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "strata/calibration/activations.h"

namespace strata {

// Adds sum x x' [in, in] of the rows of `input` [tokens, in], any floating type, to `sum`, float; an
// undefined one is zero.
void add_products(at::Tensor& sum, const at::Tensor& input);

// Sums over the tokens x of a calibration set that enter a module.
struct InputMoments {
  at::Tensor squares;   // sum of x_j^2, [in] double on the CPU
  at::Tensor sums;      // sum of x_j, [in] double on the CPU
  at::Tensor products;  // sum of x x', [in, in] float on the device; undefined when not asked for
  int64_t count = 0;    // tokens

  void add(const at::Tensor& input, bool with_products);  // [tokens, in]
};

// An expert that so few tokens of a calibration set reach is not known by them: what is measured of it is
// taken from all of its stack.
inline constexpr int64_t kFewTokens = 32;

// Of second moments that are in memory at a time where a stack has many experts.
inline constexpr int64_t kMomentFloats = int64_t{1} << 28;

// Sum of x x' over the tokens x that reach a matrix.
struct ProductMoments {
  at::Tensor products;  // [in, in] float on the device; undefined before the first tokens
  int64_t tokens = 0;

  void add(const at::Tensor& input);  // [tokens, in]
};

// Adds inputs to the moments that have room for them, by name.
ActivationStream::See add_to(std::map<std::string, ProductMoments>& moments);

// What the matrices of a module are known by. Experts that few tokens reach are known by the sum over all of
// their stack, which to what asks for no scale is an average.
class MomentsOfMatrices {
 public:
  // Called with every expert (0 where there are none) as its moments come, and with those that few tokens
  // reach, if there are any, at the end.
  using See = std::function<void(const std::vector<int64_t>& experts, const at::Tensor& products)>;
  MomentsOfMatrices(const Module& module, See see) : module_(module), see_(std::move(see)) {}

  void take(int64_t expert, const ProductMoments& own);
  // All of them, as many at a time as have `most_floats` in memory: `pass` shows their inputs.
  using Pass = std::function<void(const ActivationStream::See& see)>;
  void take_all(const Pass& pass, int64_t most_floats = kMomentFloats);
  std::vector<int64_t> finish();  // the experts that few tokens reach

 private:
  const Module& module_;
  See see_;
  at::Tensor sum_;
  std::vector<int64_t> few_;
};

// E[x_j^2] of what a module reads, given the sums of every matrix [matrices * inputs] and its tokens; a
// matrix that few reach takes the mean over all.
std::vector<float> mean_squares(const std::vector<float>& squares, const std::vector<double>& tokens);
std::vector<float> mean_squares(const Module& module, const std::map<std::string, InputMoments>& moments);

// Names on stderr the experts of a stack that fewer reach, if there are any.
void note_few_tokens(const Module& module, const std::vector<int64_t>& experts);

// Of the current layer of a stream, by Module::input; the stream stays before the layer, or moves behind it.
std::map<std::string, InputMoments> measure_inputs(ActivationStream& stream, bool with_products,
                                                   bool advance);

// sum over the calibration tokens of |W x|^2 for every output, [out] double on the CPU: the diagonal of
// W E W' with E = sum x x' in `moments`. `weight` is [out, in] float on the device of the moments.
at::Tensor output_squares(const at::Tensor& weight, const InputMoments& moments);

}  // namespace strata
