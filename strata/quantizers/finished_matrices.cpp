#include "strata/quantizers/finished_matrices.h"

#include <utility>

#include "strata/core/error.h"
#include "strata/quantizers/row_pieces.h"

namespace strata {
namespace {

class FinishedMatrices : public CalibratedQuantizer {
 public:
  explicit FinishedMatrices(std::map<std::string, QuantizedMatrix> matrices)
      : matrices_(std::move(matrices)) {}

  void begin(const std::map<std::string, Scheme>& schemes) override {
    for (const auto& [tensor, scheme] : schemes)
      if (const QuantizedMatrix& matrix = find(tensor); !(matrix.scheme == scheme))
        fail("{} was quantized as {}, and is asked for as {}", tensor, matrix.scheme.name(), scheme.name());
  }

  QuantizedMatrix take(const std::string& tensor) override { return find(tensor); }
  bool makes(const std::string& tensor) const override { return matrices_.count(tensor) > 0; }

 private:
  const QuantizedMatrix& find(const std::string& tensor) const {
    const auto found = matrices_.find(tensor);
    if (found == matrices_.end()) fail("{} was not among the matrices that were quantized", tensor);
    return found->second;
  }

  std::map<std::string, QuantizedMatrix> matrices_;
};

class RememberedMatrices : public CalibratedQuantizer, public SharedQuantizer {
 public:
  explicit RememberedMatrices(std::shared_ptr<CalibratedQuantizer> quantizer)
      : quantizer_(std::move(quantizer)) {}

  void begin(const std::map<std::string, Scheme>& schemes) override {
    if (schemes == schemes_ && matrices_.size() == schemes.size()) return;
    matrices_.clear();
    schemes_ = schemes;
    quantizer_->begin(schemes);
  }

  QuantizedMatrix take(const std::string& tensor) override {
    const auto found = matrices_.find(tensor);
    if (found != matrices_.end()) return found->second;
    return matrices_[tensor] = quantizer_->take(tensor);
  }

  bool makes(const std::string& tensor) const override { return quantizer_->makes(tensor); }

  void help() override {
    auto* shared = dynamic_cast<SharedQuantizer*>(quantizer_.get());
    if (shared != nullptr && matrices_.size() != schemes_.size()) shared->help();
  }

 private:
  std::shared_ptr<CalibratedQuantizer> quantizer_;
  std::map<std::string, Scheme> schemes_;
  std::map<std::string, QuantizedMatrix> matrices_;
};

}  // namespace

std::shared_ptr<CalibratedQuantizer> hand_out(std::map<std::string, QuantizedMatrix> matrices) {
  return std::make_shared<FinishedMatrices>(std::move(matrices));
}

std::shared_ptr<CalibratedQuantizer> remember(std::shared_ptr<CalibratedQuantizer> quantizer) {
  return std::make_shared<RememberedMatrices>(std::move(quantizer));
}

}  // namespace strata
