// What holds for every text: round trips, no crash on any bytes, time in proportion to length, threads.
#include <gtest/gtest.h>

#include <ctime>
#include <limits>
#include <random>

#include "core/text/tokenizer.h"
#include "core/text/utf8.h"
#include "tests/support/shared_data.h"
#include "tests/support/temporary_folder.h"
#include "tests/text/tiny_tokenizers.h"

namespace mla {
namespace {

constexpr int kTexts = 300;
// A text four times as long may take at most this many times as long: n log n takes some 4.5, n^2 takes 16.
constexpr double kQuadruplingRatio = 8.0;

std::string random_text(std::mt19937& random) {
  constexpr std::pair<char32_t, char32_t> kRanges[] = {{0, 0x7F},        {0x80, 0x2FF},      {0x300, 0x36F},
                                                       {0x370, 0x1FFF},  {0x2000, 0x206F},   {0x3000, 0xD7FF},
                                                       {0xE000, 0xFFFF}, {0x10000, 0x10FFFF}};
  std::string text;
  const int length = std::uniform_int_distribution(0, 40)(random);
  for (int i = 0; i < length; ++i) {
    const auto& [first, last] = kRanges[std::uniform_int_distribution(0, 7)(random)];
    text += to_utf8(std::uniform_int_distribution<char32_t>(first, last)(random));
    if (i % 5 == 0) text += i % 2 == 0 ? "  " : " 12345";
  }
  return text;
}

// Not SmolLM: its vocabulary lacks the bytes that only rare planes of Unicode need.
class LosslessTokenizers : public testing::TestWithParam<const char*> {};

TEST_P(LosslessTokenizers, DecodeWhatTheyEncoded) {
  MLA_NEEDS_SHARED(std::string("data/tokenizers/") + GetParam());
  const auto tokenizer = load_tokenizer(test::shared_folder() / "data/tokenizers" / GetParam());
  std::mt19937 random(7);
  for (int i = 0; i < kTexts; ++i) {
    const std::string text = random_text(random);
    ASSERT_EQ(tokenizer->decode(tokenizer->encode(text), false), text) << "text " << i;
  }
}

INSTANTIATE_TEST_SUITE_P(All, LosslessTokenizers,
                         testing::Values("gpt2", "gpt2/r50k_base.tiktoken", "llama3", "llama2/tokenizer.bin"));

TEST(AnyBytes, BecomeReplacementCharacters) {
  MLA_NEEDS_SHARED("data/tokenizers");
  const auto data = test::shared_folder() / "data/tokenizers";
  std::mt19937 random(11);
  for (const char* path : {"gpt2", "llama2/tokenizer.model", "llama2/tokenizer.bin", "llama2/tokenizer.json"}) {
    const auto tokenizer = load_tokenizer(data / path);
    for (int i = 0; i < kTexts; ++i) {
      std::string bytes(std::uniform_int_distribution<std::size_t>(0, 30)(random), '\0');
      for (char& byte : bytes) byte = static_cast<char>(std::uniform_int_distribution(0, 255)(random));
      EXPECT_EQ(tokenizer->encode(bytes), tokenizer->encode(replace_invalid_utf8(bytes)));
    }
  }
}

/// Texts that a merge loop of quadratic time does not finish: no place to cut them.
constexpr int kLongWords = 3;
std::string long_word(int kind, std::size_t size, unsigned seed) {
  if (kind < 2) return std::string(size, kind == 0 ? 'a' : ' ');
  std::mt19937 random(seed);
  std::string letters(size, 'a');
  for (char& letter : letters) letter = static_cast<char>(std::uniform_int_distribution<int>('a', 'z')(random));
  return letters;
}

double seconds_to_encode(const Tokenizer& tokenizer, int kind, std::size_t size) {
  double best = std::numeric_limits<double>::infinity();
  for (unsigned repeat = 0; repeat < 3; ++repeat) {
    const std::string text = long_word(kind, size, repeat + static_cast<unsigned>(size));  // New to the word cache.
    const std::clock_t begin = std::clock();  // Processor time: other processes do not count.
    EXPECT_FALSE(tokenizer.encode(text).empty());
    best = std::min(best, static_cast<double>(std::clock() - begin) / CLOCKS_PER_SEC);
  }
  return best;
}

TEST(LongWords, TakeTimeInProportionToTheirLength) {
  constexpr std::size_t kSize = 1 << 16;
  test::TemporaryFolder folder;
  folder.write("tokenizer.json", test::tiny_byte_level().dump());
  std::vector<std::filesystem::path> paths{folder.path()};
  const auto data = test::shared_folder() / "data/tokenizers";
  for (const char* name : {"smollm", "llama2/tokenizer.json", "llama2/tokenizer.model"}) {
    if (std::filesystem::exists(data / name)) paths.push_back(data / name);
  }
  for (const auto& path : paths) {
    const auto tokenizer = load_tokenizer(path);
    for (int kind = 0; kind < kLongWords; ++kind) {
      const double once = seconds_to_encode(*tokenizer, kind, kSize);
      const double four = seconds_to_encode(*tokenizer, kind, 4 * kSize);
      EXPECT_LE(four / once, kQuadruplingRatio) << path << ", kind " << kind;
    }
  }
}

TEST(Batches, GiveTheSameIdsOnAnyNumberOfThreads) {
  test::TemporaryFolder folder;
  folder.write("tokenizer.json", test::tiny_byte_level().dump());
  const auto tokenizer = load_tokenizer(folder.path());
  std::mt19937 random(5);
  std::vector<std::string> texts;
  for (int i = 0; i < kTexts; ++i) texts.push_back(random_text(random) + " hello");
  const auto one = encode_batch(*tokenizer, texts, {}, 1);
  EXPECT_EQ(encode_batch(*tokenizer, texts, {}, 4), one);
  ASSERT_EQ(one.size(), texts.size());
  for (std::size_t i = 0; i < texts.size(); ++i) EXPECT_EQ(one[i], tokenizer->encode(texts[i]));
}

}  // namespace
}  // namespace mla
