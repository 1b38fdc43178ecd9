// What the metadata of a GGUF file say of its tokens, checked.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/base/json.h"
#include "core/gguf/file.h"

namespace mla {

inline constexpr const char* kGgufTokenizerModel = "tokenizer.ggml.model";

/// Kinds of tokens, by their numbers in files.
enum class GgufTokenType : std::int32_t {
  kNormal = 1,
  kUnknown = 2,
  kControl = 3,
  kUserDefined = 4,
  kUnused = 5,
  kByte = 6,
};

struct GgufVocabulary {
  std::vector<std::string_view> tokens;  ///< by id; views of the file
  std::vector<GgufTokenType> types;      ///< as many; all normal where the file does not say
  std::optional<std::int32_t> bos, eos, unknown, padding;
  std::optional<bool> add_bos, add_eos, add_space_prefix;
  bool remove_extra_spaces = false;
  std::string chat_template;  ///< empty: none
};

/// Throws DataError as describe_gguf_tokenizer does.
GgufVocabulary read_gguf_vocabulary(const gguf::File& file);

/// The string value of a key, or `otherwise` where it is absent. Throws DataError for another type.
std::string gguf_string_or(const gguf::File& file, const std::string& key, const std::string& otherwise);

}  // namespace mla
