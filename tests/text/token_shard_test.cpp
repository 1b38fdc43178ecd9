// Packing text into token shards, and reading them.
#include "core/text/token_shard.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/base/error.h"
#include "core/text/corpus.h"
#include "core/text/pack.h"
#include "core/text/shard_writer.h"
#include "tests/support/errors.h"
#include "tests/support/small_files.h"
#include "tests/support/temporary_folder.h"
#include "tests/text/tiny_tokenizers.h"

namespace mla {
namespace {

using testing::HasSubstr;

const std::string kHash(32, 'a');

class TokenShardTest : public testing::Test {
 protected:
  void SetUp() override {
    folder_.write("tokenizer.json", test::tiny_sentencepiece_like().dump());
    tokenizer_ = load_tokenizer(folder_.path());
  }

  /// Documents of very different sizes in a text and a .jsonl file.
  std::vector<std::filesystem::path> write_texts() const {
    std::string text, lines;
    for (int i = 0; i < 300; ++i) {
      std::string document;
      for (int word = 0; word < i * i % 977; ++word) document += word % 3 == 0 ? "ab " : "a cé ";
      text += document + "<|end|>";
      lines += R"({"body": "b)" + document + "\"}\n";
    }
    return {folder_.write("a.txt", text + std::string(100'000, 'a')), folder_.write("b.jsonl", lines)};
  }

  static PackOptions options(int threads) {
    PackOptions options;
    options.documents = {.separator = "<|end|>", .jsonl_field = "body"};
    options.threads = threads;
    return options;
  }

  std::filesystem::path write_shard(std::int64_t vocabulary, std::vector<std::vector<std::int32_t>> documents) const {
    const auto path = folder_ / "small.mlat";
    ShardWriter writer(path, vocabulary, kHash);
    for (const auto& document : documents) writer.add(document, 10);
    writer.finish();
    return path;
  }

  test::TemporaryFolder folder_;
  std::unique_ptr<Tokenizer> tokenizer_;
};

TEST_F(TokenShardTest, HoldsWhatTheTokenizerMakesOfTheDocuments) {
  const auto files = write_texts();
  for (const bool eos : {false, true}) {
    PackOptions wanted = options(3);
    wanted.eos = eos;
    std::int64_t bytes = 0, tokens_told = 0;
    const ShardHeader header =
        pack(files, *tokenizer_, wanted, folder_ / "all.mlat", [&](std::int64_t count, std::int64_t tokens) {
          bytes += count;
          tokens_told = tokens;
        });
    const TokenShard shard(folder_ / "all.mlat");
    std::int64_t document = 0, text_bytes = 0;
    for (const auto& file : files) {
      for (const std::string& text : read_documents(file, wanted.documents)) {
        std::vector<std::int32_t> expected = tokenizer_->encode(text, {.add_bos = true});
        if (eos) expected.push_back(2);
        const std::int64_t begin = shard.document_begin(document), end = shard.document_begin(document + 1);
        ASSERT_EQ(end - begin, std::ssize(expected)) << document;
        std::vector<std::int32_t> found(expected.size());
        shard.read(begin, found);
        ASSERT_EQ(found, expected) << document;
        ++document;
        text_bytes += std::ssize(text);
      }
    }
    EXPECT_EQ(shard.documents(), document);
    EXPECT_EQ(header.tokens, shard.tokens());
    EXPECT_EQ(shard.header().text_bytes, text_bytes);
    EXPECT_EQ(shard.header().tokenizer_hash, tokenizer_->content_hash());
    EXPECT_EQ(tokens_told, shard.tokens());
    EXPECT_EQ(bytes,
              static_cast<std::int64_t>(std::filesystem::file_size(files[0]) + std::filesystem::file_size(files[1])));
  }
}

TEST_F(TokenShardTest, TheBytesDoNotDependOnTheThreads) {
  const auto files = write_texts();
  const ShardHeader first = pack(files, *tokenizer_, options(1), folder_ / "one.mlat");
  const ShardHeader second = pack(files, *tokenizer_, options(4), folder_ / "four.mlat");
  EXPECT_EQ(read_file(folder_ / "one.mlat"), read_file(folder_ / "four.mlat"));
  PackOptions other = options(4);
  other.bos = false;
  EXPECT_EQ(first.content_hash, second.content_hash);
  EXPECT_NE(pack(files, *tokenizer_, other, folder_ / "other.mlat").content_hash, first.content_hash);
}

TEST_F(TokenShardTest, TokensAreAsWideAsTheVocabularyNeeds) {
  for (const auto& [vocabulary, width] : {std::pair{65536, 2}, {65537, 4}}) {
    const TokenShard shard(write_shard(vocabulary, {{0, vocabulary - 1, 7}, {65535}}));
    EXPECT_EQ(shard.header().bytes_per_token, width);
    std::vector<std::int32_t> found(4);
    shard.read(0, found);
    EXPECT_EQ(found, std::vector<std::int32_t>({0, vocabulary - 1, 7, 65535}));
    EXPECT_EQ(shard.document_begin(1), 3);
  }
}

TEST_F(TokenShardTest, OneLineSaysWhatIsWrongWithAFile) {
  const std::string good = read_file(write_shard(300, {{1, 2, 3}, {4, 5}}));
  const auto message = [&](std::string bytes) {
    const auto file = folder_.write("bad.mlat", bytes);
    return test::message_of<DataError>([&] {
      const TokenShard shard(file);
      std::vector<std::int32_t> tokens(5);
      shard.read(0, tokens);
      shard.document_begin(1);
    });
  };
  const auto changed = [&](std::size_t at, char value) {
    std::string bytes = good;
    bytes[at] = value;
    return bytes;
  };
  constexpr std::size_t kVersion = 8, kWidth = 12, kTokens = 16, kFirstToken = 128, kSecondBegin = 128 + 16 + 8;
  EXPECT_EQ(message(good), "no error");
  EXPECT_THAT(message(""), HasSubstr("bad.mlat: the file is empty"));
  EXPECT_THAT(message("once upon a time"), HasSubstr("bad.mlat: not a token shard"));
  EXPECT_THAT(message(changed(0, 'X')), HasSubstr("not a token shard (it does not begin with MLATOKEN)"));
  EXPECT_THAT(message(changed(kVersion, 9)), HasSubstr("a token shard of version 9, this program reads version 1"));
  EXPECT_THAT(message(changed(kWidth, 3)), HasSubstr("damaged: its header states 5 tokens of 3 bytes"));
  EXPECT_THAT(message(changed(kTokens + 7, 127)), HasSubstr("damaged: its header states 91"));
  EXPECT_THAT(message(good.substr(0, good.size() - 1)), HasSubstr("168 bytes in all; the file has 167"));
  EXPECT_THAT(message(good + "x"), HasSubstr("168 bytes in all; the file has 169"));
  EXPECT_THAT(message(good.substr(0, 100)), HasSubstr("not a token shard"));
  EXPECT_THAT(message(changed(kFirstToken + 1, 9)), HasSubstr("damaged: token 0 is 2305, the vocabulary has 300 ids"));
  EXPECT_THAT(message(changed(kSecondBegin, 99)), HasSubstr("damaged: document 1 begins at token 99 of 5"));
  const TokenShard back(folder_.write("back.mlat", [&] {
    std::string bytes = read_file(write_shard(300, {{1, 2, 3}, {4}, {5}}));
    bytes[kSecondBegin] = 4;  // 0, 4, 4, 5 instead of 0, 3, 4, 5
    bytes[kSecondBegin + 8] = 1;
    return bytes;
  }()));
  EXPECT_THAT(test::message_of<DataError>([&] { back.document_begin(2); }),
              HasSubstr("document 2 begins at token 1, before the one in front of it (4)"));
}

TEST_F(TokenShardTest, IdsThatAModelDoesNotHaveAreFound) {
  const TokenShard shard(write_shard(300, {{1, 2, 3}, {4, 299}}));
  EXPECT_NO_THROW(shard.check_ids(300));
  EXPECT_THAT(test::message_of<DataError>([&] { shard.check_ids(299); }),
              HasSubstr("small.mlat: document 1, token 1: id 299 is outside the model's vocabulary, 0..298"));
}

TEST_F(TokenShardTest, AnotherTokenizersShardIsRefused) {
  const TokenShard shard(write_shard(300, {{1, 2, 3}}));
  EXPECT_NO_THROW(shard.check_tokenizer(kHash));
  EXPECT_THAT(test::message_of<DataError>([&] { shard.check_tokenizer(std::string(32, 'b')); }),
              HasSubstr("small.mlat: packed with another tokenizer"));
}

TEST_F(TokenShardTest, AFailureLeavesNothingBehind) {
  const auto files_there = [&] {
    return std::distance(std::filesystem::directory_iterator(folder_.path()), std::filesystem::directory_iterator());
  };
  const auto texts = write_texts();
  const auto before = files_there();
  const auto into = [&](const std::vector<std::filesystem::path>& files) {
    return test::message_of<DataError>([&] { pack(files, *tokenizer_, options(2), folder_ / "x.mlat"); });
  };
  EXPECT_THAT(into({texts[0], folder_ / "missing.txt"}), HasSubstr("missing.txt"));
  EXPECT_EQ(files_there(), before);
  {
    const test::SmallFilesOnly full_disk(20'000);
    EXPECT_THAT(into(texts), HasSubstr("x.mlat: cannot be written"));
  }
  EXPECT_EQ(files_there(), before);
  EXPECT_THAT(into({folder_.write("blank.txt", "  <|end|>\n")}), HasSubstr("blank.txt: the corpus is empty"));
  EXPECT_FALSE(std::filesystem::exists(folder_ / "x.mlat"));
}

TEST(TokenizerHash, NamesWhatDecidesTheIds) {
  const test::TemporaryFolder folder;
  const std::string tokenizer = test::tiny_sentencepiece_like().dump();
  const auto hash = [&](const std::string& file) { return load_tokenizer(folder.path() / file)->content_hash(); };
  folder.write("a/tokenizer.json", tokenizer);
  folder.write("b/other_name.json", tokenizer);
  folder.write("c/tokenizer.json", tokenizer);
  folder.write("c/tokenizer_config.json", R"({"add_bos_token": false, "bos_token": "<s>"})");
  folder.write("d/tokenizer.json", test::tiny_byte_level().dump());
  EXPECT_EQ(hash("a").size(), 32u);
  EXPECT_EQ(hash("a"), hash("a/tokenizer.json"));
  EXPECT_EQ(hash("a"), hash("b/other_name.json"));
  EXPECT_NE(hash("a"), hash("c"));  // without BOS
  EXPECT_NE(hash("a"), hash("d"));
}

}  // namespace
}  // namespace mla
