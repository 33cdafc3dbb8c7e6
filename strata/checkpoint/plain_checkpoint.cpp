#include "strata/checkpoint/plain_checkpoint.h"

#include <cmath>

namespace strata {

float stored_from_plain(StoredForm form, float value) {
  switch (form) {
    case StoredForm::Plain:
      return value;
    case StoredForm::LessOne:
      return value - 1;
    case StoredForm::LogOfNegative:
      return std::log(-value);
  }
  return value;
}

float plain_from_stored(StoredForm form, float stored) {
  switch (form) {
    case StoredForm::Plain:
      return stored;
    case StoredForm::LessOne:
      return stored + 1;
    case StoredForm::LogOfNegative:
      return -std::exp(stored);
  }
  return stored;
}

void store_as(StoredForm form, std::vector<float>& values) {
  if (form == StoredForm::Plain) return;
  for (float& value : values) value = stored_from_plain(form, value);
}

void PlainCheckpoint::read_rows(const TensorInfo& tensor, int64_t first, int64_t count, float* target) const {
  base_->read_rows(tensor, first, count, target);
  const auto found = forms_.find(tensor.name);
  if (found == forms_.end()) return;
  for (int64_t i = 0; i < count * tensor.cols(); ++i) target[i] = plain_from_stored(found->second, target[i]);
}

}  // namespace strata
