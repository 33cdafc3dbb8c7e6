#pragma once

#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include "strata/checkpoint/checkpoint_view.h"

namespace strata {

// How a directory stores the values w of a vector: as they are, less 1 (the gains of some norms), or as
// ln(-w) (the rates by which recurrent states decay).
enum class StoredForm { Plain, LessOne, LogOfNegative };
float stored_from_plain(StoredForm form, float value);
float plain_from_stored(StoredForm form, float stored);
void store_as(StoredForm form, std::vector<float>& values);  // from plain ones

// A checkpoint whose vectors are read as what they mean, in whatever form they are stored.
class PlainCheckpoint : public CheckpointView {
 public:
  PlainCheckpoint(std::shared_ptr<const Checkpoint> base, std::unordered_map<std::string, StoredForm> forms)
      : CheckpointView(std::move(base)), forms_(std::move(forms)) {}

  void read_rows(const TensorInfo& tensor, int64_t first, int64_t count, float* target) const override;

 private:
  std::unordered_map<std::string, StoredForm> forms_;
};

}  // namespace strata
