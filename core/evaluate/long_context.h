// Answers to questions about long texts, and what LongBench's items are, as MHA2MLA evaluates with them.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "core/metrics/prediction_scores.h"
#include "core/model/decoder.h"
#include "core/text/tokenizer.h"

namespace mla {

/// One question of LongBench.
struct LongContextItem {
  std::string context, input;
  Prediction prediction;  ///< without what a model says
};

/// Reads {"context": …, "input": …, "answers": […], "all_classes": […] | null, "_id": …} lines, packed by gzip or not.
/// `limit`: only the first ones; 0: all. Throws DataError naming file and line.
std::vector<LongContextItem> read_long_context_items(const std::filesystem::path& file, std::int64_t limit = 0);

/// Text without its middle, where it has more characters than `most`: the first and the last half of that many stay.
std::string without_middle(const std::string& text, std::size_t most);

/// Tokens without their middle, where they are more than `most`: the first and the last half stay, the first with the
/// odd one.
std::vector<std::int32_t> without_middle(std::vector<std::int32_t> tokens, std::int64_t most);

struct AnswerOptions {
  std::int64_t new_tokens = 128;     ///< of an answer, at most
  std::int64_t batch_tokens = 8192;  ///< of prompts of one length that are answered together (at least one)
  std::vector<std::int64_t> ends;    ///< tokens that end an answer
  std::vector<std::string> stop;     ///< texts that end an answer, which holds the one that came
  CacheFormat cache = {};            ///< how keys and values are kept; empty: as computed
};

/// Whether the first of the texts `stop` in `text` is known, whatever follows: one of them is there, and none that is
/// longer may have begun before it.
bool is_stopped(const std::string& text, const std::vector<std::string>& stop);

/// Answers the prompts one batch after another, shorter ones first: greedily, through a cache of the options' format.
/// Special tokens are left out of the texts. Empty prompts are passed over. `done` is told of the indices answered in
/// each batch, and the texts. Throws Interrupted where a signal ended a batch.
void answer(const Decoder& decoder, const Tokenizer& tokenizer, const std::vector<std::vector<std::int32_t>>& prompts,
            const AnswerOptions& options,
            const std::function<void(const std::vector<std::size_t>&, const std::vector<std::string>&)>& done);

}  // namespace mla
