#include "core/base/error.h"
#include "core/base/file.h"
#include "core/text/gguf_token_forms.h"
#include "core/text/sentencepiece_model.h"
#include "core/text/tokenizer_config.h"
#include "core/text/tokenizer_readers.h"

namespace mla {
namespace {

constexpr const char* kSpaceMark = "▁";

/// What scores of merges cannot say.
void refuse_other_pieces(const SentencePieceFile& file, const std::string& name) {
  const auto refuse = [&](const char* what) {
    throw DataError(cat(name, ": ", what, ", which GGUF's form of merges by score cannot say"));
  };
  if (!file.is_bpe) refuse("its pieces are chosen by likelihood (unigram)");
  if (file.has_chars_map) refuse("its text is normalized by a table of characters");
  if (file.space_as_suffix) refuse("its pieces end with spaces");
  if (!file.escapes_spaces) refuse("its spaces are no ▁");
}

std::string with_space_marks(const std::string& text) {
  std::string marked;
  for (const char c : text) marked += c == ' ' ? std::string(kSpaceMark) : std::string(1, c);
  return marked;
}

}  // namespace

GgufTokens gguf_tokens_of_sentencepiece(const std::filesystem::path& path) {
  const SentencePieceFile file = read_sentencepiece_file(read_file(path));
  refuse_other_pieces(file, path.string());
  TokenizerConfig config = read_tokenizer_config(path.parent_path());
  add_class_defaults(config);
  GgufTokens tokens;
  tokens.model = "llama";
  const bool llama = config.is_class("LlamaTokenizer") || config.is_class("CodeLlamaTokenizer");
  tokens.add_space_prefix = llama ? config.add_prefix_space.value_or(file.dummy_prefix) : file.dummy_prefix;
  tokens.remove_extra_spaces = file.removes_spaces;
  Vocabulary spelt;
  for (std::size_t place = 0; place < file.pieces.size(); ++place) {
    const SentencePiece& piece = file.pieces[place];
    const auto id = static_cast<std::int32_t>(place);
    const auto type = static_cast<GgufTokenType>(piece.type);
    put_gguf_token(tokens, id, piece.spelling, type, piece.score);
    spelt.emplace(piece.spelling, id);
    if (type == GgufTokenType::kUnknown) tokens.unknown = id;
  }
  std::vector<AddedToken> added;
  add_configured_tokens(config, spelt, added);
  for (const AddedToken& token : added) {
    if (std::cmp_less(token.id, file.pieces.size())) continue;  // a piece stays what its model says
    put_gguf_token(tokens, token.id, token.content,
                   token.special ? GgufTokenType::kControl : GgufTokenType::kUserDefined);
  }
  tokens.padding = config.id_of("pad_token", added, std::nullopt);
  return tokens;
}

GgufTokens gguf_tokens_of_llama2c(const std::filesystem::path& path) {
  const ScoredTokens read = read_llama2c_tokens(path);
  GgufTokens tokens;
  tokens.model = "llama";
  tokens.add_space_prefix = true;
  tokens.unknown = 0;
  constexpr const char* kFirst[] = {"<unk>", "<s>", "</s>"};
  for (std::size_t id = 0; id < read.spellings.size(); ++id) {
    const std::string& spelling = read.spellings[id];
    const bool first = id < std::size(kFirst);
    const GgufTokenType type = id == 0                               ? GgufTokenType::kUnknown
                               : first                               ? GgufTokenType::kControl
                               : spelling.empty()                    ? GgufTokenType::kUnused
                               : byte_of_token(spelling).has_value() ? GgufTokenType::kByte
                                                                     : GgufTokenType::kNormal;
    put_gguf_token(tokens, static_cast<std::int32_t>(id), first ? kFirst[id] : with_space_marks(spelling), type,
                   read.scores[id]);
  }
  return tokens;
}

}  // namespace mla
