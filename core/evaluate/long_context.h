// Answers to questions about long texts: LongBench's tasks, as MHA2MLA evaluates with them.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "core/metrics/longbench.h"
#include "core/metrics/prediction_scores.h"
#include "core/model/decoder.h"
#include "core/text/tokenizer.h"

namespace mla {

/// One question of LongBench. `prediction.text` is filled in by answering.
struct LongContextItem {
  std::string context, input;
  Prediction prediction;
};

/// Reads {"context": …, "input": …, "answers": […], "all_classes": […] | null, "_id": …} lines, packed by gzip or not.
/// `limit`: only the first ones; 0: all. Throws DataError naming file and line.
std::vector<LongContextItem> read_long_context_items(const std::filesystem::path& file, std::int64_t limit = 0);

/// The tokens of an item's prompt, at most `max_tokens` less the task's length of an answer. What is too long loses its
/// middle: first a context of more than 8 `max_tokens` characters, of which the first and the last half of that many
/// stay; then the whole prompt's tokens, of which the first and the last half stay, the first with the odd one.
/// Throws ConfigError naming `path` where `max_tokens` leaves no room for a prompt.
std::vector<std::int32_t> long_context_prompt(const LongBenchTask& task, const LongContextItem& item,
                                              const Tokenizer& tokenizer, std::int64_t max_tokens,
                                              const std::string& path);

struct LongContextOptions {
  std::int64_t max_tokens = 2048;    ///< of prompt and answer together
  std::int64_t batch_tokens = 8192;  ///< of prompts of one length that are answered together (at least one)
  std::string path = "longbench";    ///< in errors
  CacheFormat cache = {};            ///< how keys and values are kept; empty: as computed
};

/// Answers the items one batch after another: greedily, through a cache of the options' format, up to the task's length
/// or a token that ends a text (end_tokens()); special tokens are left out of the text. Items whose `answered` flag is set are passed
/// over. `done` is told of the indices answered after each batch. Throws Interrupted where a signal ended a batch.
void answer(const Decoder& decoder, const Tokenizer& tokenizer, const LongBenchTask& task,
            std::vector<LongContextItem>& items, const std::vector<bool>& answered, const LongContextOptions& options,
            const std::function<void(const std::vector<std::size_t>&)>& done = {});

}  // namespace mla
