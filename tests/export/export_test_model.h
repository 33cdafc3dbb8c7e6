#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <string>
#include <vector>

#include "strata/core/error.h"
#include "strata/export/export.h"
#include "strata/model/layout.h"
#include "tests/support/error_of.h"
#include "tests/support/random_model.h"
#include "tests/support/temporary_directory.h"

namespace strata {

// A random model on disk, and room for what is exported from it.
class ExportTest : public ::testing::Test {
 protected:
  Model make_model(const std::string& architecture, const Json& changes = Json::object(),
                   DType type = DType::F32) {
    Json config = small_config(architecture);
    config.update(changes);
    write_random_model(directory_ / "model", config, type);
    return open_model(directory_ / "model");
  }

  std::filesystem::path target(const std::string& name) const { return directory_ / name; }

  // Names beside the model: what an export left behind.
  std::vector<std::string> written() const {
    std::vector<std::string> names;
    for (const auto& entry : std::filesystem::directory_iterator(directory_.path()))
      if (entry.path().filename() != "model") names.push_back(entry.path().filename().string());
    std::sort(names.begin(), names.end());
    return names;
  }

 private:
  TemporaryDirectory directory_;
};

// Every module in one scheme, embedding and head in another.
inline ExportPlan uniform_plan(const Model& model, const std::string& scheme, const std::string& others) {
  ExportPlan plan;
  for (const Module& module : model.modules) plan.schemes[module.tensor] = parse_scheme(scheme);
  plan.embedding = plan.head = parse_scheme(others);
  plan.quantizer.name = "rtn";
  return plan;
}

}  // namespace strata
