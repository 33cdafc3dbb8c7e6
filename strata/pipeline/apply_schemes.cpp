#include "strata/pipeline/apply_schemes.h"

#include "strata/core/progress.h"

namespace strata {

std::map<std::string, Scheme> schemes_of(const Plan& plan) {
  std::map<std::string, Scheme> schemes;
  for (const Assignment& assignment : plan.assignments) schemes[assignment.tensor] = assignment.scheme;
  return schemes;
}

void apply_schemes(Decoder& decoder, const std::map<std::string, Scheme>& schemes,
                   const QuantizerOptions& quantizer) {
  decoder.restore_all();
  const Checkpoint& checkpoint = *decoder.model().checkpoint;
  Progress progress("quantizing in memory", static_cast<int64_t>(schemes.size()), "matrices");
  for (const auto& [name, scheme] : schemes) {
    const TensorInfo& info = checkpoint.info(name);
    at::Tensor weight = at::empty({info.rows(), info.cols()}, at::kFloat);
    checkpoint.read(info, weight.data_ptr<float>());
    fake_quantize({weight.data_ptr<float>(), info.rows(), info.cols()}, scheme, quantizer);
    decoder.replace(name, weight.to(decoder.options().device, decoder.options().dtype));
    progress.advance();
  }
}

}  // namespace strata
