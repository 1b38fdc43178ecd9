#include "core/base/error.h"
#include "core/text/tokenizer.h"
#include "core/text/utf8.h"

namespace mla {
namespace {

/// Looks at every id that another tokenizer gives.
class LimitedTokenizer : public Tokenizer {
 public:
  LimitedTokenizer(std::unique_ptr<Tokenizer> inner, std::int64_t limit, std::string where)
      : inner_(std::move(inner)), limit_(limit), where_(std::move(where)) {}

  std::vector<std::int32_t> encode(std::string_view text, EncodeOptions options) const override {
    std::vector<std::int32_t> ids = inner_->encode(text, options);
    for (const std::int32_t id : ids) {
      if (id < limit_) continue;
      throw DataError(cat(where_, ": the token '", for_message(inner_->decode(std::vector{id}, false)), "' has the id ",
                          id, ", but the model has embeddings for the ids 0 to ", limit_ - 1));
    }
    return ids;
  }

  std::string decode(std::span<const std::int32_t> ids, bool skip_special) const override {
    return inner_->decode(ids, skip_special);
  }
  std::int64_t vocabulary_size() const override { return inner_->vocabulary_size(); }
  std::optional<std::int32_t> bos() const override { return inner_->bos(); }
  std::optional<std::int32_t> eos() const override { return inner_->eos(); }
  std::string effect_of_config() const override { return inner_->effect_of_config(); }

 private:
  std::unique_ptr<Tokenizer> inner_;
  std::int64_t limit_;
  std::string where_;
};

}  // namespace

std::unique_ptr<Tokenizer> limit_ids(std::unique_ptr<Tokenizer> tokenizer, std::int64_t limit, std::string where) {
  const std::string hash = tokenizer->content_hash();
  auto limited = std::make_unique<LimitedTokenizer>(std::move(tokenizer), limit, std::move(where));
  limited->content_hash_ = hash;
  return limited;
}

}  // namespace mla
