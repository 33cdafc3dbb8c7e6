#include "strata/quantizers/shared_rounding.h"

#include <utility>

#include "strata/gguf/type.h"
#include "strata/quantizers/layer_by_layer.h"
#include "strata/quantizers/row_pieces.h"

namespace strata {
namespace {

bool is_quantized(const Scheme& scheme) {
  return scheme.kind != Scheme::Kind::Gguf || traits_of(scheme.gguf).block_elements > 1;
}

class SharedRounding : public LayerByLayerQuantizer, public SharedQuantizer {
 public:
  SharedRounding(const Model& model, QuantizerOptions quantizer,
                 const std::map<std::string, std::vector<float>>& importance)
      : LayerByLayerQuantizer(model), quantizer_(std::move(quantizer)), importance_(importance) {}

  void begin(const std::map<std::string, Scheme>& schemes) override {
    std::map<std::string, Scheme> own;
    for (const auto& [tensor, scheme] : schemes)
      if (has_own_rows(scheme) && is_quantized(scheme)) own.emplace(tensor, scheme);
    LayerByLayerQuantizer::begin(own);
  }

  void help() override { take_all(); }

 private:
  void start() override {}

  void quantize_layer(int layer) override {
    for (const Module* module : model().layer_modules(layer))
      if (const Scheme* scheme = planned(*module)) finish(*module, quantize(*module, *scheme));
  }

  QuantizedMatrix quantize(const Module& module, const Scheme& scheme) const {
    const TensorInfo& info = model().checkpoint->info(module.tensor);
    std::vector<float> weights(static_cast<size_t>(info.elements()));
    model().checkpoint->read(info, weights.data());
    QuantizerOptions of_module = quantizer_;
    if (const auto found = importance_.find(module.tensor); found != importance_.end())
      of_module.importance = found->second.data();
    const int64_t rows = module.rows_of_matrix(), cols = module.cols;
    std::vector<RowTask> tasks;
    for (int64_t matrix = 0; matrix < module.matrices(); ++matrix) {
      const QuantizerOptions options = options_of_matrix(of_module, matrix, rows, cols);
      tasks.push_back({{weights.data() + matrix * rows * cols, rows, cols},
                       scheme,
                       [options, scheme](MatrixView<const float> some) {
                         return quantize_matrix(some, scheme, options);
                       }});
    }
    std::vector<QuantizedMatrix> made = quantize_rows(tasks);
    return module.experts > 0 ? stack_of(std::move(made)) : std::move(made.front());
  }

  QuantizerOptions quantizer_;
  const std::map<std::string, std::vector<float>>& importance_;
};

}  // namespace

std::shared_ptr<CalibratedQuantizer> share_rounding(
    const Model& model, const QuantizerOptions& quantizer,
    const std::map<std::string, std::vector<float>>& importance) {
  return std::make_shared<SharedRounding>(model, quantizer, importance);
}

}  // namespace strata
