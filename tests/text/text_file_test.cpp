// Which files are text, and what of packed ones is read.
#include "core/text/text_file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/base/error.h"
#include "core/text/document_reader.h"
#include "core/text/file_kind.h"
#include "core/text/json_lines.h"
#include "core/text/piece_reader.h"
#include "tests/support/errors.h"
#include "tests/support/packed_bytes.h"
#include "tests/support/temporary_folder.h"

namespace mla {
namespace {

using testing::AllOf;
using testing::HasSubstr;

class TextFiles : public testing::Test {
 protected:
  std::string read(const std::string& name, const std::string& bytes) const {
    return read_text_file(folder_.write(name, bytes));
  }
  std::string error_of(const std::string& name, const std::string& bytes) const {
    return test::message_of<DataError>([&] { read(name, bytes); });
  }
  test::TemporaryFolder folder_;
};

/// Long enough for several blocks of every reader, and not all alike.
std::string long_text() {
  std::string text;
  for (int i = 0; text.size() < 3'000'000; ++i) text += "line " + std::to_string(i * 7919 % 100003) + " été\n";
  return text;
}

TEST_F(TextFiles, PackedOnesAreUnpackedWhateverTheirName) {
  const std::string text = long_text();
  for (const auto& [extension, packed] :
       {std::pair{".gz", test::gzip(text)}, {".zst", test::zstd(text)}, {".xz", test::xz(text)}}) {
    EXPECT_TRUE(read(std::string("a.txt") + extension, packed) == text) << extension;
    EXPECT_TRUE(read("a.txt", packed) == text) << extension;
  }
  EXPECT_EQ(read("a.txt.gz", test::gzip("")), "");
}

TEST_F(TextFiles, SeveralMembersFollowEachOther) {
  const std::string all = "first\nsecond\n";
  EXPECT_EQ(read("a.gz", test::gzip("first\n") + test::gzip("") + test::gzip("second\n")), all);
  EXPECT_EQ(read("a.gz", test::gzip(all) + std::string(700, '\0')), all);  // as tapes fill up their blocks
  EXPECT_EQ(read("a.zst", test::zstd("first\n") + test::zstd("second\n")), all);
  EXPECT_EQ(read("a.xz", test::xz("first\n") + test::xz("second\n")), all);
}

TEST_F(TextFiles, DamagedPackingIsAnError) {
  const std::string text = long_text();
  const auto changed = [](std::string bytes, std::size_t from_end) {
    bytes[bytes.size() - from_end] = static_cast<char>(bytes[bytes.size() - from_end] ^ 1);
    return bytes;
  };
  for (const auto& [name, packed] : {std::pair{std::string("a.gz"), test::gzip(text)},
                                     {std::string("a.zst"), test::zstd(text)},
                                     {std::string("a.xz"), test::xz(text)}}) {
    for (const std::size_t left : {packed.size() - 1, packed.size() / 2, std::size_t{30}}) {
      EXPECT_THAT(error_of(name, packed.substr(0, left)), HasSubstr("cut short")) << name << left;
    }
    EXPECT_THAT(error_of(name, changed(packed, packed.size() / 2)), HasSubstr(name)) << name;
    EXPECT_THAT(error_of(name, packed + "and more"), HasSubstr(name)) << name;
  }
  EXPECT_THAT(error_of("a.gz", changed(test::gzip(text), 6)), HasSubstr("incorrect data check"));
}

TEST_F(TextFiles, NamesThatPromiseAPackingAreHeldToIt) {
  EXPECT_THAT(error_of("a.txt.gz", "plain text"), HasSubstr("named as a gzip file, but does not begin as one"));
  EXPECT_THAT(error_of("a.zst", "plain text"), HasSubstr("named as a zstd file"));
  EXPECT_THAT(error_of("a.bz2", "plain text"), HasSubstr("named as a bzip2 file"));
  EXPECT_THAT(error_of("a.gz", ""), HasSubstr("named as a gzip file"));
}

TEST_F(TextFiles, OtherKindsAreRefusedByTheirFirstBytes) {
  const std::string zeros(600, '\0');
  std::string tar = "folder/file.txt" + zeros;
  tar.replace(257, 5, "ustar");
  const std::vector<std::pair<std::string, std::string>> kinds = {
      {"PAR1" + zeros, "a Parquet file, not UTF-8 text; convert it to JSON lines"},
      {"ARROW1" + zeros, "an Arrow (Feather) file"},
      {"\xFF\xFF\xFF\xFF" + zeros, "an Arrow stream"},
      {"SQLite format 3" + zeros, "an SQLite database"},
      {"\x89HDF\r\n\x1A\n" + zeros, "an HDF5 file"},
      {std::string("\x10\0\0\0\0\0\0\0{\"a\":{}}        ", 24), "a safetensors file"},
      {"\x93NUMPY" + zeros, "a NumPy array"},
      {"\x80\x04\x95" + zeros, "a Python pickle"},
      {"PK\x03\x04" + zeros, "a zip archive"},
      {"BZh91AY&SY" + zeros, "packed by bzip2, not UTF-8 text; unpack it, or pack it with gzip, zstd or xz"},
      {"7z\xBC\xAF\x27\x1C" + zeros, "a 7-Zip archive"},
      {"\x04\x22\x4D\x18" + zeros, "packed by lz4"},
      {tar, "a tar archive"},
      {"%PDF-1.5\n", "a PDF document, not UTF-8 text; extract its text first, for example with pdftotext"},
      {"\x89PNG\r\n\x1A\n" + zeros, "a PNG picture"},
      {"\xFF\xD8\xFF\xE0" + zeros, "a JPEG picture"},
      {"GIF89a" + zeros, "a GIF picture"},
      {"MLATOKEN" + zeros, "a token shard, not UTF-8 text; give it the extension .mlat"},
      {"GGUF" + zeros, "a GGUF model"}};
  for (const auto& [bytes, what] : kinds) {
    EXPECT_THAT(error_of("a.txt", bytes), HasSubstr(what));
    EXPECT_THAT(error_of("a.txt", test::gzip(bytes)),
                AllOf(HasSubstr("packed, and in it"), HasSubstr(what.substr(0, 8))));
  }
  EXPECT_THAT(error_of("a.gz", test::gzip(test::gzip("text"))), HasSubstr("packed twice"));
  EXPECT_EQ(read("a.txt", "ORCHARDS and GGUF, said GIF89a"), "ORCHARDS and GGUF, said GIF89a");
}

TEST_F(TextFiles, WideEncodingsAreNamed) {
  const auto widened = [](const std::string& text, std::size_t before, std::size_t after) {
    std::string wide;
    for (const char letter : text) wide += std::string(before, '\0') + letter + std::string(after, '\0');
    return wide;
  };
  const std::string text = "Once upon a time there was a house.\n";
  EXPECT_THAT(error_of("a.txt", "\xFF\xFE" + widened(text, 0, 1)),
              HasSubstr("text in UTF-16LE, not UTF-8 text; convert it"));
  EXPECT_THAT(error_of("a.txt", "\xFE\xFF" + widened(text, 1, 0)), HasSubstr("UTF-16BE"));
  EXPECT_THAT(error_of("a.txt", widened(text, 0, 1)), HasSubstr("iconv -f UTF-16LE -t UTF-8"));
  EXPECT_THAT(error_of("a.txt", widened(text, 1, 0)), HasSubstr("UTF-16BE"));
  EXPECT_THAT(error_of("a.txt", std::string("\xFF\xFE\0\0", 4) + widened(text, 0, 3)), HasSubstr("UTF-32LE"));
  EXPECT_THAT(error_of("a.txt", widened(text, 0, 3)), HasSubstr("UTF-32LE"));
  EXPECT_THAT(error_of("a.txt", widened(text, 3, 0)), HasSubstr("UTF-32BE"));
}

TEST_F(TextFiles, AByteOrderMarkIsLeftOut) {
  EXPECT_EQ(read("a.txt",
                 "\xEF\xBB\xBF"
                 "text"),
            "text");
}

TEST_F(TextFiles, TextThatIsMostlyNoUtf8IsRefused) {
  const std::string french = "L'\xE9t\xE9 a \xE9t\xE9 beau \xE0 No\xEBl.\n";
  EXPECT_THAT(error_of("a.txt", french),
              AllOf(HasSubstr("not UTF-8 text: 6 of "), HasSubstr("the first (0xE9) at byte 2")));
  const std::string english(100'000, 'a');
  EXPECT_THAT(error_of("a.txt", english + french + std::string(5000, '\xE9')), HasSubstr("at byte 100002"));
  EXPECT_THAT(error_of("a.txt", std::string("ab\0cd\0ef gh", 11)), HasSubstr("zero"));
}

TEST_F(TextFiles, AFewOddBytesAreToldAndRead) {
  const std::string text = std::string(1000, 'a') + "\xE9 " + std::string(1000, 'b');
  testing::internal::CaptureStderr();
  EXPECT_EQ(read("a.txt", text), text);  // documents have U+FFFD there
  const std::string told = testing::internal::GetCapturedStderr();
  EXPECT_THAT(told, AllOf(HasSubstr("1 byte is not UTF-8"), HasSubstr("(0xE9) is byte 1000")));
  testing::internal::CaptureStderr();
  EXPECT_EQ(read("a.txt", "caf\xC3"), "caf\xC3");  // cut within its last letter
  EXPECT_THAT(testing::internal::GetCapturedStderr(), HasSubstr("a character cut short"));
  testing::internal::CaptureStderr();
  const std::string across = std::string(kFileHead + (1 << 20) - 1, 'a') + "é" + std::string(5000, 'b');
  EXPECT_EQ(read("a.txt", across), across);  // blocks end within letters
  EXPECT_EQ(testing::internal::GetCapturedStderr(), "");
}

TEST_F(TextFiles, PiecesAndObjectsComeOutOfPackedFiles) {
  PieceReader pieces(folder_.write("a.txt.gz", test::gzip("one|two")), "|");
  std::string piece;
  EXPECT_TRUE(pieces.next(piece) && piece == "one" && pieces.next(piece) && piece == "two" && !pieces.next(piece));
  std::vector<std::string> places;
  for (const auto& [name, bytes] : {std::pair{"a.jsonl.xz", test::xz("{\"n\": 1}\n\n{\"n\": 2}\n")},
                                    {"a.json.zst", test::zstd("[{\"n\": 1}, {\"n\": [2, \"]\"]}]")}}) {
    read_json_lines(folder_.write(name, bytes), [&](const Json&, const std::string& where) {
      places.push_back(where.substr(where.rfind(": ") + 2));
      return true;
    });
  }
  EXPECT_EQ(places, (std::vector<std::string>{"line 1", "line 3", "item 0", "item 1"}));
}

}  // namespace
}  // namespace mla
