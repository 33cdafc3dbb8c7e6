#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

struct StrataSentencePiece;

namespace strata {

// A SentencePiece model, run by the module that holds the library (sentencepiece_module/module.h says why it
// is apart). Errors are thrown with SentencePiece's own words. Thread-safe after construction.
class SentencePieceModel {
 public:
  explicit SentencePieceModel(const std::string& serialized_model);
  ~SentencePieceModel();
  SentencePieceModel(const SentencePieceModel&) = delete;
  SentencePieceModel& operator=(const SentencePieceModel&) = delete;

  int32_t size() const;
  std::vector<int32_t> encode(std::string_view text) const;
  std::string decode(const std::vector<int32_t>& ids) const;

 private:
  StrataSentencePiece* model_ = nullptr;
};

}  // namespace strata
