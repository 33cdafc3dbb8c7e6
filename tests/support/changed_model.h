#pragma once

#include <gtest/gtest.h>

#include <filesystem>
#include <string>

#include "strata/core/file.h"
#include "strata/core/json.h"
#include "strata/model/model.h"
#include "tests/support/architecture_models.h"
#include "tests/support/error_of.h"
#include "tests/support/temporary_directory.h"

namespace strata {

// A copy of a model of tests/data/architectures, opened with a config that a test changes.
class ChangedModel : public testing::Test {
 protected:
  explicit ChangedModel(const std::string& name)
      : whole_(read_json(architecture_model(name).directory / "config.json")) {
    std::filesystem::copy(architecture_model(name).directory, directory_ / "model");
  }

  Model changed(const Json& changes) {
    Json config = whole_;
    config.update(changes);
    write_json(directory_ / "model" / "config.json", config);
    return open_model(directory_ / "model");
  }

  void expect_error(const Json& changes, const std::string& mentioned) {
    const std::string message = error_of([&] { changed(changes); });
    EXPECT_NE(message.find(mentioned), std::string::npos) << message;
  }

  void expect_sized_only(const Json& changes, const std::string& mentioned) {
    const Model model = changed(changes);
    EXPECT_FALSE(model.runnable);
    EXPECT_NE(model.refusal.find(mentioned), std::string::npos) << model.refusal;
  }

  const TemporaryDirectory directory_;
  const Json whole_;
};

}  // namespace strata
