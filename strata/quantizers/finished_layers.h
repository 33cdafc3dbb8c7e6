#pragma once

#include <filesystem>
#include <map>
#include <string>

#include "strata/core/json.h"
#include "strata/quantization/calibrated_quantizer.h"

namespace strata {

// Layers that an expensive quantizer has finished, a file each, so that an interrupted run goes on behind
// them.
class FinishedLayers {
 public:
  // Keeps nothing.
  FinishedLayers() = default;

  // In DIRECTORY/NAME-<hash of identity>/, which is created; results of another identity are in another
  // folder. Throws where it cannot be written.
  FinishedLayers(const std::filesystem::path& directory, const std::string& name, const Json& identity);

  // Fills in matrices whose scheme, rows and cols are set; false where the layer is not there. Throws where a
  // file is damaged.
  bool read(int layer, std::map<std::string, QuantizedMatrix>& matrices) const;

  void write(int layer, const std::map<std::string, QuantizedMatrix>& matrices) const;  // complete or absent

 private:
  std::filesystem::path file_of(int layer) const;

  std::filesystem::path folder_;  // empty: keeps nothing
  std::string identity_;
};

}  // namespace strata
