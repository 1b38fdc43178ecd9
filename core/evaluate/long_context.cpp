#include "core/evaluate/long_context.h"

#include <algorithm>
#include <map>

#include "core/base/error.h"
#include "core/base/interrupt.h"
#include "core/evaluate/end_tokens.h"
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

/// Text without its middle, where it has more characters than `most`.
std::string without_middle(const std::string& text, std::size_t most) {
  if (text.size() <= most) return text;
  const std::u32string characters = to_code_points(text);
  if (characters.size() <= most) return text;
  const std::size_t half = most / 2;
  return to_utf8(characters.substr(0, half) + characters.substr(characters.size() - half));
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

void answer_batch(const Decoder& decoder, const Tokenizer& tokenizer, const LongBenchTask& task,
                  const std::vector<std::vector<std::int32_t>>& prompts, const std::vector<std::size_t>& batch,
                  const CacheFormat& cache, std::vector<LongContextItem>& items) {
  std::vector<std::vector<std::int64_t>> ids;
  for (const std::size_t item : batch) ids.emplace_back(prompts[item].begin(), prompts[item].end());
  GenerateOptions options;
  options.count = task.new_tokens;
  options.stop = end_tokens(decoder.spec(), tokenizer);
  const GenerateReport answers = generate(decoder, ids, options, DecodePath::kAuto, cache);
  check_interrupt();  // a signal ends answers in their middle: those do not count
  for (std::size_t row = 0; row < batch.size(); ++row) {
    items[batch[row]].prediction.text = text_of(tokenizer, answers.sequences[row].tokens);
  }
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

std::vector<std::int32_t> long_context_prompt(const LongBenchTask& task, const LongContextItem& item,
                                              const Tokenizer& tokenizer, std::int64_t max_tokens,
                                              const std::string& path) {
  const std::int64_t most = max_tokens - task.new_tokens;
  if (most < 2) {
    throw ConfigError(cat(path, ".max_tokens = ", max_tokens, ": leaves no room for a prompt beside the ",
                          task.new_tokens, " tokens of an answer to ", task.name));
  }
  const std::string context = without_middle(item.context, static_cast<std::size_t>(8 * max_tokens));
  std::vector<std::int32_t> tokens = tokenizer.encode(longbench_prompt(task, context, item.input), {.add_bos = true});
  if (std::ssize(tokens) > most) {
    const std::int64_t half = most / 2;
    tokens.erase(tokens.begin() + (most - half), tokens.end() - half);
  }
  return tokens;
}

void answer(const Decoder& decoder, const Tokenizer& tokenizer, const LongBenchTask& task,
            std::vector<LongContextItem>& items, const std::vector<bool>& answered, const LongContextOptions& options,
            const std::function<void(const std::vector<std::size_t>&)>& done) {
  std::vector<std::vector<std::int32_t>> prompts(items.size());
  std::map<std::size_t, std::vector<std::size_t>> by_length;
  for (std::size_t i = 0; i < items.size(); ++i) {
    if (answered[i]) continue;
    prompts[i] = long_context_prompt(task, items[i], tokenizer, options.max_tokens, options.path);
    by_length[prompts[i].size()].push_back(i);
  }
  for (const auto& [length, indices] : by_length) {
    const std::size_t most =
        std::max<std::size_t>(1, static_cast<std::size_t>(options.batch_tokens) / std::max<std::size_t>(1, length));
    for (std::size_t begin = 0; begin < indices.size(); begin += most) {
      const std::vector<std::size_t> batch(
          indices.begin() + static_cast<std::ptrdiff_t>(begin),
          indices.begin() + static_cast<std::ptrdiff_t>(std::min(begin + most, indices.size())));
      answer_batch(decoder, tokenizer, task, prompts, batch, options.cache, items);
      if (done) done(batch);
    }
  }
}

}  // namespace mla
