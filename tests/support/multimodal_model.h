#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "strata/checkpoint/checkpoint.h"
#include "strata/checkpoint/safetensors_writer.h"
#include "strata/core/file.h"
#include "strata/core/json.h"
#include "tests/support/architecture_models.h"

namespace strata {

inline const std::string kOtherTower = "vision_tower.patch_embedding.weight";

// A fixture's tensors with another prefix beside a tensor of another tower, its config as a part of a larger
// one.
inline void write_multimodal(const ArchitectureModel& fixture, const std::string& prefix,
                             const std::filesystem::path& directory) {
  std::filesystem::create_directories(directory);
  const auto checkpoint = open_safetensors(fixture.directory);
  const std::string usual = "model.";
  std::vector<PlannedTensor> planned = {{kOtherTower, {3, 5}, DType::BF16}};
  for (const TensorInfo& tensor : checkpoint->tensors()) {
    const bool of_model = tensor.name.compare(0, usual.size(), usual) == 0;
    planned.push_back(
        {of_model ? prefix + tensor.name.substr(usual.size()) : tensor.name, tensor.shape, DType::F16});
  }
  SafetensorsWriter writer(directory, planned);
  const std::vector<float> other(15, 0.75f);
  writer.write(other.data(), 15);
  for (const TensorInfo& tensor : checkpoint->tensors()) {
    const std::vector<float> values = checkpoint->read(tensor.name);
    writer.write(values.data(), static_cast<int64_t>(values.size()));
  }
  writer.finish();
  const Json text = read_json(fixture.directory / "config.json");
  write_json(directory / "config.json",
             {{"model_type", "peculiar_vl"}, {"text_config", text}, {"vision_config", {{"layers", 3}}}});
  std::filesystem::copy_file(fixture.directory / "tokenizer.json", directory / "tokenizer.json");
}

}  // namespace strata
