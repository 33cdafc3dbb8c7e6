#include "strata/quantization/scheme.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <charconv>
#include <cmath>
#include <optional>

#include "strata/core/bit_packing.h"
#include "strata/core/error.h"
#include "strata/core/text.h"
#include "strata/quantization/nf4.h"

namespace strata {
namespace {

constexpr std::array<int, 7> kBits = {2, 3, 4, 5, 6, 7, 8};
constexpr std::array<int, 4> kGroupSizes = {0, 32, 64, 128};  // 0: a whole row
constexpr int kHalfBits = 16;
constexpr std::array<double, 5> kPaperRatios = {0.02, 0.05, 0.10, 0.15, 0.20};  // arXiv 2511.17801

template <class Container, class Value>
bool contains(const Container& values, const Value& value) {
  return std::find(values.begin(), values.end(), value) != values.end();
}

uint64_t weights_in(int64_t rows, int64_t cols) {
  constexpr int64_t kMost = int64_t{1} << 48;
  if (rows < 0 || cols < 0 || (cols > 0 && rows > kMost / cols))
    fail("a matrix of shape [{}, {}] cannot be stored; at most 2^48 weights were expected", rows, cols);
  return static_cast<uint64_t>(rows) * static_cast<uint64_t>(cols);
}

uint64_t affine_code_bits(const AffineScheme& scheme, int64_t rows, int64_t cols) {
  if (scheme.axis == 0) return 32 * static_cast<uint64_t>(packed_words(rows * cols, scheme.bits));
  return 32 * static_cast<uint64_t>(rows) * static_cast<uint64_t>(packed_words(cols, scheme.bits));
}

// The papers' formula bits + 2*8/g + 32/(128 g) counts what is stored for large matrices: an 8-bit scale and
// an 8-bit zero point a group, and for every 128 groups the fp16 minimum and step of their scales. True
// storage adds 32 bits a matrix for the zero points' range, and padding where 128 does not divide the groups.
uint64_t second_level_bits(uint64_t groups, bool symmetric) {
  const uint64_t scale_ranges = (groups + kScalesPerRange - 1) / kScalesPerRange;
  const uint64_t scales = 8 * groups + 2 * kHalfBits * scale_ranges;
  const uint64_t zeros = symmetric ? 0 : 8 * groups + 2 * kHalfBits;
  return scales + zeros;
}

uint64_t affine_stored_bits(const AffineScheme& scheme, int64_t rows, int64_t cols) {
  if (weights_in(rows, cols) == 0) return 0;
  const auto groups = static_cast<uint64_t>(group_count(scheme, rows, cols));
  const uint64_t codes = affine_code_bits(scheme, rows, cols);
  if (scheme.scales == ScaleStorage::SecondLevel) return codes + second_level_bits(groups, scheme.symmetric);
  if (scheme.integer_zero) {
    const uint64_t columns = groups / static_cast<uint64_t>(rows);
    return codes + groups * kHalfBits + columns * 32 * static_cast<uint64_t>(packed_words(rows, scheme.bits));
  }
  return codes + groups * kHalfBits * (scheme.symmetric ? 1 : 2);
}

uint64_t mixed_stored_bits(const Scheme& scheme, int64_t rows, int64_t cols) {
  if (weights_in(rows, cols) == 0) return 0;
  const int64_t high = scheme.high_row_count(rows);
  return affine_stored_bits(scheme.affine, rows - high, cols) +
         affine_stored_bits(scheme.high_affine(), high, cols) + row_list_bits(rows, high);
}

// Reads the parts of an affine name from left to right.
class NameReader {
 public:
  explicit NameReader(std::string_view text) : rest_(text) {}

  bool take(std::string_view word) {
    if (rest_.substr(0, word.size()) != word) return false;
    rest_.remove_prefix(word.size());
    return true;
  }

  // A number of at most three digits without a leading zero.
  std::optional<int> take_number() {
    int value = 0, digits = 0;
    while (digits < 3 && !rest_.empty() && rest_[0] >= '0' && rest_[0] <= '9' && (digits == 0 || value > 0)) {
      value = 10 * value + (rest_[0] - '0');
      rest_.remove_prefix(1);
      ++digits;
    }
    if (digits == 0) return std::nullopt;
    return value;
  }

  bool done() const { return rest_.empty(); }
  std::string_view rest() const { return rest_; }

 private:
  std::string_view rest_;
};

std::optional<AffineScheme> parse_affine(std::string_view lower_case) {
  NameReader reader(lower_case);
  AffineScheme scheme;
  if (!reader.take("w")) return std::nullopt;
  const auto bits = reader.take_number();
  if (!bits || !contains(kBits, *bits)) return std::nullopt;
  scheme.bits = *bits;
  if (reader.take("row")) {
    scheme.group_size = 0;
  } else {
    if (!reader.take("g")) return std::nullopt;
    const auto group_size = reader.take_number();
    if (!group_size || *group_size == 0 || !contains(kGroupSizes, *group_size)) return std::nullopt;
    scheme.group_size = *group_size;
  }
  scheme.integer_zero = reader.take("z");
  if (scheme.integer_zero) return reader.done() ? std::optional(scheme) : std::nullopt;
  scheme.symmetric = reader.take("s");
  if (reader.take("m")) scheme.scales = ScaleStorage::SecondLevel;
  if (reader.take("a0")) scheme.axis = 0;
  if (!reader.done()) return std::nullopt;
  return scheme;
}

std::string to_lower(std::string_view text) {
  std::string lower(text);
  for (char& c : lower) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  return lower;
}

// "w2g64+w3", which may be followed by "@" and the ratio. Nothing where it is not of this form.
struct MixedRowsName {
  Scheme scheme;
  bool has_ratio = false;
};

std::optional<double> parse_ratio(std::string_view text) {
  double ratio = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), ratio);
  if (error != std::errc() || end != text.data() + text.size() || !(ratio >= 0 && ratio <= 1))
    return std::nullopt;
  return ratio == 0 ? 0 : ratio;  // -0 is 0
}

std::optional<MixedRowsName> parse_mixed_rows(const std::string& lower_case) {
  const size_t plus = lower_case.find("+w");
  if (plus == std::string::npos) return std::nullopt;
  const auto low = parse_affine(std::string_view(lower_case).substr(0, plus));
  NameReader reader(std::string_view(lower_case).substr(plus + 2));
  const auto high_bits = reader.take_number();
  if (!low || !high_bits) return std::nullopt;
  MixedRowsName name;
  name.scheme.kind = Scheme::Kind::MixedRows;
  name.scheme.affine = *low;
  name.scheme.high_bits = *high_bits;
  name.has_ratio = reader.take("@");
  const std::string ratio_text(reader.rest());
  if (!name.has_ratio && !ratio_text.empty()) return std::nullopt;
  if (!contains(kBits, *high_bits) || *high_bits <= low->bits)
    fail_usage(
        "scheme '{}' gives some rows {} bits and the others {}; more bits were expected, and at most 8",
        printable(lower_case), *high_bits, low->bits);
  if (low->axis == 0)
    fail_usage("scheme '{}' mixes rows in groups across rows (a0); groups along rows were expected",
               printable(lower_case));
  if (!name.has_ratio) return name;
  const auto ratio = parse_ratio(ratio_text);
  if (!ratio)
    fail_usage("scheme '{}' gives the ratio '{}' of its rows more bits; a number from 0 to 1 was expected",
               printable(lower_case), printable(ratio_text));
  name.scheme.high_ratio = *ratio;
  return name;
}

std::vector<Scheme> mixed_rows_menu(Scheme scheme) {
  std::vector<Scheme> menu;
  for (const double ratio : kPaperRatios) {
    scheme.high_ratio = ratio;
    menu.push_back(scheme);
  }
  return menu;
}

std::optional<GgufType> find_gguf_type(std::string_view lower_case) {
  for (const GgufTypeTraits& traits : gguf_types())
    if (to_lower(traits.name) == lower_case) return traits.type;
  return std::nullopt;
}

std::string known_schemes() {
  std::string types;
  for (const GgufTypeTraits& traits : gguf_types()) types += fmt::format(" {}", traits.name);
  return fmt::format(
      "w2 to w8 with g32, g64, g128 or row, then any of s (symmetric), m (8-bit scales), a0 (axis 0), or z "
      "(zero points that are codes), such as w3g64; such a scheme with more bits in a part of the rows, such "
      "as w2g64+w3@0.1; nf4 or nf4dq; or a GGUF type:{}",
      types);
}

Scheme affine_scheme(int bits, int group_size, ScaleStorage scales) {
  Scheme scheme;
  scheme.affine.bits = bits;
  scheme.affine.group_size = group_size;
  scheme.affine.scales = scales;
  return scheme;
}

std::vector<Scheme> gguf_menu() {
  std::vector<Scheme> menu;
  for (GgufType type :
       {GgufType::Q2_K, GgufType::Q3_K, GgufType::Q4_K, GgufType::Q5_K, GgufType::Q6_K, GgufType::Q8_0}) {
    Scheme scheme;
    scheme.kind = Scheme::Kind::Gguf;
    scheme.gguf = type;
    menu.push_back(scheme);
  }
  return menu;
}

// Every width with every group size, cheapest first within a width.
std::vector<Scheme> affine_menu(const std::vector<int>& widths, ScaleStorage scales) {
  std::vector<Scheme> menu;
  for (int bits : widths)
    for (int group_size : {128, 64, 32}) menu.push_back(affine_scheme(bits, group_size, scales));
  return menu;
}

std::vector<Scheme> with_integer_zeros(std::vector<Scheme> menu) {
  for (Scheme& scheme : menu) scheme.affine.integer_zero = true;
  return menu;
}

std::vector<Scheme> symmetric(std::vector<Scheme> menu) {
  for (Scheme& scheme : menu) scheme.affine.symmetric = true;
  return menu;
}

std::vector<Scheme> menu_or_scheme(const std::string& item) {
  if (item == "gguf") return gguf_menu();
  if (item == "affine") return affine_menu({2, 3, 4, 5, 6, 8}, ScaleStorage::Half);
  if (item == "affine-z") return with_integer_zeros(affine_menu({2, 3, 4, 5, 6, 8}, ScaleStorage::Half));
  if (item == "gptq") return with_integer_zeros(affine_menu({2, 3, 4, 8}, ScaleStorage::Half));
  if (item == "gptq-s") return symmetric(affine_menu({2, 3, 4, 8}, ScaleStorage::Half));
  // The 12 rungs named 2.13 2.25 2.51 3.13 ... 8.51, after their bits rounded to two places.
  if (item == "ladder") return affine_menu({2, 3, 4, 8}, ScaleStorage::SecondLevel);
  if (item == "paper-ladder") {
    std::vector<Scheme> menu = affine_menu({2, 3, 4, 8}, ScaleStorage::SecondLevel);
    for (Scheme& scheme : menu) scheme.affine.axis = 0;
    return menu;
  }
  if (const auto mixed = parse_mixed_rows(item); mixed && !mixed->has_ratio)
    return mixed_rows_menu(mixed->scheme);
  return {parse_scheme(item)};
}

std::string_view trimmed(std::string_view text) {
  const auto first = text.find_first_not_of(" \t");
  if (first == std::string_view::npos) return {};
  return text.substr(first, text.find_last_not_of(" \t") - first + 1);
}

}  // namespace

int64_t group_count(const AffineScheme& scheme, int64_t rows, int64_t cols) {
  const int64_t g = scheme.group_size;
  if (scheme.axis == 0) return g == 0 ? cols : (rows * cols + g - 1) / g;
  return g == 0 ? rows : rows * ((cols + g - 1) / g);
}

uint64_t row_list_bits(int64_t rows, int64_t high) {
  if (high == 0 || high == rows) return 0;
  if (row_list_is_numbers(rows, high)) return 32 * static_cast<uint64_t>(high);
  return 8 * static_cast<uint64_t>((rows + 7) / 8);
}

bool row_list_is_numbers(int64_t rows, int64_t high) {
  return 4 * high < (rows + 7) / 8;
}

std::string Scheme::name() const {
  if (kind == Kind::Gguf) return std::string(traits_of(gguf).name);
  if (kind == Kind::Nf4) return double_quantized ? "nf4dq" : "nf4";
  const std::string mixed =
      kind == Kind::MixedRows ? fmt::format("+w{}@{}", high_bits, high_ratio) : std::string();
  const std::string group = affine.group_size == 0 ? "row" : fmt::format("g{}", affine.group_size);
  if (affine.integer_zero) return fmt::format("w{}{}z{}", affine.bits, group, mixed);
  return fmt::format("w{}{}{}{}{}{}", affine.bits, group, affine.symmetric ? "s" : "",
                     affine.scales == ScaleStorage::SecondLevel ? "m" : "", affine.axis == 0 ? "a0" : "",
                     mixed);
}

AffineScheme Scheme::high_affine() const {
  AffineScheme high = affine;
  high.bits = high_bits;
  return high;
}

int64_t Scheme::high_row_count(int64_t rows) const {
  return std::clamp<int64_t>(std::llround(high_ratio * static_cast<double>(rows)), 0, rows);
}

uint64_t Scheme::stored_bits(int64_t rows, int64_t cols) const {
  if (kind == Kind::Affine) return affine_stored_bits(affine, rows, cols);
  if (kind == Kind::MixedRows) return mixed_stored_bits(*this, rows, cols);
  if (weights_in(rows, cols) == 0) return 0;
  if (kind == Kind::Nf4) return nf4_stored_bits(weights_in(rows, cols), double_quantized);
  return 8 * static_cast<uint64_t>(rows) * static_cast<uint64_t>(row_bytes(stored_type(gguf, cols), cols));
}

double Scheme::code_bits_per_weight(int64_t rows, int64_t cols) const {
  if (kind == Kind::Nf4) return 4;
  if (kind == Kind::MixedRows && rows > 0)
    return affine.bits +
           static_cast<double>((high_bits - affine.bits) * high_row_count(rows)) / static_cast<double>(rows);
  if (kind == Kind::MixedRows) return affine.bits;
  return kind == Kind::Affine ? affine.bits : traits_of(stored_type(gguf, cols)).code_bits;
}

Scheme parse_scheme(std::string_view name) {
  const std::string lower = to_lower(trimmed(name));
  Scheme scheme;
  if (const auto affine = parse_affine(lower)) {
    scheme.affine = *affine;
    return scheme;
  }
  if (const auto mixed = parse_mixed_rows(lower)) {
    if (!mixed->has_ratio)
      fail_usage("scheme '{}' lacks the ratio of its rows with more bits; write it as {}@0.1",
                 printable(name), printable(lower));
    return mixed->scheme;
  }
  if (lower == "nf4" || lower == "nf4dq") {
    scheme.kind = Scheme::Kind::Nf4;
    scheme.double_quantized = lower == "nf4dq";
    return scheme;
  }
  if (const auto type = find_gguf_type(lower)) {
    scheme.kind = Scheme::Kind::Gguf;
    scheme.gguf = *type;
    return scheme;
  }
  fail_usage("scheme '{}' is not known; expected {}", printable(name), known_schemes());
}

std::vector<Scheme> parse_schemes(std::string_view list) {
  std::vector<Scheme> schemes;
  for (size_t begin = 0; begin <= list.size();) {
    const size_t end = std::min(list.find(',', begin), list.size());
    for (const Scheme& scheme : menu_or_scheme(to_lower(trimmed(list.substr(begin, end - begin)))))
      if (!contains(schemes, scheme)) schemes.push_back(scheme);
    begin = end + 1;
  }
  return schemes;
}

}  // namespace strata
