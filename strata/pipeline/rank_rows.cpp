#include "strata/pipeline/rank_rows.h"

#include <vector>

namespace strata {

void rank_rows(const Model& model, const std::map<std::string, Scheme>& schemes,
               SensitivityOptions& sensitivity) {
  std::vector<Scheme> list;
  for (const auto& [tensor, scheme] : schemes) list.push_back(scheme);
  if (!mixes_rows(list) || sensitivity.row_impacts) return;
  if (!sensitivity.calibration && !sensitivity.calibration_source.source.empty())
    sensitivity.calibration =
        require_calibration(model, sensitivity.calibration_source, sensitivity.device, "the impact of rows");
  load_row_impacts(model, list, sensitivity);
}

}  // namespace strata
