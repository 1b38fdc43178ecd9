// The `model` of a tokenizer.json, and what vocab.json + merges.txt share with it.
#pragma once

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "core/base/json.h"
#include "core/text/bpe_model.h"
#include "core/text/unigram_model.h"

namespace mla {

/// Token ids by their spelling in the file. Throws DataError for an id that is no number from 0 on, is far above the
/// number of tokens (over 2^20 and 8 times as many), or belongs to two tokens.
Vocabulary read_vocabulary(const LargeJson& json, const std::string& where);

/// Merges in order of rank. Throws DataError naming the merge whose parts or result are not in the vocabulary.
std::vector<Merge> resolve_merges(const std::vector<std::pair<std::string, std::string>>& pairs,
                                  const Vocabulary& vocabulary, const std::string& where);

/// "a b" as its two parts. Throws DataError when there are not two.
std::pair<std::string, std::string> split_merge(const std::string& line, const std::string& where);

/// A vocabulary spelt in the byte-level alphabet, in bytes; spellings outside of the alphabet are left out.
Vocabulary vocabulary_in_bytes(const Vocabulary& vocabulary);

/// The spellings by id.
std::vector<std::string> spellings_by_id(const Vocabulary& vocabulary);

/// The `model` of a tokenizer.json of type BPE or Unigram, and its vocabulary as spelt. Throws DataError for other
/// types and for options that change the result and are not supported.
struct HfModel {
  std::optional<BpeRules> bpe;
  std::optional<UnigramRules> unigram;
  Vocabulary spelt;
};
HfModel read_hf_model(const LargeJson& json, bool byte_level, const std::string& where);

}  // namespace mla
