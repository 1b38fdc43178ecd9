// Files that are written: every kind of value and of tensor comes back as it was, and the bytes are those that the
// format's definition gives.
#include "core/gguf/writer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>

#include "core/base/error.h"
#include "core/base/file.h"
#include "tests/support/errors.h"
#include "tests/support/gguf_bytes.h"
#include "tests/support/temporary_folder.h"

namespace mla::gguf {
namespace {

using test::GgufBytes;
using testing::HasSubstr;

TensorBytes these(std::string bytes) {
  return [bytes = std::move(bytes)](const PutBytes& put) {
    put(bytes.data(), bytes.size() / 2);
    put(bytes.data() + bytes.size() / 2, bytes.size() - bytes.size() / 2);
  };
}

const ElementType& type(const char* name) { return *find_element_type(name); }

TEST(GgufWriter, EveryKindOfValueComesBack) {
  const test::TemporaryFolder folder;
  Writer writer;
  writer.number("u8", std::uint8_t{200}).number("i8", std::int8_t{-100}).number("u16", std::uint16_t{60000});
  writer.number("i16", std::int16_t{-30000}).number("u32", 4000000000U).number("i32", -2000000000);
  writer.number("u64", std::numeric_limits<std::uint64_t>::max()).number("i64", std::int64_t{-1} << 40);
  writer.number("f32", 1e-5F).number("f64", 0.1).number("yes", true).text("text", "ä\n").text("empty", "");
  writer.texts("texts", {"a", "", "bc"}).numbers("floats", std::vector<float>{1.5F, -2});
  writer.numbers("ints", std::vector<std::int32_t>{3, -4}).numbers("flags", std::vector<bool>{true, false});
  writer.write(folder / "x.gguf");
  const File file(folder / "x.gguf");
  const Json wanted = {{"u8", 200},
                       {"i8", -100},
                       {"u16", 60000},
                       {"i16", -30000},
                       {"u32", 4000000000U},
                       {"i32", -2000000000},
                       {"u64", std::numeric_limits<std::uint64_t>::max()},
                       {"i64", std::int64_t{-1} << 40},
                       {"f32", 1e-5},
                       {"f64", 0.1},
                       {"yes", true},
                       {"text", "ä\n"},
                       {"empty", ""},
                       {"texts", {"a", "", "bc"}},
                       {"floats", {1.5, -2.0}},
                       {"ints", {3, -4}},
                       {"flags", {true, false}}};
  EXPECT_EQ(LargeJson(file.metadata()), LargeJson(wanted));
  EXPECT_EQ(file.values().at("u8").type, ValueType::kUint8);
  EXPECT_EQ(file.values().at("f64").type, ValueType::kFloat64);
}

TEST(GgufWriter, BytesAreThoseOfTheFormat) {
  const test::TemporaryFolder folder;
  const std::string blocks(68, '\1'), numbers = GgufBytes::bytes_of_all(std::vector<float>{1, 2, 3, 4, 5, 6});
  Writer writer;
  writer.text("general.architecture", "llama").number("n", 2U).texts("words", {"a", "", "bcd"});
  writer.tensor("a.weight", {2, 3}, type("F32"), these(numbers)).tensor("q", {2, 32}, type("Q8_0"), these(blocks));
  writer.write(folder / "x.gguf");
  GgufBytes wanted;
  wanted.text("general.architecture", "llama").number("n", 2U).texts("words", {"a", "", "bcd"});
  wanted.tensor("a.weight", {2, 3}, {1, 2, 3, 4, 5, 6}).tensor("q", {2, 32}, GgufBytes::kQ8_0, blocks);
  std::string bytes = wanted.bytes();
  bytes.resize((bytes.size() + 31) / 32 * 32, '\0');  // the last tensor is padded, too, as gguf-py does it
  EXPECT_EQ(read_file(folder / "x.gguf"), bytes);
  EXPECT_EQ(writer.file_size(), bytes.size());
}

TEST(GgufWriter, ValuesOfAnotherFileAreCopied) {
  const test::TemporaryFolder folder;
  const std::string bytes = GgufBytes().texts("t", {"a", "b"}).number("n", 7U).text("s", "x").flag("f", false).bytes();
  const File file(folder.write("a.gguf", bytes));
  Writer writer;
  for (const auto& [key, value] : file.values()) writer.copy(key, value);
  writer.write(folder / "b.gguf");
  EXPECT_EQ(File(folder / "b.gguf").metadata(), file.metadata());
}

TEST(GgufWriter, BrokenPromisesAreNoFiles) {
  const test::TemporaryFolder folder;
  Writer writer;
  writer.number("k", 1U);
  EXPECT_THROW(writer.number("k", 2U), std::logic_error);
  EXPECT_THROW(writer.tensor("t", {2, 31}, type("Q8_0"), these("")), std::logic_error);
  EXPECT_THROW(writer.tensor(std::string(64, 't'), {1}, type("F32"), these("abcd")), std::logic_error);
  EXPECT_THROW(writer.tensor("t", {}, type("F32"), these("")), std::logic_error);
  writer.tensor("t", {2}, type("F32"), these("abcd"));
  EXPECT_THROW(writer.tensor("t", {2}, type("F32"), these("abcdabcd")), std::logic_error);
  EXPECT_THROW(writer.write(folder / "x.gguf"), std::logic_error);
  EXPECT_TRUE(std::filesystem::is_empty(folder.path())) << "nothing is left of a file that was not finished";
  EXPECT_THAT(test::message_of<DataError>([&] { Writer().write(folder / "no" / "x.gguf"); }),
              HasSubstr("cannot be written"));
}

}  // namespace
}  // namespace mla::gguf
