#pragma once

#include <array>
#include <optional>
#include <string_view>
#include <vector>

#include "strata/sensitivity/nsds_components.h"

namespace strata {

// The components of a decoder layer: two circuits, three matrices.
enum class NsdsComponent { QueryKey, OutputValue, Gate, Up, Down };
inline constexpr int kNsdsComponents = 5;
std::string_view name_of(NsdsComponent component);  // "qk", "ov", "gate", "up", "down"

template <class T>
using PerComponent = std::array<T, kNsdsComponents>;

// What a layer has; a component it lacks is empty.
using NsdsLayer = PerComponent<std::optional<ComponentValues>>;

struct NsdsLayerScore {
  PerComponent<std::optional<double>> numerical, structural;  // P of every component, in [0, 1]
  double p_numerical = 0, p_structural = 0;                   // P_NV, P_SE: soft-OR over the components
  double soft_or = 0;                                         // soft-OR of the two, saturating at 1
  double log_form = 0;  // -sum ln(1 - P) >= 0, in the same order, unsaturated
};

// P_l = 1 / (1 + exp(-z_l)) with z_l = (r_l - median) / (c MAD + 1e-12) for each component and aspect over
// the layers, then soft-OR = 1 - prod (1 - P) (methods section of arXiv 2603.17354). c is 1.4826, which makes
// MAD estimate a normal deviation, or 1.
std::vector<NsdsLayerScore> aggregate_nsds(const std::vector<NsdsLayer>& layers, bool consistent_mad);

}  // namespace strata
