#include "strata/allocation/limits.h"

#include <algorithm>
#include <cmath>

#include "strata/core/error.h"
#include "strata/core/units.h"

namespace strata {
namespace {

// Whole bits that `bits` a weight allow; a budget that was itself computed from whole bits is not cut by the
// rounding of the division.
int64_t whole_bits(double bits, int64_t weights, const std::string& text) {
  if (!std::isfinite(bits) || bits <= 0) fail_usage("the budget of {} is not a positive number", text);
  const double amount = bits * static_cast<double>(weights);
  return static_cast<int64_t>(std::min(std::floor(amount * (1 + 1e-12)), 9e18));
}

}  // namespace

Use use_of(const AllocationModule& module, const Scheme& scheme) {
  const auto bits = static_cast<int64_t>(scheme.stored_bits(module.rows, module.cols));
  if (module.is_boundary()) return {0, 0, (bits + 7) / 8};
  const double codes =
      scheme.code_bits_per_weight(module.rows, module.cols) * static_cast<double>(module.params());
  return {bits, std::llround(codes), (bits + 7) / 8};
}

Use& operator+=(Use& a, const Use& b) {
  for (size_t r = 0; r < a.size(); ++r) a[r] += b[r];
  return a;
}

Use& operator-=(Use& a, const Use& b) {
  for (size_t r = 0; r < a.size(); ++r) a[r] -= b[r];
  return a;
}

Limits::Limits(const Budget& budget, int64_t weights)
    : weights_(weights), bytes_beside_(budget.bytes_beside) {
  if (budget.bits_per_weight) {
    const std::string text = fmt::format("{} bpw", *budget.bits_per_weight);
    list_.push_back({kStoredBits, whole_bits(*budget.bits_per_weight, weights, text), text});
  }
  if (budget.average_code_bits) {
    const std::string text = fmt::format("{} average code bits", *budget.average_code_bits);
    list_.push_back({kCodeBits, whole_bits(*budget.average_code_bits, weights, text), text});
  }
  if (budget.bytes) {
    const auto amount = static_cast<int64_t>(std::min<uint64_t>(*budget.bytes, INT64_MAX));
    list_.push_back({kStoredBytes, amount, format_bytes(*budget.bytes + bytes_beside_)});
  }
}

bool Limits::allow(const Use& use) const {
  return std::all_of(list_.begin(), list_.end(),
                     [&](const Limit& limit) { return use[limit.resource] <= limit.amount; });
}

std::string Limits::text_of(Resource resource, int64_t amount) const {
  if (resource == kStoredBytes) {
    const uint64_t bytes = static_cast<uint64_t>(amount) + bytes_beside_;
    return fmt::format("{} bytes ({})", bytes, format_bytes(bytes));
  }
  const double bits = static_cast<double>(amount) / static_cast<double>(weights_);
  return fmt::format("{} {}", std::ceil(bits * 1e4 * (1 - 1e-12)) / 1e4,
                     resource == kStoredBits ? "bpw" : "average code bits");
}

void Limits::check_smallest(const Use& smallest, const std::string& possible_with) const {
  for (const Limit& limit : list_)
    if (limit.amount < smallest[limit.resource])
      fail_usage(
          "the budget of {} is below the smallest possible with {}, {}; raise it or add smaller schemes",
          limit.text, possible_with, text_of(limit.resource, smallest[limit.resource]));
}

bool Limits::exceed(const Use& use) const {
  return !list_.empty() && std::all_of(list_.begin(), list_.end(), [&](const Limit& limit) {
    return limit.amount > use[limit.resource];
  });
}

}  // namespace strata
