#pragma once

#include <gtest/gtest.h>

#include "strata/model/model.h"
#include "tests/support/temporary_directory.h"
#include "tests/support/tiny_model.h"

namespace strata {

// What tests of steps between layers start from: a first layer, one between others and a last one.
class ThreeLayerModel : public testing::Test {
 protected:
  ThreeLayerModel() {
    TinyModel tiny;
    tiny.layers = 3;
    write_tiny_model(directory_ / "model", tiny);
    model_ = open_model(directory_ / "model");
  }

  TemporaryDirectory directory_;
  Model model_;
};

}  // namespace strata
