#include "core/base/hash.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/base/error.h"
#include "tests/support/errors.h"
#include "tests/support/temporary_folder.h"

namespace mla {
namespace {

TEST(Hash, FollowsXxh3) {
  // XXH128 of nothing with seed 0, as published with the library.
  EXPECT_EQ(hash_bytes(""), "99aa06d3014798d86001c324468d497f");
  EXPECT_EQ(hash_bytes("a").size(), 32u);
  EXPECT_NE(hash_bytes("a"), hash_bytes("b"));
}

TEST(Hash, PartsAndFilesHashAsTheWhole) {
  const test::TemporaryFolder folder;
  std::string bytes;
  for (int i = 0; i < 3'000'001; ++i) bytes += static_cast<char>(i * 7 % 251);
  Hasher hasher;
  hasher.update(std::string_view(bytes).substr(0, 1'000));
  hasher.update(std::string_view(bytes).substr(1'000));
  EXPECT_EQ(hasher.digest(), hash_bytes(bytes));
  EXPECT_EQ(hash_file(folder.write("x", bytes)), hash_bytes(bytes));
  EXPECT_EQ(hash_file(folder.write("empty", "")), hash_bytes(""));
}

TEST(Hash, MissingFilesAndFoldersAreDataErrors) {
  const test::TemporaryFolder folder;
  EXPECT_THAT(test::message_of<DataError>([&] { hash_file(folder / "x"); }), testing::EndsWith("x: cannot be read"));
  EXPECT_THAT(test::message_of<DataError>([&] { hash_file(folder.path()); }), testing::HasSubstr("cannot be read"));
}

TEST(Hash, TheOrderOfKeysDoesNotMatterAtAnyDepth) {
  const Json one = parse_json(R"({"a": {"x": 1, "y": [1, 2]}, "b": null})", "");
  const Json two = parse_json(R"({"b": null, "a": {"y": [1, 2], "x": 1}})", "");
  const Json other = parse_json(R"({"b": null, "a": {"y": [2, 1], "x": 1}})", "");
  EXPECT_EQ(hash_json(one), hash_json(two));
  EXPECT_NE(hash_json(one), hash_json(other));
  EXPECT_EQ(hash_json(one), hash_bytes(R"({"a":{"x":1,"y":[1,2]},"b":null})"));
}

TEST(Hash, SeedsDependOnTextAndSeed) {
  EXPECT_NE(hash_to_seed("a", 0), hash_to_seed("a", 1));
  EXPECT_NE(hash_to_seed("a", 0), hash_to_seed("b", 0));
  EXPECT_EQ(hash_to_seed("", 0), 0x2d06800538d394c2u);  // XXH3 of nothing, as published with the library.
}

}  // namespace
}  // namespace mla
