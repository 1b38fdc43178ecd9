#include "core/text/gguf_tokens.h"

#include <algorithm>

#include "core/base/error.h"
#include "core/base/log.h"
#include "core/text/chat_template.h"
#include "core/text/gguf_token_forms.h"
#include "core/text/tokenizer_readers.h"

namespace mla {
namespace {

namespace fs = std::filesystem;

constexpr const char* kTokenizerPrefix = "tokenizer.";

GgufTokens tokens_of_file(const fs::path& file) {
  const std::string name = file.filename().string(), extension = file.extension().string();
  if (name == "vocab.json" || name == "merges.txt" || name == "encoder.json" || name == "vocab.bpe")
    return gguf_tokens_of_vocab_merges(file);
  if (extension == ".json") return gguf_tokens_of_json(file);
  if (extension == ".bin") return gguf_tokens_of_llama2c(file);
  if (extension == ".model" && is_sentencepiece(file)) return gguf_tokens_of_sentencepiece(file);
  throw DataError(cat(file.string(),
                      ": tiktoken ranks have no merges, which GGUF files hold: put the model's tokenizer.json there"));
}

/// What the tokenizer itself does with a text: the tokens that it begins and ends with, and what is around it.
void add_surroundings(const fs::path& file, GgufTokens& tokens) {
  const std::unique_ptr<Tokenizer> tokenizer = load_tokenizer(file);
  tokens.bos = tokenizer->bos();
  tokens.eos = tokenizer->eos();
  const std::vector<std::int32_t> around = tokenizer->encode("", {.add_bos = true});
  std::vector<std::int32_t> told;
  tokens.add_bos = !around.empty() && around.front() == tokens.bos;
  tokens.add_eos = around.size() > (tokens.add_bos ? 1 : 0) && around.back() == tokens.eos;
  if (tokens.add_bos) told.push_back(*tokens.bos);
  if (tokens.add_eos) told.push_back(*tokens.eos);
  if (around != told) {
    throw DataError(cat(file.string(), ": puts ", around.size(),
                        " tokens around a text; GGUF files can say BOS before it and EOS after it, and no more"));
  }
}

void limit_gguf_tokens(GgufTokens& tokens, std::size_t vocabulary) {
  while (tokens.tokens.size() < vocabulary)
    put_gguf_token(tokens, static_cast<std::int32_t>(tokens.tokens.size()), "", GgufTokenType::kUnused);
  tokens.tokens.resize(vocabulary);
  tokens.types.resize(vocabulary);
  tokens.scores.resize(vocabulary);
  for (auto* id : {&tokens.bos, &tokens.eos, &tokens.unknown, &tokens.padding}) {
    if (*id && std::cmp_greater_equal(**id, vocabulary)) id->reset();
  }
  tokens.add_bos = tokens.add_bos && tokens.bos;
  tokens.add_eos = tokens.add_eos && tokens.eos;
  // llama.cpp finds tokens by their spelling: each must have one of its own.
  for (std::size_t id = 0; id < vocabulary; ++id) {
    if (tokens.tokens[id].empty()) tokens.tokens[id] = cat("[PAD", id, "]");
  }
}

/// The tokens that end a text: EOS, and those that the model's description names besides.
void add_ends(const GgufTokens& tokens, const std::vector<std::int64_t>& ends, gguf::Writer& writer) {
  std::vector<std::int64_t> all;
  const auto add = [&](std::int64_t id) {
    if (std::find(all.begin(), all.end(), id) == all.end()) all.push_back(id);
  };
  const bool known = tokens.eos && std::find(ends.begin(), ends.end(), *tokens.eos) != ends.end();
  if (tokens.eos && (known || ends.empty())) add(*tokens.eos);
  for (const std::int64_t id : ends) add(id);
  constexpr const char* kKeys[] = {"eos", "eot", "eom"};
  for (std::size_t i = 0; i < std::min(all.size(), std::size(kKeys)); ++i)
    writer.number(cat("tokenizer.ggml.", kKeys[i], "_token_id"), static_cast<std::uint32_t>(all[i]));
  if (all.size() > std::size(kKeys)) {
    log_warning_once(cat("the model names ", all.size(), " tokens that end a text; GGUF files have room for ",
                         std::size(kKeys), ", the first of them"));
  }
}

void add_keys(const GgufTokens& tokens, const std::vector<std::int64_t>& ends, gguf::Writer& writer) {
  const bool bpe = tokens.model == "gpt2";
  const auto key = [](const char* name) { return cat("tokenizer.ggml.", name); };
  writer.text(kGgufTokenizerModel, tokens.model);
  writer.text(key("pre"), bpe ? tokens.pre : "default");
  writer.texts(key("tokens"), tokens.tokens);
  if (!bpe) writer.numbers(key("scores"), tokens.scores);
  std::vector<std::int32_t> types;
  for (const GgufTokenType type : tokens.types) types.push_back(static_cast<std::int32_t>(type));
  writer.numbers(key("token_type"), types);
  if (bpe) writer.texts(key("merges"), tokens.merges);
  const auto id = [&](const char* name, const std::optional<std::int32_t>& value) {
    if (value) writer.number(cat("tokenizer.ggml.", name, "_token_id"), static_cast<std::uint32_t>(*value));
  };
  id("bos", tokens.bos);
  add_ends(tokens, ends, writer);
  id("unknown", tokens.unknown);
  id("padding", tokens.padding);
  writer.number(key("add_bos_token"), tokens.add_bos).number(key("add_eos_token"), tokens.add_eos);
  writer.number(key("add_space_prefix"), tokens.add_space_prefix);
  if (!bpe) writer.number(key("remove_extra_whitespaces"), tokens.remove_extra_spaces);
  if (!tokens.chat_template.empty()) writer.text("tokenizer.chat_template", tokens.chat_template);
}

void warn_of_missing_bytes(const GgufTokens& tokens, const fs::path& path) {
  if (tokens.model != "llama" || std::count(tokens.types.begin(), tokens.types.end(), GgufTokenType::kByte) == 256)
    return;
  log_warning_once(cat(path.string(),
                       ": has no tokens of bytes: llama.cpp ends where a text has a character that is no "
                       "token"));
}

/// The keys of another file, as they stand there.
void copy_keys(const fs::path& path, std::int64_t vocabulary, gguf::Writer& writer) {
  const gguf::File file(path);
  if (!file.has("tokenizer.ggml.tokens")) return add_no_gguf_tokenizer(writer);
  if (const auto tokens = std::ssize(file.strings("tokenizer.ggml.tokens")); tokens != vocabulary) {
    throw DataError(cat(path.string(), ": key tokenizer.ggml.tokens: ", tokens, " tokens for a model with ", vocabulary,
                        " embeddings"));
  }
  for (const auto& [key, value] : file.values()) {
    if (key.starts_with(kTokenizerPrefix)) writer.copy(key, value);
  }
}

}  // namespace

void put_gguf_token(GgufTokens& tokens, std::int32_t id, std::string spelling, GgufTokenType type, float score) {
  const auto place = static_cast<std::size_t>(id);
  if (place >= tokens.tokens.size()) {
    tokens.tokens.resize(place + 1);
    tokens.types.resize(place + 1, GgufTokenType::kUnused);
    tokens.scores.resize(place + 1);
  }
  tokens.tokens[place] = std::move(spelling);
  tokens.types[place] = type;
  tokens.scores[place] = score;
}

GgufTokens gguf_tokens_of(const fs::path& path) {
  const fs::path file = tokenizer_file(path);
  GgufTokens tokens = tokens_of_file(file);
  add_surroundings(file, tokens);
  if (has_chat_template(file)) tokens.chat_template = read_chat_template(file);
  return tokens;
}

void add_gguf_tokenizer(const fs::path& path, std::int64_t vocabulary, const std::vector<std::int64_t>& ends,
                        gguf::Writer& writer) {
  if (gguf::is_gguf(path)) return copy_keys(path, vocabulary, writer);
  GgufTokens tokens = gguf_tokens_of(path);
  warn_of_missing_bytes(tokens, path);
  limit_gguf_tokens(tokens, static_cast<std::size_t>(vocabulary));
  add_keys(tokens, ends, writer);
}

void add_no_gguf_tokenizer(gguf::Writer& writer) { writer.text(kGgufTokenizerModel, "none"); }

}  // namespace mla
