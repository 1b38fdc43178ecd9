#include "core/text/bpe_tokenizer.h"

#include "core/base/error.h"
#include "core/text/utf8.h"

namespace mla {
namespace {

constexpr std::size_t kBytesPerToken = 4;  // A guess, to reserve room for the ids of a text.

template <class Wanted>
AddedTokenFinder finder_of(const std::vector<AddedToken>& tokens, Wanted wanted) {
  std::vector<AddedToken> chosen;
  for (const AddedToken& token : tokens) {
    if (wanted(token)) chosen.push_back(token);
  }
  return AddedTokenFinder(std::move(chosen));
}

}  // namespace

void add_spellings(const std::vector<AddedToken>& added, std::vector<std::string>& spellings) {
  for (const AddedToken& token : added) {
    const auto id = static_cast<std::size_t>(token.id);
    if (id >= spellings.size()) spellings.resize(id + 1);
    spellings[id] = token.content;
  }
}

/// Borrows a workspace, and gives it back with what its cache has learnt.
class BpeTokenizer::Lease {
 public:
  explicit Lease(const BpeTokenizer& owner) : owner_(owner) {
    const std::lock_guard lock(owner_.mutex_);
    if (!owner_.idle_.empty()) {
      workspace_ = std::move(owner_.idle_.back());
      owner_.idle_.pop_back();
    }
    if (!workspace_) workspace_ = std::make_unique<BpeModel::Workspace>();
  }
  ~Lease() {
    const std::lock_guard lock(owner_.mutex_);
    owner_.idle_.push_back(std::move(workspace_));
  }
  Lease(const Lease&) = delete;
  Lease& operator=(const Lease&) = delete;

  BpeModel::Workspace& workspace() { return *workspace_; }

 private:
  const BpeTokenizer& owner_;
  std::unique_ptr<BpeModel::Workspace> workspace_;
};

BpeTokenizer::BpeTokenizer(BpeTokenizerParts parts) : parts_(std::move(parts)) {
  expects((parts_.model || parts_.unigram) && parts_.decoder, "a tokenizer without model or decoder");
  raw_ = finder_of(parts_.added, [](const AddedToken& token) { return !token.normalized && !token.on_request; });
  raw_on_request_ = finder_of(parts_.added, [](const AddedToken& token) { return !token.normalized; });
  std::vector<AddedToken> normalized;
  for (AddedToken token : parts_.added) {
    if (token.special) special_.insert(token.id);
    if (!token.normalized) continue;
    if (parts_.normalizer) token.content = parts_.normalizer->apply(token.content);
    normalized.push_back(std::move(token));
  }
  normalized_ = AddedTokenFinder(std::move(normalized));
}

std::vector<std::int32_t> BpeTokenizer::encode(std::string_view text, EncodeOptions options) const {
  std::string repaired;
  if (valid_utf8_prefix(text) != text.size()) {
    repaired = replace_invalid_utf8(text);
    text = repaired;
  }
  Lease lease(*this);
  std::vector<std::int32_t> ids;
  ids.reserve(text.size() / kBytesPerToken + 16);
  if (options.add_bos) ids = parts_.before;
  encode_text(text, options.parse_special, lease.workspace(), ids);
  if (options.add_bos) ids.insert(ids.end(), parts_.after.begin(), parts_.after.end());
  return ids;
}

void BpeTokenizer::encode_text(std::string_view text, bool parse_special, BpeModel::Workspace& workspace,
                               std::vector<std::int32_t>& ids) const {
  const auto add_token = [&ids](std::int32_t id) { ids.push_back(id); };
  const auto add_text = [&](std::string_view part) {
    const bool first = part.data() == text.data();
    std::string normalized;
    if (parts_.normalizer) part = normalized = parts_.normalizer->apply(std::string(part));
    normalized_.split(
        part,
        [&](std::string_view rest) {
          encode_normalized({rest, first && rest.data() == part.data()}, workspace, ids);
        },
        add_token);
  };
  (parse_special ? raw_on_request_ : raw_).split(text, add_text, add_token);
}

void BpeTokenizer::encode_word(std::string_view word, BpeModel::Workspace& workspace,
                               std::vector<std::int32_t>& ids) const {
  if (parts_.model) return parts_.model->encode(word, workspace, ids);
  if (const auto cached = workspace.cache.find(word)) {
    ids.insert(ids.end(), cached->begin(), cached->end());
    return;
  }
  const std::size_t before = ids.size();
  parts_.unigram->encode(word, ids);
  workspace.cache.insert(word, std::span(ids).subspan(before));
}

void BpeTokenizer::encode_normalized(Piece piece, BpeModel::Workspace& workspace,
                                     std::vector<std::int32_t>& ids) const {
  const auto add_word = [&](Piece word) { encode_word(word.text, workspace, ids); };
  if (parts_.pre_tokenizer) {
    parts_.pre_tokenizer->split(piece, add_word);
  } else {
    add_word(piece);
  }
}

std::string BpeTokenizer::decode(std::span<const std::int32_t> ids, bool skip_special) const {
  std::vector<std::string> tokens;
  tokens.reserve(ids.size());
  for (const std::int32_t id : ids) {
    if (id < 0 || id >= vocabulary_size()) {
      throw DataError(cat("token id ", id, ": the tokenizer has ids 0 to ", vocabulary_size() - 1));
    }
    if (skip_special && special_.contains(id)) continue;
    tokens.push_back(parts_.spellings[static_cast<std::size_t>(id)]);
  }
  std::string text;
  for (const std::string& part : parts_.decoder->apply(std::move(tokens))) text += part;
  return text;
}

}  // namespace mla
