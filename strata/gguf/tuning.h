#pragma once

namespace strata {

// What the GGUF encoders try, type by type. The candidates were picked greedily, from dense grids, for the
// least mean error over Gaussian and Student-t (4 degrees of freedom) rows, the weighted ones under
// log-normal importance.

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

template <class Candidates>
struct Choice {
  Candidates plain, with_importance;

  const Candidates& operator()(bool weighted) const { return weighted ? with_importance : plain; }
};

// Integers to try around the wanted scale, both ends included, and how many mins with each (of the nearest,
// the next and the one on the other side).
struct Offsets {
  int first, last;
  int mins;
};

// Blocks of 256: `starts` are the integers to which the largest scale (and min) of the sub-blocks is mapped
// at first, `rounds` the offsets of each alternation between integers and d.
struct Alternation {
  const float* starts;
  int start_count;
  const Offsets* rounds;
  int round_count;
};

// Blocks of 32.
struct ScaleTuning {
  Choice<CandidateLevels> candidates;
  bool in_range = false;  // all candidates keep the weights within the levels, which saves clamping
};

struct OffsetTuning {
  Choice<CandidateEnds> candidates;
};

struct SymmetricTuning {
  float scale_low, scale_high;  // of the integer scales
  Choice<CandidateLevels> candidates;
  Alternation alternation;
};

struct AffineTuning {
  float largest_field;  // the largest integer scale or min
  Choice<CandidateEnds> candidates;
  Alternation alternation;
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

template <int starts, int rounds>
constexpr Alternation alternate(const float (&start_values)[starts], const Offsets (&offsets)[rounds]) {
  return {start_values, starts, offsets, rounds};
}

// Eight bits leave no shape to find: many scales are tried because rounding favours one or another by chance.
inline constexpr float q8_0_plain[] = {127, 125, 126, 123, 124, 121};
inline constexpr float q8_0_weighted[] = {127, 125, 126, 123, 124, 121, 122, 120, 126.5f, 125.5f};
inline constexpr ScaleTuning q8_0 = {{levels(q8_0_plain, 0), levels(q8_0_weighted, 0)}, true};

inline constexpr float q4_0_plain[] = {-8.2f, -7.2f, -8.8f, -7.8f, -6.8f};
inline constexpr float q4_0_weighted[] = {-8.4f, -9.8f,  -7.4f, -12.6f, -7.8f, -6.2f, -9,
                                          9,     -10.8f, -6.8f, -14,    10.6f, 8.2f,  -8.2f};
inline constexpr ScaleTuning q4_0 = {{levels(q4_0_plain, 1), levels(q4_0_weighted, 2)}};

inline constexpr float q5_0_plain[] = {-16, -15, -16.5f, -14, -15.5f, -16.75f};
inline constexpr float q5_0_weighted[] = {-16.25f, -15,     -17.5f, -14,    -19.25f, -15.75f, -21.25f,
                                          -16.75f, -18.25f, 16.75f, -14.5f, -15.25f, 21.75f,  18};
inline constexpr ScaleTuning q5_0 = {{levels(q5_0_plain, 1), levels(q5_0_weighted, 2)}};

inline constexpr float iq4_nl_plain[] = {-130, 115, -121, -106, -139, 121, 106, 97};
inline constexpr float iq4_nl_weighted[] = {-130, 115,  -148, -115, 136, -175, 94,
                                            -124, -103, -139, 109,  163, 124,  -88};
inline constexpr ScaleTuning iq4_nl = {{levels(iq4_nl_plain, 1), levels(iq4_nl_weighted, 2)}};

inline constexpr Ends codes_4_plain[] = {{-0.4f, 3.4f}, {-0.6f, 3}, {0, 3.4f},     {-0.2f, 3},
                                         {-0.4f, 4.2f}, {0.2f, 3},  {-0.8f, 3.6f}, {-0.2f, 2.6f},
                                         {-0.4f, 3.6f}, {-1, 3.4f}};
inline constexpr Ends codes_4_weighted[] = {
    {-0.4f, 3.4f}, {-0.8f, 3},    {0, 3.8f},     {-1.4f, 3},   {0, 4.6f},  {-0.2f, 3.6f}, {-0.6f, 3.2f},
    {0.4f, 2.6f},  {-1.2f, 4.6f}, {-1.6f, 2.6f}, {0.4f, 4.4f}, {-1.6f, 4}, {0, 2.6f},     {-0.6f, 4.6f}};
inline constexpr Ends codes_16_plain[] = {{-0.3f, 15.3f}, {0.3f, 15.3f}, {-0.3f, 14.7f}, {0, 15},
                                          {-0.3f, 14.4f}, {-0.6f, 15},   {0, 15.6f},     {0, 14.4f},
                                          {-0.3f, 15},    {0.3f, 15},    {-0.6f, 14.4f}, {-0.3f, 15.6f}};
inline constexpr Ends codes_16_weighted[] = {{-0.3f, 15.3f}, {-0.6f, 14.7f}, {0, 15.6f},     {0, 14.4f},
                                             {-0.3f, 16.5f}, {0.3f, 14.7f},  {-0.6f, 15.3f}, {-1.5f, 15.3f},
                                             {-0.6f, 14.4f}, {0, 17.4f},     {0.3f, 15},     {-0.6f, 15.9f},
                                             {0.3f, 14.4f},  {-2.1f, 15},    {-0.9f, 17.4f}, {-2.1f, 16.5f}};
inline constexpr Ends codes_32_plain[] = {{0, 31.2f},    {-0.4f, 30.8f}, {-0.4f, 30.4f}, {0, 30.8f},
                                          {0.4f, 31.2f}, {0, 30.4f},     {-0.4f, 31.2f}, {0.4f, 30.4f},
                                          {0, 31.6f},    {0.4f, 30.8f}};
inline constexpr Ends codes_32_weighted[] = {{0, 31.2f},     {-0.4f, 30.8f}, {-0.4f, 30.4f}, {0.4f, 30.4f},
                                             {0, 31.6f},     {-0.8f, 31.2f}, {0.4f, 30.8f},  {-0.8f, 32},
                                             {-1.2f, 30.8f}, {0, 30.4f},     {-0.4f, 32.8f}, {-0.4f, 31.2f},
                                             {0.4f, 31.2f},  {-0.8f, 32.8f}, {0, 33.2f},     {0, 32}};

inline constexpr Ends q4_1_plain[] = {{-0.3f, 15.3f}, {0.3f, 14.9f}};
inline constexpr Ends q5_1_plain[] = {{0, 31.2f}, {-0.4f, 30.6f}};
inline constexpr OffsetTuning q4_1 = {{ends(q4_1_plain, 1), ends(codes_16_weighted, 2)}};
inline constexpr OffsetTuning q5_1 = {{ends(q5_1_plain, 1), ends(codes_32_weighted, 2)}};

inline constexpr float q3_k_plain[] = {-4.2f, -3.4f};
inline constexpr float q3_k_weighted[] = {-4.4f, -5.9f, -3.4f, 5, -3.9f, -8, -5, 7.1f, 2.7f, 4};
inline constexpr float q3_k_starts[] = {-32};
inline constexpr Offsets q3_k_rounds[] = {{-1, 1, 0}};
inline constexpr SymmetricTuning q3_k = {
    -32, 31, {levels(q3_k_plain, 1), levels(q3_k_weighted, 1)}, alternate(q3_k_starts, q3_k_rounds)};

// As Q8_0: the integers around one fit are the candidates.
inline constexpr float q6_k_levels[] = {-30.5f};
inline constexpr float q6_k_starts[] = {-122};
inline constexpr Offsets q6_k_rounds[] = {{-6, 6, 0}, {0, 0, 0}};
inline constexpr SymmetricTuning q6_k = {
    -128, 127, {levels(q6_k_levels, 0), levels(q6_k_levels, 0)}, alternate(q6_k_starts, q6_k_rounds)};

inline constexpr float iq4_xs_plain[] = {-130, 115, -121, -106, -139};
inline constexpr float iq4_xs_starts[] = {-32, -29};
inline constexpr Offsets iq4_xs_rounds[] = {{-1, 1, 0}, {-1, 1, 0}};
inline constexpr SymmetricTuning iq4_xs = {
    -32, 31, {levels(iq4_xs_plain, 1), levels(iq4_nl_weighted, 1)}, alternate(iq4_xs_starts, iq4_xs_rounds)};

inline constexpr float q2_k_starts[] = {15};
inline constexpr Offsets q2_k_rounds[] = {{-1, 1, 2}, {-1, 1, 3}, {-1, 1, 2}};
inline constexpr AffineTuning q2_k = {
    15, {ends(codes_4_plain, 1), ends(codes_4_weighted, 1)}, alternate(q2_k_starts, q2_k_rounds)};

inline constexpr float six_bit_starts[] = {63};
inline constexpr Offsets six_bit_rounds[] = {{-2, 2, 2}, {-1, 1, 3}, {-1, 1, 2}};
inline constexpr AffineTuning q4_k = {
    63, {ends(codes_16_plain, 1), ends(codes_16_weighted, 1)}, alternate(six_bit_starts, six_bit_rounds)};
inline constexpr AffineTuning q5_k = {
    63, {ends(codes_32_plain, 1), ends(codes_32_weighted, 1)}, alternate(six_bit_starts, six_bit_rounds)};

}  // namespace tuning
}  // namespace strata
