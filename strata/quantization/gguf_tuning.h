#pragma once

#include <iterator>

namespace strata {

// What the GGUF encoders try, type by type. The candidates were picked greedily, from dense grids, for the
// least mean error over Gaussian and Student-t (4 degrees of freedom) rows.

// Candidate scales of x ~ a q: the (real) levels to which the weight of largest magnitude is mapped.
struct CandidateLevels {
  const float* levels;
  int count;
  int refinements;
};

// Candidate fits x ~ a q + b: the (real) codes to which the smallest and the largest weight are mapped.
struct Ends {
  float low, high;
};

struct CandidateEnds {
  const Ends* ends;
  int count;
  int refinements;
};

// Integers to try around the wanted scale, both ends included, and how many mins with each (of the nearest,
// the next and the one on the other side).
struct Offsets {
  int first, last;
  int mins;
};

// Blocks of 256: `starts` are the integers to which the largest scale (and min) of the sub-blocks is mapped
// at first, `rounds` the offsets of each alternation between integers and d.
struct SymmetricTuning {
  float low, high;              // of the levels
  float scale_low, scale_high;  // of the integer scales
  int stored_offset;            // added to an integer scale in the file
  CandidateLevels candidates;
  const float* starts;
  int start_count;
  const Offsets* rounds;
  int round_count;
};

struct AffineTuning {
  float high;           // the largest code
  float largest_field;  // the largest integer scale or min
  CandidateEnds candidates;
  const float* starts;
  int start_count;
  const Offsets* rounds;
  int round_count;
};

namespace tuning {

template <int n>
constexpr CandidateLevels levels(const float (&values)[n], int refinements) {
  return {values, n, refinements};
}

template <int n>
constexpr CandidateEnds ends(const Ends (&values)[n], int refinements) {
  return {values, n, refinements};
}

inline constexpr float q8_0_levels[] = {127, 125, 126, 123, 124, 121};
inline constexpr float q4_0_levels[] = {-8.2f, -8.7f, -7.8f, -7.1f, -8.4f, -9};
inline constexpr float q5_0_levels[] = {-16.1f, -15.1f, -16.5f, -15.8f, -14.5f, -16.8f};
inline constexpr float iq4_nl_levels[] = {-127, -118, -135, -110, 113, 120, 105};
inline constexpr Ends codes_16_ends[] = {{-0.25f, 15.2f},  {0.05f, 15.5f}, {-0.4f, 14.9f},  {0.05f, 15.2f},
                                         {-0.55f, 14.75f}, {-0.1f, 14.9f}, {0.35f, 15.35f}, {-0.25f, 15.5f},
                                         {-0.55f, 15.2f},  {0.35f, 14.9f}};
inline constexpr Ends codes_32_ends[] = {{-0.1f, 31.05f}, {0.2f, 31.35f},  {-0.4f, 30.9f}, {0.05f, 31.2f},
                                         {-0.4f, 30.6f},  {-0.1f, 30.75f}, {0.35f, 31.5f}, {-0.4f, 31.35f}};
inline constexpr Ends codes_4_ends[] = {{-0.3f, 3.3f}, {-0.6f, 3.1f}, {0, 3.5f},     {-0.2f, 3.5f},
                                        {-0.4f, 3.2f}, {-0.6f, 2.9f}, {0.1f, 3.7f},  {0.1f, 3},
                                        {-0.8f, 3.7f}, {-0.1f, 2.7f}, {-0.9f, 3.4f}, {-0.6f, 3.8f}};

inline constexpr CandidateLevels q4_0 = levels(q4_0_levels, 1);
inline constexpr CandidateLevels q5_0 = levels(q5_0_levels, 1);
inline constexpr CandidateLevels q8_0 = levels(q8_0_levels, 0);
inline constexpr CandidateLevels iq4_nl = levels(iq4_nl_levels, 1);
inline constexpr CandidateEnds q4_1 = ends(codes_16_ends, 1);
inline constexpr CandidateEnds q5_1 = ends(codes_32_ends, 1);

inline constexpr float q3_k_levels[] = {-4.15f, -3.2f, -4.6f, -3.8f, -2.9f};
inline constexpr float q3_k_starts[] = {-32, -30};
inline constexpr Offsets q3_k_rounds[] = {{-1, 1, 0}, {-1, 1, 0}};
inline constexpr SymmetricTuning q3_k = {-4,          3, -32,         31, 32, levels(q3_k_levels, 1),
                                         q3_k_starts, 2, q3_k_rounds, 2};

inline constexpr float q6_k_levels[] = {-30.5f};
inline constexpr float q6_k_starts[] = {-122};
inline constexpr Offsets q6_k_rounds[] = {{-6, 6, 0}, {0, 0, 0}};
inline constexpr SymmetricTuning q6_k = {-32,         31, -128,        127, 0, levels(q6_k_levels, 0),
                                         q6_k_starts, 1,  q6_k_rounds, 2};

inline constexpr float q2_k_starts[] = {15, 14};
inline constexpr Offsets q2_k_rounds[] = {{-1, 1, 2}, {-1, 1, 3}, {-1, 1, 2}};
inline constexpr AffineTuning q2_k = {3, 15, ends(codes_4_ends, 2), q2_k_starts, 2, q2_k_rounds, 3};

inline constexpr float q4_k_starts[] = {63};
inline constexpr Offsets q4_k_rounds[] = {{-1, 1, 2}, {-1, 1, 2}};
inline constexpr AffineTuning q4_k = {15, 63, ends(codes_16_ends, 1), q4_k_starts, 1, q4_k_rounds, 2};
inline constexpr AffineTuning q5_k = {31, 63, ends(codes_32_ends, 1), q4_k_starts, 1, q4_k_rounds, 2};

}  // namespace tuning
}  // namespace strata
