// The tokenizer that most formats become: added tokens, normalizer, pre-tokenizer, merges or pieces, decoder.
#pragma once

#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <unordered_set>
#include <vector>

#include "core/text/added_tokens.h"
#include "core/text/bpe_model.h"
#include "core/text/normalizer.h"
#include "core/text/pre_tokenizer.h"
#include "core/text/token_decoder.h"
#include "core/text/tokenizer.h"
#include "core/text/unigram_model.h"

namespace mla {

/// What a reader of some file format finds out.
struct BpeTokenizerParts {
  std::vector<AddedToken> added;
  std::unique_ptr<Normalizer> normalizer;       // None: text as it is.
  std::unique_ptr<PreTokenizer> pre_tokenizer;  // None: no cutting.
  std::unique_ptr<BpeModel> model;              // This one or the next.
  std::unique_ptr<UnigramModel> unigram;
  std::vector<std::string> spellings;  // By id, as the decoder takes them; empty for ids that are not used.
  std::unique_ptr<TokenDecoder> decoder;
  std::vector<std::int32_t> before, after;  // What EncodeOptions::add_bos puts around the text.
  std::optional<std::int32_t> bos, eos;
  std::string beside;  // What files beside the tokenizer's own have changed, to be hashed.
};

/// Puts the contents of added tokens among the spellings, by id.
void add_spellings(const std::vector<AddedToken>& added, std::vector<std::string>& spellings);

struct TokenizerConfig;

/// Gives `parts` the tokens of the files beside the tokenizer, its BOS and EOS, and what stands around a text: BOS
/// where the config says so, or does not say and `adds_bos`. `vocabulary` is the tokenizer's own.
void follow_special_tokens(const TokenizerConfig& config, const Vocabulary& vocabulary, bool adds_bos,
                           BpeTokenizerParts& parts);

/// Runs the parts in the order of the tokenizers library. Safe to share: each call borrows a workspace.
class BpeTokenizer : public Tokenizer {
 public:
  explicit BpeTokenizer(BpeTokenizerParts parts);

  std::vector<std::int32_t> encode(std::string_view text, EncodeOptions options) const override;
  std::string decode(std::span<const std::int32_t> ids, bool skip_special) const override;
  std::int64_t vocabulary_size() const override { return static_cast<std::int64_t>(parts_.spellings.size()); }
  std::optional<std::int32_t> bos() const override { return parts_.bos; }
  std::optional<std::int32_t> eos() const override { return parts_.eos; }
  std::string effect_of_config() const override { return parts_.beside; }

 private:
  class Lease;
  void encode_text(std::string_view text, bool parse_special, BpeModel::Workspace& workspace,
                   std::vector<std::int32_t>& ids) const;
  void encode_word(std::string_view word, BpeModel::Workspace& workspace, std::vector<std::int32_t>& ids) const;
  void encode_normalized(Piece piece, BpeModel::Workspace& workspace, std::vector<std::int32_t>& ids) const;

  BpeTokenizerParts parts_;
  AddedTokenFinder raw_, raw_on_request_, normalized_;
  std::unordered_set<std::int32_t> special_;
  mutable std::mutex mutex_;
  mutable std::vector<std::unique_ptr<BpeModel::Workspace>> idle_;  // Guarded by mutex_.
};

}  // namespace mla
