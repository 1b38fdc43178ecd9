// The tokens of many documents put end to end, wherever they lie.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

namespace mla {

/// Tokens 0 … tokens() - 1 and where each document begins among them. Immutable and safe to share between threads.
class TokenStream {
 public:
  virtual ~TokenStream() = default;

  virtual std::int64_t tokens() const = 0;
  virtual std::int64_t documents() const = 0;

  /// The first token of document `index`; document_begin(documents()) is tokens().
  virtual std::int64_t document_begin(std::int64_t index) const = 0;

  /// Copies the tokens from `begin` on into `out`; they must exist. Throws DataError for tokens that are damaged.
  virtual void read(std::int64_t begin, std::span<std::int32_t> out) const = 0;

  /// Whether training predicts all tokens; where not, read_scored() tells which of those from `begin` on: 1, else 0.
  virtual bool scores_all() const { return true; }
  virtual void read_scored(std::int64_t begin, std::span<std::uint8_t> out) const;
};

/// The document that holds `token`, by binary search.
std::int64_t document_of(const TokenStream& stream, std::int64_t token);

/// Documents held in memory.
class MemoryTokens final : public TokenStream {
 public:
  explicit MemoryTokens(const std::vector<std::vector<std::int32_t>>& documents);
  /// `scored`: of each token whether training predicts it.
  MemoryTokens(const std::vector<std::vector<std::int32_t>>& documents,
               const std::vector<std::vector<std::uint8_t>>& scored);

  std::int64_t tokens() const override { return static_cast<std::int64_t>(tokens_.size()); }
  std::int64_t documents() const override { return static_cast<std::int64_t>(begins_.size()) - 1; }
  std::int64_t document_begin(std::int64_t index) const override { return begins_.at(static_cast<std::size_t>(index)); }
  void read(std::int64_t begin, std::span<std::int32_t> out) const override;
  bool scores_all() const override { return scored_.empty(); }
  void read_scored(std::int64_t begin, std::span<std::uint8_t> out) const override;

 private:
  std::vector<std::int32_t> tokens_;
  std::vector<std::uint8_t> scored_;  ///< one a token; empty: all are
  std::vector<std::int64_t> begins_{0};
};

/// Several streams one after another.
class JoinedTokens final : public TokenStream {
 public:
  /// `parts` may not be empty.
  explicit JoinedTokens(std::vector<std::shared_ptr<const TokenStream>> parts);

  std::int64_t tokens() const override { return first_token_.back(); }
  std::int64_t documents() const override { return first_document_.back(); }
  std::int64_t document_begin(std::int64_t index) const override;
  void read(std::int64_t begin, std::span<std::int32_t> out) const override;
  bool scores_all() const override;
  void read_scored(std::int64_t begin, std::span<std::uint8_t> out) const override;

 private:
  template <class T, class Read>
  void by_parts(std::int64_t begin, std::span<T> out, const Read& read) const;

  std::vector<std::shared_ptr<const TokenStream>> parts_;
  std::vector<std::int64_t> first_token_{0}, first_document_{0};  ///< of each part, and the end
};

}  // namespace mla
