#include "strata/evaluation/kl_base.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <limits>

#include "strata/core/error.h"
#include "strata/core/threads.h"
#include "strata/evaluation/token_losses.h"
#include "strata/evaluation/windows.h"

namespace strata {
namespace {

constexpr char kMagic[] = "_logits_";
constexpr size_t kMagicBytes = 8;
constexpr float kDepth = 16;  // log probabilities are kept down to so much below the largest
constexpr int64_t kRowsPerThread = 4;

struct Header {
  int32_t window, vocabulary, windows;
};

// Codes of a row, and two floats before them.
uint64_t row_bytes(int64_t vocabulary) {
  return 2 * static_cast<uint64_t>((vocabulary + 1) / 2 * 2 + 4);
}

int64_t rows_of_window(int64_t window) {
  return window - 1 - window / 2;
}

Windows windows_of(int64_t tokens, int64_t window) {
  Windows windows = cut_windows(tokens, window, 0);
  windows.context = window - rows_of_window(window);
  return windows;
}

// The same tokens, every window beginning with `bos`: it is read in the place of the text's token.
std::vector<int32_t> with_bos(std::vector<int32_t> ids, const Windows& windows, std::optional<int32_t> bos) {
  for (int64_t i = 0; bos && i < windows.count; ++i) ids[static_cast<size_t>(windows.start(i))] = *bos;
  return ids;
}

// log sum exp of a row and its largest value, as llama-perplexity adds them up.
struct Normalizer {
  float largest, log_sum;
  Normalizer(const float* logits, int64_t count) : largest(*std::max_element(logits, logits + count)) {
    double sum = 0;
    for (int64_t i = 0; i < count; ++i) sum += std::exp(logits[i] - largest);
    log_sum = static_cast<float>(std::log(sum));
  }
};

void encode(const float* logits, int64_t count, std::byte* row) {
  const Normalizer normalizer(logits, count);
  const float smallest = std::max(*std::min_element(logits, logits + count), normalizer.largest - kDepth);
  constexpr float kLevels = 65535;
  const std::array<float, 2> head = {(normalizer.largest - smallest) / kLevels,
                                     smallest - normalizer.largest - normalizer.log_sum};
  std::memcpy(row, head.data(), sizeof head);
  auto* codes = reinterpret_cast<uint16_t*>(row + sizeof head);
  const float inverse = head[0] > 0 ? 1 / head[0] : 0;
  for (int64_t i = 0; i < count; ++i)
    codes[i] = logits[i] > smallest ? static_cast<uint16_t>(std::lrint(inverse * (logits[i] - smallest))) : 0;
}

struct TokenComparison {
  double nll, base_nll, kld, change;
  bool same_top;
};

TokenComparison compare_row(const float* logits, int64_t count, const KlBase::Row& base, int64_t token) {
  const Normalizer normalizer(logits, count);
  const float whole = normalizer.largest + normalizer.log_sum;
  TokenComparison found{};
  for (int64_t i = 0; i < count; ++i) {
    const float log_p = base.log_probability(i);
    if (log_p > -kDepth) found.kld += std::exp(log_p) * (log_p - logits[i] + whole);
  }
  const float nll = whole - logits[token], base_nll = -base.log_probability(token);
  found.nll = nll;
  found.base_nll = base_nll;
  found.change = std::exp(-nll) - std::exp(-base_nll);
  found.same_top = std::max_element(logits, logits + count) - logits ==
                   std::max_element(base.codes, base.codes + count) - base.codes;
  return found;
}

// Sums of two values over tokens.
struct Sums {
  double a = 0, b = 0, aa = 0, bb = 0, ab = 0, count = 0;
  void add(double x, double y) {
    a += x;
    b += y;
    aa += x * x;
    bb += y * y;
    ab += x * y;
    ++count;
  }
  static MeanValue mean(double sum, double squares, double count) {
    const double value = sum / count, variance = squares / count - value * value;
    return {value, variance > 0 && count > 1 ? std::sqrt(variance / (count - 1)) : 0};
  }
  MeanValue mean_a() const { return mean(a, aa, count); }
  MeanValue mean_b() const { return mean(b, bb, count); }
  double covariance_of_means() const {
    return count > 1 ? (ab / count - a / count * (b / count)) / (count - 1) : 0;
  }
};

double root(double value) {
  return std::sqrt(std::max(0.0, value));
}

MeanValue exponential(const MeanValue& log) {
  const double value = std::exp(log.value);
  return {value, value * log.error};
}

BaseComparison summary(const std::vector<TokenComparison>& tokens) {
  Sums losses, distances, changes;
  double same = 0;
  BaseComparison result;
  for (const TokenComparison& token : tokens) {
    losses.add(token.nll, token.base_nll);
    distances.add(token.kld, 0);
    changes.add(token.change, token.change * token.change);
    same += token.same_top;
    result.klds.push_back(token.kld);
    result.changes.push_back(token.change);
  }
  result.tokens = static_cast<int64_t>(tokens.size());

  const MeanValue own = losses.mean_a(), base = losses.mean_b();
  const double covariance = losses.covariance_of_means();
  result.ppl = exponential(own);
  result.base_ppl = exponential(base);
  result.log_ppl_correlation = covariance / (own.error * base.error);
  result.log_ppl_ratio = {own.value - base.value,
                          root(own.error * own.error + base.error * base.error - 2 * covariance)};
  result.ppl_ratio = exponential(result.log_ppl_ratio);
  result.ppl_difference = {
      result.ppl.value - result.base_ppl.value,
      root(result.ppl.error * result.ppl.error + result.base_ppl.error * result.base_ppl.error -
           2 * result.ppl.value * result.base_ppl.value * covariance)};
  result.kld = distances.mean_a();
  result.probability_change = changes.mean_a();
  const MeanValue squares = changes.mean_b();
  const double rms = std::sqrt(squares.value);
  result.rms_change = {rms, rms > 0 ? squares.error / (2 * rms) : 0};
  const double top = same / losses.count;
  result.same_top = {top, losses.count > 1 ? root(top * (1 - top) / (losses.count - 1)) : 0};
  return result;
}

}  // namespace

KlBase::KlBase(const std::filesystem::path& path) : file_(path) {
  constexpr size_t kTokensAt = kMagicBytes + sizeof(Header);
  if (file_.size() < kTokensAt || std::memcmp(file_.data(), kMagic, kMagicBytes) != 0)
    fail("{} is no file of log probabilities as llama-perplexity's --kl-divergence-base writes it",
         path.string());
  Header header{};
  std::memcpy(&header, file_.data() + kMagicBytes, sizeof header);
  if (header.window < 4 || header.vocabulary < 2 || header.windows < 1)
    fail("{} says that it has {} windows of {} tokens of a vocabulary of {}, which cannot be", path.string(),
         header.windows, header.window, header.vocabulary);
  window_ = header.window;
  vocabulary_ = header.vocabulary;
  windows_ = header.windows;
  const auto tokens = static_cast<uint64_t>(window_) * static_cast<uint64_t>(windows_);
  first_row_ = kTokensAt + 4 * tokens;
  // In floating point first: the product of what the file says may be beyond all integers.
  const double bytes = static_cast<double>(first_row_) +
                       static_cast<double>(rows()) * static_cast<double>(row_bytes(vocabulary_));
  if (bytes > static_cast<double>(file_.size()))
    fail("{} is cut short: it has {} bytes, and {} windows of {} tokens of a vocabulary of {} take {:.0f}",
         path.string(), file_.size(), windows_, window_, vocabulary_, bytes);
  tokens_.resize(tokens);
  std::memcpy(tokens_.data(), file_.data() + kTokensAt, 4 * tokens);
  for (const int32_t token : tokens_)
    if (token < 0 || token >= vocabulary_)
      fail("{} has token {}, but its vocabulary has {}", path.string(), token, vocabulary_);
}

int64_t KlBase::rows() const {
  return windows_ * rows_of_window(window_);
}

KlBase::Row KlBase::row(int64_t index) const {
  const std::byte* bytes = file_.data() + first_row_ + static_cast<uint64_t>(index) * row_bytes(vocabulary_);
  Row row{};
  std::memcpy(&row.scale, bytes, sizeof row.scale);
  std::memcpy(&row.least, bytes + sizeof row.scale, sizeof row.least);
  row.codes = reinterpret_cast<const uint16_t*>(bytes + 2 * sizeof(float));
  return row;
}

void write_kl_base(Decoder& decoder, const std::vector<int32_t>& ids, const EvaluationOptions& options,
                   std::optional<int32_t> bos, const std::filesystem::path& path) {
  require_evaluable(ids, options, decoder.model());
  if (options.window < 4)
    fail_usage("the window is {} tokens, but half of one must hold a prediction: give 4 or more",
               options.window);
  if (options.stride > 0 && options.stride != options.window)
    fail_usage("a base file has windows that do not overlap; leave out --stride");
  const Windows windows = windows_of(evaluated_tokens(ids, options), options.window);
  const int64_t vocabulary = decoder.model().config.vocab_size;
  const Header header = {static_cast<int32_t>(options.window), static_cast<int32_t>(vocabulary),
                         static_cast<int32_t>(windows.count)};
  OutputFile file(path);
  file.write(kMagic, kMagicBytes);
  file.write(&header, sizeof header);
  file.write(ids.data(), 4 * static_cast<size_t>(windows.count * windows.length));
  std::vector<std::byte> rows;
  for_each_logits(decoder, nullptr, with_bos(ids, windows, bos), windows, options.batch,
                  [&](const at::Tensor& logits, const at::Tensor&, const at::Tensor&) {
                    const at::Tensor values = logits.to(at::kCPU, at::kFloat).contiguous();
                    const uint64_t size = row_bytes(vocabulary);
                    rows.assign(static_cast<size_t>(values.size(0)) * size, std::byte{0});
                    parallel_for(values.size(0), kRowsPerThread, [&](int64_t begin, int64_t end) {
                      for (int64_t i = begin; i < end; ++i)
                        encode(values.data_ptr<float>() + i * vocabulary, vocabulary,
                               rows.data() + static_cast<uint64_t>(i) * size);
                    });
                    file.write(rows.data(), rows.size());
                  });
  file.commit();
}

BaseComparison compare_with_base(Decoder& decoder, const KlBase& base, std::optional<int32_t> bos,
                                 int64_t batch) {
  const int64_t vocabulary = decoder.model().config.vocab_size;
  if (vocabulary != base.vocabulary())
    fail("{} has {} tokens in its vocabulary and {} has {}: they cannot be compared",
         decoder.model().path.string(), vocabulary, base.path().string(), base.vocabulary());
  const Windows windows = windows_of(static_cast<int64_t>(base.tokens().size()), base.window());
  std::vector<TokenComparison> tokens;
  for_each_logits(decoder, nullptr, with_bos(base.tokens(), windows, bos), windows, batch,
                  [&](const at::Tensor& logits, const at::Tensor& targets, const at::Tensor&) {
                    const at::Tensor values = logits.to(at::kCPU, at::kFloat).contiguous();
                    const at::Tensor next = targets.cpu();
                    const auto first = static_cast<int64_t>(tokens.size());
                    tokens.resize(tokens.size() + static_cast<size_t>(values.size(0)));
                    parallel_for(values.size(0), kRowsPerThread, [&](int64_t begin, int64_t end) {
                      for (int64_t i = begin; i < end; ++i)
                        tokens[static_cast<size_t>(first + i)] =
                            compare_row(values.data_ptr<float>() + i * vocabulary, vocabulary,
                                        base.row(first + i), next.data_ptr<int64_t>()[i]);
                    });
                  });
  return summary(tokens);
}

std::string text_of(const BaseComparison& c) {
  std::string text;
  const auto line = [&](const char* name, const std::string& value) {
    text += fmt::format("{:<32}{}\n", name, value);
  };
  const auto plain = [](const MeanValue& mean) {
    return fmt::format("{:10.6f} ± {:10.6f}", mean.value, mean.error);
  };
  const auto percent = [](const MeanValue& mean) {
    return fmt::format("{:6.3f} ± {:5.3f} %", 100 * mean.value, 100 * mean.error);
  };
  line("tokens predicted", fmt::format("{:10}", c.tokens));
  line("Mean PPL(Q)", plain(c.ppl));
  line("Mean PPL(base)", plain(c.base_ppl));
  line("Cor(ln(PPL(Q)), ln(PPL(base)))", fmt::format("{:6.2f} %", 100 * c.log_ppl_correlation));
  line("Mean ln(PPL(Q)/PPL(base))", plain(c.log_ppl_ratio));
  line("Mean PPL(Q)/PPL(base)", plain(c.ppl_ratio));
  line("Mean PPL(Q)-PPL(base)", plain(c.ppl_difference));
  line("Mean    KLD", plain(c.kld));
  struct Quantile {
    const char* name;
    double fraction;
    bool of_kld;
  };
  constexpr std::array<Quantile, 13> kQuantiles = {{{"Maximum", 1, true},
                                                    {"99.9 %", 0.999, true},
                                                    {"99.0 %", 0.99, true},
                                                    {"95.0 %", 0.95, true},
                                                    {"90.0 %", 0.9, true},
                                                    {"75.0 %", 0.75, false},
                                                    {"Median", 0.5, true},
                                                    {"25.0 %", 0.25, false},
                                                    {"10.0 %", 0.1, true},
                                                    {" 5.0 %", 0.05, true},
                                                    {" 1.0 %", 0.01, true},
                                                    {" 0.1 %", 0.001, true},
                                                    {"Minimum", 0, true}}};
  for (const Quantile& q : kQuantiles)
    if (q.of_kld)
      line(fmt::format("{:<8}KLD", q.name).c_str(), fmt::format("{:10.6f}", quantile(c.klds, q.fraction)));
  line("Mean    Δp", percent(c.probability_change));
  for (const Quantile& q : kQuantiles)
    line(fmt::format("{:<8}Δp", q.name).c_str(),
         fmt::format("{:6.3f} %", 100 * quantile(c.changes, q.fraction)));
  line("RMS     Δp", percent(c.rms_change));
  line("Same top p", percent(c.same_top));
  return text;
}

}  // namespace strata
