#include "core/store/hdf5_file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>

#include "core/base/error.h"
#include "core/base/file.h"
#include "tests/support/errors.h"
#include "tests/support/temporary_folder.h"

namespace mla {
namespace {

using test::message_of;
using test::TemporaryFolder;
using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;

/// The file after a journey to the disk and back.
Hdf5File reopened(const Hdf5File& file, const TemporaryFolder& folder) {
  file.save(folder / "x.h5");
  return Hdf5File::open(folder / "x.h5");
}

template <class T>
void expect_round_trip(const NdArray<T>& array) {
  const TemporaryFolder folder;
  Hdf5File file = Hdf5File::create("x");
  file.write("/a/b/data", array);
  EXPECT_EQ(file.read<T>("/a/b/data"), array);
  EXPECT_EQ(reopened(file, folder).read<T>("/a/b/data"), array);
}

TEST(Hdf5File, ArraysOfEveryTypeAndShapeComeBack) {
  expect_round_trip<double>({{}, {0.1}});
  expect_round_trip<double>({{3}, {0.1, -std::numeric_limits<double>::infinity(), 5e-324}});
  expect_round_trip<double>({{0}, {}});
  expect_round_trip<double>({{2, 0}, {}});
  expect_round_trip<float>({{2, 2}, {0.1f, 2, 3, 4}});
  expect_round_trip<std::int64_t>({{2, 1, 2}, {1, -2, std::numeric_limits<std::int64_t>::max(), 4}});
  expect_round_trip<std::int32_t>({{2}, {1, std::numeric_limits<std::int32_t>::min()}});
  expect_round_trip<std::string>({{}, {"{\"a\": 1}"}});
  expect_round_trip<std::string>({{3}, {"", "é", std::string(100'000, 'x')}});
  expect_round_trip<std::string>({{0}, {}});
}

TEST(Hdf5File, LargeArraysAreChunkedAndCompressed) {
  NdArray<double> array{{1000, 1000}, std::vector<double>(1'000'000, 1.5)};
  array.values[123'456] = 7;
  expect_round_trip(array);
  const TemporaryFolder folder;
  Hdf5File file = Hdf5File::create("x");
  file.write("/data", array);
  file.save(folder / "x.h5");
  EXPECT_LT(std::filesystem::file_size(folder / "x.h5"), 200'000u);
}

TEST(Hdf5File, NumbersConvertButTextDoesNot) {
  Hdf5File file = Hdf5File::create("x.h5");
  file.write("/n", NdArray<std::int32_t>{{2}, {1, 2}});
  file.write("/t", NdArray<std::string>{{1}, {"a"}});
  EXPECT_EQ(file.read<double>("/n").values, (std::vector<double>{1, 2}));
  EXPECT_EQ(message_of<DataError>([&] { file.read<std::string>("/n"); }),
            "x.h5: /n: expected texts of variable length");
  EXPECT_EQ(message_of<DataError>([&] { file.read<double>("/t"); }), "x.h5: /t: expected numbers");
}

TEST(Hdf5File, AttributesOfEveryTypeComeBackAndCanBeReplaced) {
  const TemporaryFolder folder;
  Hdf5File file = Hdf5File::create("x");
  file.make_group("/g");
  const std::vector<std::pair<std::string, AttributeValue>> attributes{{"yes", true},
                                                                       {"no", false},
                                                                       {"int", std::int64_t{-5}},
                                                                       {"large", std::uint64_t{1} << 63},
                                                                       {"real", 0.1},
                                                                       {"text", "é\n"},
                                                                       {"empty", ""},
                                                                       {"long", std::string(200'000, 'y')}};
  for (const auto& [name, value] : attributes) file.set_attribute("/g", name, std::string("to be replaced"));
  for (const auto& [name, value] : attributes) file.set_attribute("/g", name, value);
  const Hdf5File back = reopened(file, folder);
  for (const auto& [name, value] : attributes) EXPECT_EQ(back.attribute("/g", name), value) << name;
  EXPECT_TRUE(back.has_attribute("/g", "yes"));
  EXPECT_FALSE(back.has_attribute("/g", "other"));
  EXPECT_FALSE(back.has_attribute("/nothing", "yes"));
}

TEST(Hdf5File, MembersAreListedInTheOrderMade) {
  const TemporaryFolder folder;
  Hdf5File file = Hdf5File::create("x");
  file.make_group("/z/one");
  file.make_group("/z/b/c");
  file.write("/a", NdArray<double>{{}, {1}});
  file.write("/z/a", NdArray<double>{{}, {1}});
  const Hdf5File back = reopened(file, folder);
  EXPECT_EQ(back.children("/"), (std::vector<std::string>{"z", "a"}));
  EXPECT_EQ(back.children("/z"), (std::vector<std::string>{"one", "b", "a"}));
}

TEST(Hdf5File, KnowsWhatExists) {
  Hdf5File file = Hdf5File::create("x");
  file.make_group("/a/b");
  EXPECT_NO_THROW(file.make_group("/a/b"));
  EXPECT_TRUE(file.exists("/"));
  EXPECT_TRUE(file.exists("/a"));
  EXPECT_TRUE(file.exists("/a/b"));
  EXPECT_FALSE(file.exists("/b"));
  EXPECT_FALSE(file.exists("/b/c/d"));
}

TEST(Hdf5File, ErrorsNameFileObjectAndReasonOnOneLineAndNothingIsPrinted) {
  testing::internal::CaptureStderr();
  Hdf5File file = Hdf5File::create("x.h5");
  file.write("/data", NdArray<double>{{}, {1}});
  const std::vector<std::pair<std::string, std::string>> messages{
      {message_of<DataError>([&] { file.read<double>("/none"); }), "x.h5: /none: no such dataset: "},
      {message_of<DataError>([&] { file.children("/data"); }), "x.h5: /data: not a group: "},
      {message_of<DataError>([&] { file.attribute("/data", "unit"); }), "x.h5: /data@unit: no such attribute: "},
      {message_of<DataError>([&] { file.set_attribute("/none", "a", 1.0); }), "x.h5: /none@a: cannot be made: "},
      {message_of<DataError>([&] {
         file.write("/data", NdArray<double>{{}, {1}});
       }),
       "x.h5: /data: cannot be made: "},
      {message_of<DataError>([&] { file.make_group("/data/x"); }), "x.h5: /data/x: cannot be made: "}};
  for (const auto& [message, start] : messages) {
    EXPECT_THAT(message, AllOf(StartsWith(start), Not(HasSubstr("\n"))));
    EXPECT_GT(message.size(), start.size()) << message << " gives no reason";
  }
  EXPECT_EQ(testing::internal::GetCapturedStderr(), "");
}

TEST(Hdf5File, AShapeThatDoesNotFitIsAMistakeOfTheProgram) {
  Hdf5File file = Hdf5File::create("x");
  EXPECT_THROW(file.write("/data", NdArray<double>{{2, 2}, {1}}), std::logic_error);
}

TEST(Hdf5File, MissingForeignAndEmptyFilesAreDataErrors) {
  const TemporaryFolder folder;
  EXPECT_THAT(message_of<DataError>([&] { Hdf5File::open(folder / "none.h5"); }), HasSubstr("No such file"));
  for (const std::string& text : {std::string(), std::string("not HDF5"), std::string(5000, '\0')}) {
    const auto path = folder.write("foreign.h5", text);
    EXPECT_THAT(message_of<DataError>([&] { Hdf5File::open(path); }),
                AllOf(StartsWith(path.string() + ": not a whole HDF5 file: "), Not(HasSubstr("\n"))));
  }
}

TEST(Hdf5File, AFirstBlockAloneIsRefusedBeforeHdf5AllocatesWhatItStates) {
  const TemporaryFolder folder;
  std::string block("\x89HDF\r\n\x1a\n\0\0\0\0\0\x08\x08\0\xff\xff\x10\0\0\0\0\0", 24);
  block.resize(49, '\0');
  const auto path = folder.write("block.h5", block);
  EXPECT_EQ(message_of<DataError>([&] { Hdf5File::open(path); }),
            path.string() + ": not a whole HDF5 file: it does not begin as one");
  block[40] = 100;
  folder.write("block.h5", block);
  EXPECT_EQ(message_of<DataError>([&] { Hdf5File::open(path); }),
            path.string() + ": not a whole HDF5 file: it has 49 of the 100 bytes that it states");
  block.resize(100, '\0');  // whole, with 65,535 members to a node
  folder.write("block.h5", block);
  EXPECT_EQ(message_of<DataError>([&] { Hdf5File::open(path); }),
            path.string() + ": not a whole HDF5 file: its first block is damaged");
}

TEST(Hdf5File, ATruncatedFileIsADataErrorWhereverItIsCut) {
  const TemporaryFolder folder;
  Hdf5File file = Hdf5File::create("x");
  file.write("/data", NdArray<double>{{1000}, std::vector<double>(1000, 2.0)});
  file.save(folder / "x.h5");
  const std::string whole = read_file(folder / "x.h5");
  for (std::size_t size = 0; size < whole.size(); size += 1 + whole.size() / 40) {
    const auto path = folder.write("cut.h5", whole.substr(0, size));
    EXPECT_THAT(message_of<DataError>([&] { Hdf5File::open(path); }), StartsWith(path.string() + ": not a whole"));
  }
}

TEST(Hdf5File, DamageIsFoundWhereverItIs) {
  const TemporaryFolder folder;
  Hdf5File file = Hdf5File::create("x");
  file.write("/data", NdArray<double>{{3}, {1, 2, 3}});
  file.save(folder / "x.h5");
  const std::string whole = read_file(folder / "x.h5");
  constexpr std::size_t kSeal = 43;  // The checksum's own line.
  for (std::size_t at = 0; at < whole.size() - kSeal; at += 1 + whole.size() / 50) {
    std::string bytes = whole;
    bytes[at] = static_cast<char>(bytes[at] ^ 1);
    const auto path = folder.write("y.h5", bytes);
    EXPECT_EQ(message_of<DataError>([&] { Hdf5File::open(path); }),
              path.string() + ": the file is damaged: its checksum does not fit its content");
  }
}

TEST(Hdf5File, AFileOfAnotherWriterNeedsNoChecksum) {
  const TemporaryFolder folder;
  Hdf5File file = Hdf5File::create("x");
  file.write("/data", NdArray<double>{{3}, {1, 2, 3}});
  file.save(folder / "x.h5");
  const std::string whole = read_file(folder / "x.h5");
  const auto path = folder.write("y.h5", whole.substr(0, whole.rfind("\nXXH3-128 ")));
  EXPECT_EQ(Hdf5File::open(path).read<double>("/data").values, (std::vector<double>{1, 2, 3}));
}

TEST(Hdf5File, TwoFilesOfOneNameAreDifferentFiles) {
  Hdf5File one = Hdf5File::create("x");
  Hdf5File two = Hdf5File::create("x");
  one.make_group("/only_in_one");
  EXPECT_FALSE(two.exists("/only_in_one"));
}

}  // namespace
}  // namespace mla
