// GGUF files: what is in them, and one line for each way in which they can be wrong.
#include "core/gguf/file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/base/error.h"
#include "tests/support/errors.h"
#include "tests/support/gguf_bytes.h"
#include "tests/support/temporary_folder.h"

namespace mla::gguf {
namespace {

using test::GgufBytes;
using testing::AllOf;
using testing::HasSubstr;

GgufBytes small_file() {
  GgufBytes file;
  file.text("general.architecture", "llama").number("llama.block_count", std::uint32_t{2}).number("theta", 1e-5F);
  file.flag("yes", true).texts("words", {"a", "", "bcd"}).numbers("types", std::vector<std::int32_t>{1, -2, 3});
  file.numbers("scores", std::vector<float>(20, 0.5F));
  file.tensor("a.weight", {2, 3}, {1, 2, 3, 4, 5, 6});
  file.tensor("q", {2, 32}, GgufBytes::kQ8_0, std::string(68, '\1'));
  return file;
}

/// The error of reading these bytes, without the file's name.
std::string error_of(const std::string& bytes) {
  const test::TemporaryFolder folder;
  const auto path = folder.write("x.gguf", bytes);
  const std::string message = test::message_of<DataError>([&] { const File file(path); });
  const std::string name = path.string() + ": ";
  EXPECT_TRUE(message == "no error" || message.starts_with(name)) << message;
  return message.starts_with(name) ? message.substr(name.size()) : message;
}

TEST(GgufFile, HoldsWhatWasWritten) {
  const test::TemporaryFolder folder;
  for (const std::uint32_t version : {2U, 3U}) {
    const File file(folder.write("x.gguf", small_file().bytes(version)));
    const Json metadata = file.metadata();
    EXPECT_EQ(metadata["general.architecture"], "llama");
    EXPECT_EQ(metadata["llama.block_count"], 2);
    EXPECT_EQ(metadata["theta"].dump(), "1e-05") << "the shortest decimal of the float32";
    EXPECT_EQ(metadata["yes"], true);
    EXPECT_EQ(metadata["words"], Json({"a", "", "bcd"}));
    EXPECT_EQ(metadata["types"], Json({1, -2, 3}));
    EXPECT_EQ(metadata["scores"], "an array of 20 float32s");
    EXPECT_THAT(file.strings("words"), testing::ElementsAre("a", "", "bcd"));
    EXPECT_THAT(file.integers("types"), testing::ElementsAre(1, -2, 3));
    EXPECT_EQ(file.floats("scores"), std::vector<float>(20, 0.5F));
    ASSERT_EQ(file.tensors().size(), 2u);
    const Tensor &plain = file.tensors()[0], &blocks = file.tensors()[1];
    EXPECT_EQ(plain.name, "a.weight");
    EXPECT_EQ(plain.shape, (std::vector<std::int64_t>{2, 3}));
    EXPECT_EQ(plain.bytes, 24u);
    float values[6];
    dequantize(*plain.type, plain.data, plain.count(), values);
    EXPECT_THAT(values, testing::ElementsAre(1, 2, 3, 4, 5, 6));
    EXPECT_STREQ(blocks.type->name, "Q8_0");
    EXPECT_EQ(blocks.bytes, 68u);
    EXPECT_EQ(std::to_integer<int>(blocks.data[67]), 1);
  }
}

TEST(GgufFile, IsKnownByNameOrBeginning) {
  const test::TemporaryFolder folder;
  EXPECT_TRUE(is_gguf(folder.write("named.gguf", "x")));
  EXPECT_TRUE(is_gguf(folder.write("model", small_file().bytes())));
  EXPECT_FALSE(is_gguf(folder.write("short", "GGU")));
  EXPECT_FALSE(is_gguf(folder.path()));
  EXPECT_FALSE(is_gguf(folder / "absent.gguf"));
}

TEST(GgufFile, AskingForAnotherTypeNamesTheKey) {
  const test::TemporaryFolder folder;
  const File file(folder.write("x.gguf", small_file().bytes()));
  EXPECT_THAT(test::message_of<DataError>([&] { file.strings("types"); }),
              HasSubstr("key types is an array of 3 int32s, expected an array of 3 strings"));
  EXPECT_THAT(test::message_of<DataError>([&] { file.floats("theta"); }), HasSubstr("key theta is a float32"));
  EXPECT_THAT(test::message_of<DataError>([&] { file.floats("none"); }), HasSubstr("key none is missing"));
}

TEST(GgufFile, CutAnywhereIsRefused) {
  const std::string whole = small_file().bytes();
  EXPECT_EQ(error_of(whole), "no error");
  for (std::size_t length = 1; length < whole.size(); ++length) {
    EXPECT_NE(error_of(whole.substr(0, length)), "no error") << length << " of " << whole.size() << " bytes";
  }
  EXPECT_THAT(error_of(whole.substr(0, 30)), HasSubstr("truncated: key 0 needs"));
  EXPECT_THAT(error_of(whole.substr(0, whole.size() - 1)),
              AllOf(HasSubstr("tensor q: needs 68 bytes from byte"), HasSubstr("truncated?")));
  EXPECT_EQ(error_of(whole + std::string(20, '\0')), "no error") << "padding";
  EXPECT_THAT(error_of(whole + std::string(40, '\0')), HasSubstr("bytes follow the last tensor"));
}

TEST(GgufFile, Beginnings) {
  EXPECT_THAT(error_of("PK\3\4"), HasSubstr("begins with 'PK"));
  EXPECT_THAT(error_of(small_file().bytes(1)), HasSubstr("GGUF version 1: this program reads 2 and 3"));
  EXPECT_THAT(error_of(small_file().bytes(0x03000000)), HasSubstr("big-endian"));
  const auto counts = [](std::uint64_t tensors, std::uint64_t keys) {
    return "GGUF" + GgufBytes::bytes_of(std::uint32_t{3}) + GgufBytes::bytes_of(tensors) + GgufBytes::bytes_of(keys);
  };
  EXPECT_THAT(error_of(counts(1, std::uint64_t{1} << 60)), HasSubstr("says it has 1152921504606846976 keys"));
  EXPECT_THAT(error_of(counts(std::uint64_t{1} << 60, 0)), HasSubstr("says it has 1152921504606846976 tensors"));
  EXPECT_EQ(error_of(counts(0, 0)), "no error");
}

TEST(GgufFile, Values) {
  const auto huge = GgufBytes::bytes_of(std::uint64_t{1} << 61);
  const auto with = [](std::uint32_t type, const std::string& value) {
    return error_of(GgufBytes().add("k", type, value).bytes());
  };
  EXPECT_THAT(with(13, ""), HasSubstr("key k: value type 13: known: 0 to 12"));
  EXPECT_THAT(with(GgufBytes::kString, huge), HasSubstr("truncated: "));
  EXPECT_THAT(with(GgufBytes::kBool, "\2"), HasSubstr("key k: a bool is 2: expected 0 or 1"));
  const std::string strings = GgufBytes::bytes_of(GgufBytes::kString), arrays = GgufBytes::bytes_of(GgufBytes::kArray);
  EXPECT_THAT(with(GgufBytes::kArray, strings + huge),
              HasSubstr("key k: an array of 2305843009213693952 strings needs"));
  EXPECT_THAT(with(GgufBytes::kArray, arrays + huge), HasSubstr("key k: arrays of arrays are not read"));
  EXPECT_THAT(error_of(GgufBytes().flag("k", true).flag("k", true).bytes()), HasSubstr("key k: stands there twice"));
  EXPECT_THAT(error_of(GgufBytes().flag("", true).bytes()), HasSubstr("key 0 is 0 bytes long"));
  EXPECT_THAT(error_of(GgufBytes().flag("k\xFF", true).bytes()), HasSubstr("printable characters alone"));
  EXPECT_THAT(error_of(GgufBytes().number("split.count", std::uint32_t{3}).bytes()),
              AllOf(HasSubstr("split.count = 3"), HasSubstr("llama-gguf-split --merge")));
  for (const std::uint32_t alignment : {0U, 4U, 24U, 1U << 21})
    EXPECT_THAT(error_of(GgufBytes().number("general.alignment", alignment).bytes()), HasSubstr("a power of two"));
  EXPECT_THAT(error_of(GgufBytes().text("general.alignment", "x").bytes()), HasSubstr("expected a whole number"));
}

TEST(GgufFile, Tensors) {
  const std::string data(128, '\0');
  const auto with = [&](const std::vector<std::int64_t>& sizes, std::uint32_t type, std::uint64_t offset = 0) {
    return error_of(GgufBytes().entry("t", sizes, type, offset, data).bytes());
  };
  EXPECT_EQ(with({8, 4}, GgufBytes::kF32), "no error");
  EXPECT_THAT(with({}, GgufBytes::kF32), HasSubstr("tensor t: 0 dimensions; 1 to 4"));
  EXPECT_THAT(with({1, 1, 1, 1, 32}, GgufBytes::kF32), HasSubstr("tensor t: 5 dimensions; 1 to 4"));
  EXPECT_THAT(with({8, 0}, GgufBytes::kF32), HasSubstr("tensor t: a size of 0"));
  EXPECT_THAT(with({-1, 8}, GgufBytes::kF32), HasSubstr("a size of 18446744073709551615"));
  EXPECT_THAT(with({std::int64_t{1} << 40, std::int64_t{1} << 40}, GgufBytes::kF32), HasSubstr("multiply to more"));
  EXPECT_THAT(with({32}, 23), AllOf(HasSubstr("tensor t: IQ4_XS is not read; known: F32"), HasSubstr("Q6_K")));
  EXPECT_THAT(with({32}, 77), HasSubstr("tensor t: type 77 is not read"));
  EXPECT_THAT(with({16, 2}, GgufBytes::kQ4_1),
              HasSubstr("rows of 16 values are no whole blocks of Q4_1, which hold 32"));
  EXPECT_THAT(with({8, 4}, GgufBytes::kF32, 32), HasSubstr("said to begin at byte 32"));
  EXPECT_THAT(with({8, 5}, GgufBytes::kF32), HasSubstr("tensor t: needs 160 bytes"));
  EXPECT_THAT(error_of(GgufBytes().tensor("t", {1}, {1}).tensor("t", {1}, {1}).bytes()),
              HasSubstr("tensor t: stands there twice"));
  EXPECT_THAT(error_of(GgufBytes().tensor("", {1}, {1}).bytes()), HasSubstr("the name of tensor 0 is 0 bytes long"));
  GgufBytes overlapping;
  overlapping.entry("a", {8}, GgufBytes::kF32, 0, std::string(32, '\0'));
  overlapping.entry("b", {8}, GgufBytes::kF32, 0, std::string(32, '\0'));
  EXPECT_THAT(error_of(overlapping.bytes()), HasSubstr("tensor b: its data are said to begin at byte 0"));
}

}  // namespace
}  // namespace mla::gguf
