#include "strata/forward/rope.h"

#include "strata/model/rope_scaling.h"

namespace strata {

RopeTable make_rope_table(const Rope& rope, int64_t length, at::Device device) {
  const at::Tensor frequency = at::tensor(rope_frequencies(rope, length), at::kDouble);
  const at::Tensor angle = at::outer(at::arange(length, at::kDouble), frequency);
  const RopeScaling& scaling = rope.scaling;
  const bool stretches = scaling.type == RopeScaling::Type::Long || scaling.type == RopeScaling::Type::Yarn;
  const double stretch = stretches ? scaling.attention_factor : 1;
  const auto to_device = [&](const at::Tensor& table) { return table.mul(stretch).to(device, at::kFloat); };
  return {to_device(at::cos(angle)), to_device(at::sin(angle)), rope.neighbours, {}};
}

RopeTable RopeTable::narrow(int64_t first, int64_t count) const {
  const auto part = [&](const at::Tensor& all) {
    return all.defined() ? all.narrow(0, first, count) : at::Tensor();
  };
  return {part(cosines), part(sines), neighbours, part(query_scale)};
}

RopeTable RopeTables::of_layer(int layer, int64_t length) {
  const Rope& rope = config_.rope_of(layer);
  RopeTable& table = tables_[&rope];
  const int64_t known = table.cosines.defined() ? table.cosines.size(0) : 0;
  // Sequences of lengths that take other frequencies have tables of their own.
  if (known < length || !same_frequencies(rope, known, length))
    table = make_rope_table(rope, length, device_);
  if (config_.query_growth > 0 && !(table.query_scale.defined() && table.query_scale.size(0) >= length)) {
    const at::Tensor turns =
        (at::arange(table.cosines.size(0), at::kDouble) / static_cast<double>(config_.query_growth_length))
            .floor();
    table.query_scale = (1 + config_.query_growth * (1 + turns).log()).unsqueeze(1).to(device_, at::kFloat);
  }
  return table.narrow(0, length);
}

at::Tensor apply_rope(const at::Tensor& x, const RopeTable& rope) {
  const int64_t half = rope.cosines.size(1), rotated_features = 2 * half;
  at::Tensor rotated = at::empty(x.sizes(), x.options().dtype(at::kFloat));
  // The first or second features of all pairs.
  const auto of_pairs = [&](const at::Tensor& values, int64_t which) {
    return rope.neighbours ? values.slice(3, which, rotated_features, 2)
                           : values.narrow(3, which * half, half);
  };
  const at::Tensor first = of_pairs(x, 0).to(at::kFloat), second = of_pairs(x, 1).to(at::kFloat);
  of_pairs(rotated, 0).copy_(first * rope.cosines).sub_(second * rope.sines);
  of_pairs(rotated, 1).copy_(second * rope.cosines).add_(first * rope.sines);
  if (const int64_t kept = x.size(3) - rotated_features; kept > 0)
    rotated.narrow(3, rotated_features, kept).copy_(x.narrow(3, rotated_features, kept));
  return rotated.to(x.scalar_type());
}

}  // namespace strata
