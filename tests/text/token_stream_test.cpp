#include "core/text/token_stream.h"

#include <gtest/gtest.h>

namespace mla {
namespace {

using Documents = std::vector<std::vector<std::int32_t>>;

std::vector<std::int32_t> all_tokens(const TokenStream& stream) {
  std::vector<std::int32_t> tokens(static_cast<std::size_t>(stream.tokens()));
  stream.read(0, tokens);
  return tokens;
}

std::vector<std::int64_t> begins(const TokenStream& stream) {
  std::vector<std::int64_t> found;
  for (std::int64_t i = 0; i <= stream.documents(); ++i) found.push_back(stream.document_begin(i));
  return found;
}

TEST(TokenStream, JoinedPartsAreOneStream) {
  const Documents documents{{1, 2, 3}, {4}, {5, 6}, {7}, {8, 9, 10, 11}};
  const MemoryTokens whole(documents);
  const auto part = [&](int begin, int end) {
    return std::make_shared<MemoryTokens>(Documents(documents.begin() + begin, documents.begin() + end));
  };
  const JoinedTokens joined({part(0, 2), part(2, 2), part(2, 3), part(3, 5)});  // one of them empty
  EXPECT_EQ(joined.documents(), 5);
  EXPECT_EQ(all_tokens(joined), all_tokens(whole));
  EXPECT_EQ(begins(joined), begins(whole));
  EXPECT_EQ(begins(joined), std::vector<std::int64_t>({0, 3, 4, 6, 7, 11}));
  std::vector<std::int32_t> middle(5);
  joined.read(2, middle);
  EXPECT_EQ(middle, std::vector<std::int32_t>({3, 4, 5, 6, 7}));
}

TEST(TokenStream, FindsTheDocumentOfAToken) {
  const MemoryTokens stream(Documents{{}, {1, 2}, {}, {}, {3}, {4, 5, 6}});
  std::vector<std::int64_t> found;
  for (std::int64_t token = 0; token < stream.tokens(); ++token) found.push_back(document_of(stream, token));
  EXPECT_EQ(found, std::vector<std::int64_t>({1, 1, 4, 5, 5, 5}));
  EXPECT_THROW(document_of(stream, 6), std::logic_error);
}

TEST(TokenStream, TellsWhichTokensAreToBePredicted) {
  const auto all = std::make_shared<MemoryTokens>(Documents{{1, 2}});
  const auto some =
      std::make_shared<MemoryTokens>(Documents{{3, 4, 5}}, std::vector<std::vector<std::uint8_t>>{{0, 1, 1}});
  EXPECT_TRUE(all->scores_all());
  EXPECT_FALSE(some->scores_all());
  const JoinedTokens joined({all, some});
  EXPECT_FALSE(joined.scores_all());
  std::vector<std::uint8_t> scored(4);
  joined.read_scored(1, scored);
  EXPECT_EQ(scored, (std::vector<std::uint8_t>{1, 0, 1, 1}));
}

}  // namespace
}  // namespace mla
