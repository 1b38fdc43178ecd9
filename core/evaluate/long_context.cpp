#include "core/evaluate/long_context.h"

#include <algorithm>
#include <map>

#include "core/base/error.h"
#include "core/base/interrupt.h"
#include "core/evaluate/generate.h"
#include "core/metrics/unicode_text.h"
#include "core/text/json_lines.h"

namespace mla {
namespace {

std::string text_field(const Json& json, const char* field, const std::string& where) {
  const auto found = json.find(field);
  if (found == json.end()) throw DataError(cat(where, ": field ", field, " is missing"));
  if (!found->is_string()) throw DataError(cat(where, ": ", field, ": expected a string, found ", kind_of(*found)));
  return found->get<std::string>();
}

/// Text of the ids without EOS and, as everywhere, other special tokens; ids that the tokenizer does not know are
/// padding of the embedding and stand for no text.
std::string text_of(const Tokenizer& tokenizer, const std::vector<std::int64_t>& ids) {
  std::vector<std::int32_t> known;
  for (const std::int64_t id : ids) {
    if (tokenizer.eos() && id == *tokenizer.eos()) continue;
    if (id < tokenizer.vocabulary_size()) known.push_back(static_cast<std::int32_t>(id));
  }
  return tokenizer.decode(known);
}

std::vector<std::string> answer_batch(const Decoder& decoder, const Tokenizer& tokenizer,
                                      const std::vector<std::vector<std::int32_t>>& prompts,
                                      const std::vector<std::size_t>& batch, const AnswerOptions& options) {
  std::vector<std::vector<std::int64_t>> ids;
  for (const std::size_t i : batch) ids.emplace_back(prompts[i].begin(), prompts[i].end());
  GenerateOptions how;
  how.count = options.new_tokens;
  how.stop = options.ends;
  std::vector<std::vector<std::int64_t>> said(options.stop.empty() ? 0 : batch.size());
  TokenSink sink;
  if (!options.stop.empty()) {
    sink = [&](std::int64_t row, std::int64_t token) {
      std::vector<std::int64_t>& own = said[static_cast<std::size_t>(row)];
      own.push_back(token);
      return !is_stopped(text_of(tokenizer, own), options.stop);
    };
  }
  const GenerateReport answers = generate(decoder, ids, how, DecodePath::kAuto, options.cache, sink);
  check_interrupt();  // a signal ends answers in their middle: those do not count
  std::vector<std::string> texts;
  for (const GeneratedSequence& sequence : answers.sequences) texts.push_back(text_of(tokenizer, sequence.tokens));
  return texts;
}

}  // namespace

std::vector<LongContextItem> read_long_context_items(const std::filesystem::path& file, std::int64_t limit) {
  std::vector<LongContextItem> items;
  read_json_lines(file, [&](const Json& json, const std::string& where) {
    if (limit > 0 && std::ssize(items) >= limit) return false;
    LongContextItem item;
    item.context = text_field(json, "context", where);
    item.input = text_field(json, "input", where);
    item.prediction = parse_prediction(json, where);
    items.push_back(std::move(item));
    return true;
  });
  if (items.empty()) throw DataError(cat(file.string(), ": holds no item"));
  return items;
}

std::string without_middle(const std::string& text, std::size_t most) {
  if (text.size() <= most) return text;
  const std::u32string characters = to_code_points(text);
  if (characters.size() <= most) return text;
  const std::size_t half = most / 2;
  return to_utf8(characters.substr(0, half) + characters.substr(characters.size() - half));
}

std::vector<std::int32_t> without_middle(std::vector<std::int32_t> tokens, std::int64_t most) {
  if (std::ssize(tokens) > most) {
    const std::int64_t half = most / 2;
    tokens.erase(tokens.begin() + (most - half), tokens.end() - half);
  }
  return tokens;
}

bool is_stopped(const std::string& text, const std::vector<std::string>& stop) {
  std::size_t first = std::string::npos;
  for (const std::string& one : stop) first = std::min(first, text.find(one));
  if (first == std::string::npos) return false;
  for (const std::string& one : stop) {
    // Where this one may have begun without being complete.
    for (std::size_t at = text.size() - std::min(text.size(), one.size() - 1); at < first; ++at)
      if (one.starts_with(std::string_view(text).substr(at))) return false;
  }
  return true;
}

void answer(const Decoder& decoder, const Tokenizer& tokenizer, const std::vector<std::vector<std::int32_t>>& prompts,
            const AnswerOptions& options,
            const std::function<void(const std::vector<std::size_t>&, const std::vector<std::string>&)>& done) {
  std::map<std::size_t, std::vector<std::size_t>> by_length;
  for (std::size_t i = 0; i < prompts.size(); ++i) {
    if (!prompts[i].empty()) by_length[prompts[i].size()].push_back(i);
  }
  for (const auto& [length, indices] : by_length) {
    const std::size_t most = std::max<std::size_t>(1, static_cast<std::size_t>(options.batch_tokens) / length);
    for (std::size_t begin = 0; begin < indices.size(); begin += most) {
      const std::vector<std::size_t> batch(
          indices.begin() + static_cast<std::ptrdiff_t>(begin),
          indices.begin() + static_cast<std::ptrdiff_t>(std::min(begin + most, indices.size())));
      done(batch, answer_batch(decoder, tokenizer, prompts, batch, options));
    }
  }
}

}  // namespace mla
