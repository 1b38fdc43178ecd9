#include "experiments/data/completion_data.h"

#include <algorithm>
#include <optional>

#include "core/base/error.h"
#include "core/text/benchmark_forms.h"
#include "core/text/chat_template.h"
#include "core/text/document_reader.h"
#include "core/text/json_lines.h"
#include "experiments/data/token_ids.h"

namespace mla {
namespace {

/// Tokens of a document, and which of them are to be predicted.
struct MaskedDocument {
  std::vector<std::int32_t> tokens;
  std::vector<std::uint8_t> scored;
};

class CompletionReader {
 public:
  CompletionReader(const DataOptions& options, const Tokenizer& tokenizer, std::filesystem::path place)
      : options_(options), tokenizer_(tokenizer), place_(std::move(place)) {}

  MaskedDocument read(const Json& row, const std::string& where) {
    MaskedDocument document = row.contains("messages") ? chat(row, where) : pair(row, where);
    const auto length = static_cast<std::size_t>(options_.length);
    if (length > 0 && document.tokens.size() > length) {
      document.tokens.resize(length);
      document.scored.resize(length);
    }
    if (std::find(document.scored.begin(), document.scored.end(), 1) == document.scored.end())
      throw DataError(
          cat(where, ": no token of the completion is among the first ", options_.length, ", which data.length keeps"));
    return document;
  }

 private:
  MaskedDocument pair(const Json& row, const std::string& where) const {
    if (!row.contains("prompt") || !row.contains("completion"))
      throw DataError(cat(where,
                          ": expected {\"prompt\": …, \"completion\": …} or {\"messages\": […]}, found the "
                          "fields ",
                          fields_of(row)));
    const std::string completion = text_of(row, "completion", where);
    if (completion.empty()) throw DataError(cat(where, ": completion: is empty"));
    MaskedDocument document = masked({{text_of(row, "prompt", where), false}, {completion, true}}, options_.bos, false);
    if (!options_.eos) return document;
    if (!tokenizer_.eos()) throw DataError(cat(where, ": eos = true, but the tokenizer names no EOS token"));
    document.tokens.push_back(*tokenizer_.eos());
    document.scored.push_back(1);
    return document;
  }

  MaskedDocument chat(const Json& row, const std::string& where) {
    if (row.contains("prompt") || row.contains("completion"))
      throw DataError(cat(where, ": holds messages and a prompt or completion: which of them is it?"));
    if (template_.empty()) {
      template_ = read_chat_template(place_);
      if (tokenizer_.eos()) eos_ = tokenizer_.decode(std::vector{*tokenizer_.eos()}, false);
    }
    const Json& list = row.at("messages");
    if (!list.is_array()) throw DataError(cat(where, ": messages: expected a list, found ", kind_of(list)));
    std::vector<ChatMessage> messages;
    for (std::size_t i = 0; i < list.size(); ++i) {
      const std::string place = cat(where, ": messages[", i, "]");
      if (!list[i].is_object()) throw DataError(cat(place, ": expected an object, found ", kind_of(list[i])));
      messages.push_back({text_of(list[i], "role", place), text_of(list[i], "content", place)});
    }
    const ChatText text = chat_text(template_, messages, eos_, where);
    MaskedDocument document = masked(text.pieces, false, true);
    if (text.begins_with_bos && tokenizer_.bos()) {
      document.tokens.insert(document.tokens.begin(), *tokenizer_.bos());
      document.scored.insert(document.scored.begin(), 0);
    }
    return document;
  }

  /// The pieces' text as one; each token belongs to the piece in which the text before it ends.
  MaskedDocument masked(const std::vector<ChatPiece>& pieces, bool bos, bool special) const {
    const EncodeOptions how{.add_bos = bos, .parse_special = special};
    std::vector<std::string> beginnings(1);
    for (const ChatPiece& piece : pieces) beginnings.push_back(beginnings.back() + piece.text);
    MaskedDocument document{tokenizer_.encode(beginnings.back(), how), {}};
    document.scored.assign(document.tokens.size(), 0);
    for (std::size_t i = 0; i < pieces.size(); ++i) {
      if (!pieces[i].answer) continue;
      const auto place_behind = [&](const std::string& text) {
        return std::min(tokenizer_.encode(text, how).size(), document.tokens.size());
      };
      const std::size_t begin = place_behind(beginnings[i]),
                        end = i + 1 == pieces.size() ? document.tokens.size() : place_behind(beginnings[i + 1]);
      for (std::size_t k = begin; k < end; ++k) document.scored[k] = 1;
    }
    // A merge across the border may leave the completion no token of its own.
    if (!document.tokens.empty() && pieces.back().answer) document.scored.back() = 1;
    return document;
  }

  static std::string fields_of(const Json& row) {
    std::vector<std::string> names;
    for (const auto& [key, value] : row.items()) names.push_back(key);
    return names.empty() ? "none" : brief_text(join(names));
  }

  const DataOptions& options_;
  const Tokenizer& tokenizer_;
  std::filesystem::path place_;
  std::string template_, eos_;
};

}  // namespace

void check_completions(const DataOptions& options, const std::string& path) {
  if (options.long_documents == "split")
    throw ConfigError(cat(path, ".long_documents = split: a completion belongs to its prompt; expected cut"));
  for (const std::string& file : options.files) {
    if (!holds_json(file) || is_token_shard(file))
      throw ConfigError(
          cat(path, ".files: ", file,
              ": loss_on = completion reads prompts with completions, or messages, from .jsonl or .json"));
  }
}

std::shared_ptr<const TokenStream> open_completions(const DataOptions& options, const Tokenizer& tokenizer,
                                                    const std::filesystem::path& place, std::int64_t vocabulary) {
  CompletionReader reader(options, tokenizer, place);
  std::vector<std::vector<std::int32_t>> documents;
  std::vector<std::vector<std::uint8_t>> scored;
  const auto full = [&] {
    return !options.spread_rows && options.max_rows > 0 && std::ssize(documents) >= options.max_rows;
  };
  for (const std::string& file : options.files) {
    if (full()) break;
    read_json_lines(file, [&](const Json& row, const std::string& where) {
      MaskedDocument document = reader.read(row, where);
      expect_known_row(document.tokens, vocabulary, [&] { return where; });
      if (std::ssize(document.tokens) < options.min_tokens) return true;
      documents.push_back(std::move(document.tokens));
      scored.push_back(std::move(document.scored));
      return !full();
    });
  }
  if (documents.empty())
    throw DataError(
        cat(join(options.files), ": no prompt with a completion of at least ", options.min_tokens, " tokens"));
  if (options.spread_rows) {
    const auto places = spread_places(documents.size(), static_cast<std::size_t>(options.max_rows));
    documents = items_at(std::move(documents), places);
    scored = items_at(std::move(scored), places);
  }
  return std::make_shared<MemoryTokens>(documents, scored);
}

}  // namespace mla
