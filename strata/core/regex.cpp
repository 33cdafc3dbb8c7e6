#include "strata/core/regex.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include "strata/core/error.h"
#include "strata/core/text.h"

namespace strata {
namespace {

std::string message_of(int error) {
  PCRE2_UCHAR buffer[256];
  const int length = pcre2_get_error_message(error, buffer, sizeof(buffer));
  return length > 0 ? std::string(reinterpret_cast<const char*>(buffer))
                    : "PCRE2 error " + std::to_string(error);
}

}  // namespace

struct Regex::Code {
  pcre2_code* code = nullptr;
  std::string pattern;
  ~Code() { pcre2_code_free(code); }
};

struct Regex::Matcher::State {
  std::shared_ptr<const Code> code;
  pcre2_match_data* data = nullptr;
  ~State() { pcre2_match_data_free(data); }
};

Regex::Regex(const std::string& pattern) {
  // Patterns come from tokenizer.json, whose engine (Oniguruma) lets ^ and $ match at every line.
  constexpr uint32_t kOptions = PCRE2_UTF | PCRE2_UCP | PCRE2_MULTILINE | PCRE2_NEVER_BACKSLASH_C;
  int error = 0;
  PCRE2_SIZE position = 0;
  auto code = std::make_shared<Code>();
  code->pattern = pattern;
  code->code = pcre2_compile(reinterpret_cast<PCRE2_SPTR>(pattern.data()), pattern.size(), kOptions, &error,
                             &position, nullptr);
  if (code->code == nullptr)
    fail("the pattern \"{}\" is wrong at character {}: {}", printable(pattern), position, message_of(error));
  // Where code cannot be made at run time, the interpreter does the same, more slowly.
  pcre2_jit_compile(code->code, PCRE2_JIT_COMPLETE);
  code_ = std::move(code);
}

Regex::Matcher::Matcher(const Regex& regex) : state_(std::make_shared<State>()) {
  state_->code = regex.code_;
  state_->data = pcre2_match_data_create_from_pattern(regex.code_->code, nullptr);
  if (state_->data == nullptr) throw std::bad_alloc();
}

std::optional<Regex::Range> Regex::Matcher::find(std::string_view text, size_t start) const {
  const int result = pcre2_match(state_->code->code, reinterpret_cast<PCRE2_SPTR>(text.data()), text.size(),
                                 start, PCRE2_NO_UTF_CHECK | PCRE2_NOTEMPTY, state_->data, nullptr);
  if (result == PCRE2_ERROR_NOMATCH) return std::nullopt;
  // PCRE2 gives up after 10 million steps, some tenths of a second.
  if (result < 0)
    fail("the pattern \"{}\" cannot be looked for: {}; write it so that it takes fewer steps",
         printable(state_->code->pattern), message_of(result));
  const PCRE2_SIZE* ends = pcre2_get_ovector_pointer(state_->data);
  if (ends[0] < start || ends[1] <= ends[0]) return std::nullopt;  // \K can move the ends about
  return Range{ends[0], ends[1]};
}

}  // namespace strata
