#include "strata/quantizers/tuning_state.h"

#include <cstring>
#include <fstream>
#include <string>
#include <utility>

#include "strata/core/error.h"
#include "strata/core/file.h"

namespace strata {
namespace {

constexpr const char* kFormat = "strata.tuning";

// FNV-1a (Fowler, Noll and Vo) over words of eight bytes.
class Hash {
 public:
  void add(const void* data, size_t size) {
    const auto* bytes = static_cast<const char*>(data);
    for (size_t first = 0; first < size; first += sizeof(uint64_t)) {
      uint64_t word = 0;
      std::memcpy(&word, bytes + first, std::min(sizeof(word), size - first));
      value_ = (value_ ^ word) * 0x100000001b3ull;
    }
  }
  template <class Value>
  void add(const std::vector<Value>& values) {
    add(values.data(), values.size() * sizeof(Value));
  }
  void add(const std::string& text) { add(text.data(), text.size()); }
  void add(const AffineMatrix& matrix) {
    add(matrix.codes);
    add(matrix.scales);
    add(matrix.zeros);
    add(matrix.group_of_column);
  }

  std::string text() const { return fmt::format("{:016x}", value_); }

 private:
  uint64_t value_ = 0xcbf29ce484222325ull;
};

template <class Visit>
void for_each_tensor(TuningState& state, const Visit& visit) {
  for (at::Tensor* tensor : {&state.parameters, &state.means, &state.squares, &state.best}) visit(*tensor);
}

}  // namespace

TuningStateFile::TuningStateFile(const std::filesystem::path& directory, Json identity)
    : identity_(std::move(identity)) {
  if (directory.empty()) return;
  std::error_code error;
  std::filesystem::create_directories(directory, error);
  Hash hash;
  hash.add(identity_.dump());
  path_ = directory / fmt::format("tuning-{}.state", hash.text());
}

std::optional<TuningState> TuningStateFile::read(int64_t count) const {
  if (path_.empty() || !std::filesystem::exists(path_)) return std::nullopt;
  std::ifstream file(path_, std::ios::binary);
  std::string line;
  std::getline(file, line);
  const Json header = Json::parse(line, nullptr, false);
  const auto refuse = [&]() {
    fail("{} is not what tuning of this model left; remove it or choose another --calib-cache",
         path_.string());
  };
  if (!header.is_object() || header.value("format", "") != kFormat ||
      header.value("identity", Json()) != identity_)
    refuse();
  TuningState state;
  state.step = header.value("step", int64_t{0});
  state.best_divergence = header.value("divergence", 0.0);
  for_each_tensor(state, [&](at::Tensor& tensor) {
    tensor = at::empty({count}, at::kFloat);
    file.read(static_cast<char*>(tensor.data_ptr()), count * static_cast<int64_t>(sizeof(float)));
    if (!file) refuse();
  });
  return state;
}

void TuningStateFile::write(const TuningState& state) const {
  if (path_.empty()) return;
  OutputFile file(path_);
  const std::string header = Json{{"format", kFormat},
                                  {"identity", identity_},
                                  {"step", state.step},
                                  {"divergence", state.best_divergence}}
                                 .dump() +
                             "\n";
  file.write(header.data(), header.size());
  TuningState copy = state;
  for_each_tensor(copy, [&](const at::Tensor& tensor) {
    const at::Tensor values = tensor.to(at::kCPU, at::kFloat).contiguous();
    file.write(values.data_ptr(), static_cast<size_t>(values.numel()) * sizeof(float));
  });
  file.commit();
}

std::string stored_fingerprint(const std::map<std::string, QuantizedMatrix>& matrices) {
  Hash hash;
  for (const auto& [tensor, matrix] : matrices) {
    hash.add(tensor + " " + matrix.scheme.name());
    for_each_part(matrix, [&](const QuantizedMatrix& part) {
      hash.add(part.affine);
      hash.add(part.mixed.high_rows);
      hash.add(part.mixed.low);
      hash.add(part.mixed.high);
      hash.add(part.blocks);
      hash.add(part.nf4.codes);
      hash.add(part.nf4.magnitudes);
    });
  }
  return hash.text();
}

}  // namespace strata
