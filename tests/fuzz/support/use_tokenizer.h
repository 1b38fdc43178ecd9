// What every tokenizer target does with a tokenizer that was read.
#pragma once

#include <string>
#include <string_view>

#include "core/text/tokenizer.h"
#include "tests/fuzz/support/target.h"

namespace mla::fuzz {

/// Encodes texts of several scripts and the end of the input itself; ids must be ones of the vocabulary, and decodable.
inline void use_tokenizer(const Tokenizer& tokenizer, std::string_view input) {
  constexpr std::size_t kTail = 200;
  const std::int64_t size = tokenizer.vocabulary_size();
  promise(size >= 0, "a negative vocabulary size");
  const std::string tail(input.substr(input.size() - std::min(kTail, input.size())));
  for (const std::string& text :
       {std::string("hello, ab abc's\n\n 1234 \u4e2d\u6587 e\u0301\t<s></s> \xF0\x9F\x98\x80"), tail, std::string(),
        std::string(3, '\0'), std::string("  ")}) {
    for (const bool special : {false, true}) {
      const auto ids = tokenizer.encode(text, {.add_bos = special, .parse_special = special});
      for (const std::int32_t id : ids) promise(id >= 0 && id < size, "an id outside the vocabulary");
      tokenizer.decode(ids, !special);
    }
  }
}

}  // namespace mla::fuzz
