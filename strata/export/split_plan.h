#pragma once

#include <filesystem>
#include <functional>

#include "strata/export/export.h"

namespace strata {

// The plan of a model for the same with its experts apart (split_experts.h): every matrix of a stack gets the
// stack's scheme and its part of what is known of it, and calibrated stacks are handed out one matrix at a
// time.
ExportPlan split_plan(const Model& model, const ExportPlan& plan);

}  // namespace strata
