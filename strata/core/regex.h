#pragma once

#include <cstddef>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

namespace strata {

// A compiled PCRE2 pattern over valid UTF-8 with Unicode properties. Thread-safe.
class Regex {
 public:
  // Throws Error saying where in the pattern it is wrong.
  explicit Regex(const std::string& pattern);

  struct Range {
    size_t begin, end;
  };

  // Scratch memory of one search loop; not to be shared between threads.
  class Matcher {
   public:
    explicit Matcher(const Regex& regex);

    // The first match, never an empty one, that begins at `start` or later; what stands before `start` is
    // seen by look-behind. `text` must be valid UTF-8.
    std::optional<Range> find(std::string_view text, size_t start) const;

   private:
    struct State;
    std::shared_ptr<State> state_;
  };

 private:
  struct Code;
  std::shared_ptr<const Code> code_;
};

}  // namespace strata
