// Prompts with completions, and conversations, to train on the answers alone.
#pragma once

#include <filesystem>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "core/text/token_stream.h"
#include "core/text/tokenizer.h"
#include "experiments/data/token_data.h"

namespace mla {

/// Which tokens of the data training predicts.
enum class LossOn { kAll, kCompletion };
inline std::vector<std::pair<std::string, LossOn>> enum_names(LossOn) {
  return {{"all", LossOn::kAll}, {"completion", LossOn::kCompletion}};
}

/// Throws ConfigError naming `path` for options of the data that say nothing about prompts with completions.
void check_completions(const DataOptions& options, const std::string& path);

/// The documents of JSON files, one object each: {"prompt": …, "completion": …}, two texts that follow each other, or
/// {"messages": [{"role": …, "content": …}, …]}, put into the chat template of the tokenizer at `place`. Only tokens of
/// completions, and of what the assistant says with the mark that ends its turn, are to be predicted. Texts are encoded
/// whole: a token belongs to the prompt as far as the prompt alone has as many. `bos` and `eos` of the options say what
/// stands around a prompt with its completion, EOS being predicted; a chat's template says so itself. `length` cuts
/// documents, `min_tokens` and `max_rows` leave some out.
/// Throws DataError naming file and line for an object of another form, an empty completion, and one of which `length`
/// leaves nothing; and for ids that a model of `vocabulary` embeddings does not have.
std::shared_ptr<const TokenStream> open_completions(const DataOptions& options, const Tokenizer& tokenizer,
                                                    const std::filesystem::path& place, std::int64_t vocabulary);

}  // namespace mla
