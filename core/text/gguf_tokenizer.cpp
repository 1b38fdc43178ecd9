#include "core/text/gguf_tokenizer.h"

#include "core/base/error.h"
#include "core/base/file.h"
#include "core/base/hash.h"
#include "core/base/suggest.h"
#include "core/text/gguf_forms.h"
#include "core/text/gguf_vocabulary.h"
#include "core/text/tokenizer_readers.h"

namespace mla {
namespace {

constexpr const char* kBytePairs = "gpt2";
constexpr const char* kPiecesByScore = "llama";

/// Whether the file says that there is a tokenizer; llama.cpp writes no_vocab or none where there is not.
bool has_tokenizer(const gguf::File& file) {
  const std::string model = gguf_string_or(file, kGgufTokenizerModel, "none");
  return model != "none" && model != "no_vocab";
}

/// The name of a token in tokenizer_config.json; null: the tokenizer has none.
Json spelling_of(const GgufVocabulary& vocabulary, const std::optional<std::int32_t>& id) {
  return id ? Json(std::string(vocabulary.tokens[static_cast<std::size_t>(*id)])) : Json();
}

Json config_of(const GgufVocabulary& vocabulary, bool bpe) {
  Json config = {{"bos_token", spelling_of(vocabulary, vocabulary.bos)},
                 {"eos_token", spelling_of(vocabulary, vocabulary.eos)}};
  const auto is_special = [&](const std::optional<std::int32_t>& id) {
    if (!id) return false;
    const GgufTokenType type = vocabulary.types[static_cast<std::size_t>(*id)];
    return type == GgufTokenType::kControl || type == GgufTokenType::kUnknown;
  };
  if (is_special(vocabulary.unknown)) config["unk_token"] = spelling_of(vocabulary, vocabulary.unknown);
  if (is_special(vocabulary.padding)) config["pad_token"] = spelling_of(vocabulary, vocabulary.padding);
  if (bpe) {
    config["tokenizer_class"] = "PreTrainedTokenizerFast";  // what is put around a text stands in tokenizer.json
  } else {
    config["add_bos_token"] = vocabulary.add_bos.value_or(true);
    config["add_eos_token"] = vocabulary.add_eos.value_or(false);
  }
  config["clean_up_tokenization_spaces"] = false;
  if (!vocabulary.chat_template.empty()) config["chat_template"] = vocabulary.chat_template;
  return config;
}

}  // namespace

GgufTokenizer describe_gguf_tokenizer(const gguf::File& file) {
  const std::string name = file.path().string();
  if (!file.has(kGgufTokenizerModel))
    throw DataError(cat(name, ": holds no tokenizer: key ", kGgufTokenizerModel, " is missing"));
  if (!has_tokenizer(file))
    throw DataError(cat(name, ": holds no tokenizer: key ", kGgufTokenizerModel, " = none"));
  const std::string model = gguf_string_or(file, kGgufTokenizerModel, "");
  if (model != kBytePairs && model != kPiecesByScore) {
    throw DataError(
        cat(name, ": key ", kGgufTokenizerModel, ": ", unknown_name(brief_text(model), {kBytePairs, kPiecesByScore})));
  }
  const GgufVocabulary vocabulary = read_gguf_vocabulary(file);
  GgufTokenizer tokenizer;
  if (model == kBytePairs) {
    tokenizer.bpe = gguf_bpe_json(file, vocabulary);
  } else {
    tokenizer.pieces = gguf_sentencepiece(file, vocabulary);
  }
  tokenizer.config = config_of(vocabulary, model == kBytePairs);
  return tokenizer;
}

std::unique_ptr<Tokenizer> read_gguf_tokenizer(const std::filesystem::path& path) {
  const gguf::File file(path);
  GgufTokenizer tokenizer = describe_gguf_tokenizer(file);
  TokenizerConfig config = read_tokenizer_config(tokenizer.config, path);
  const std::string name = path.string() + ": tokenizer";
  if (tokenizer.pieces.empty()) return make_hf_tokenizer(std::move(tokenizer.bpe), std::move(config), name);
  return make_sentencepiece(tokenizer.pieces, name, std::move(config));
}

void write_gguf_tokenizer(const std::filesystem::path& path, const std::filesystem::path& folder) {
  const gguf::File file(path);
  if (!has_tokenizer(file)) return;
  const GgufTokenizer tokenizer = describe_gguf_tokenizer(file);
  if (tokenizer.pieces.empty()) {
    write_file_atomically(folder / "tokenizer.json", tokenizer.bpe.dump());
  } else {
    write_file_atomically(folder / "tokenizer.model", tokenizer.pieces);
  }
  write_json(folder / "tokenizer_config.json", tokenizer.config);
}

std::string hash_gguf_tokenizer(const std::filesystem::path& path) {
  const gguf::File file(path);
  Hasher hasher;
  for (const auto& [key, value] : file.values()) {
    if (!key.starts_with("tokenizer.ggml.")) continue;
    hasher.update(cat(key, ' ', static_cast<std::uint32_t>(value.type), ' ', value.bytes.size(), '\n'));
    hasher.update(value.bytes);
  }
  return hasher.digest();
}

}  // namespace mla
