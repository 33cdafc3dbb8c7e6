#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "strata/checkpoint/checkpoint_view.h"

namespace strata {

// A checkpoint some of whose vectors (norms, biases) have other values.
class ReplacedCheckpoint : public CheckpointView {
 public:
  // Throws where a tensor is missing, is no vector or has another size.
  ReplacedCheckpoint(std::shared_ptr<const Checkpoint> base,
                     std::map<std::string, std::vector<float>> vectors);

  void read_rows(const TensorInfo& tensor, int64_t first, int64_t count, float* target) const override;
  bool altered(const std::string& name) const override {
    return vectors_.count(name) > 0 || base_->altered(name);
  }

 private:
  std::map<std::string, std::vector<float>> vectors_;
};

}  // namespace strata
