#include "core/store/record.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/mount.h>

#include <cmath>
#include <cstdlib>
#include <limits>

#include "core/base/file.h"
#include "core/store/field_group.h"
#include "core/store/hdf5_file.h"
#include "tests/support/errors.h"
#include "tests/support/small_files.h"
#include "tests/support/temporary_folder.h"

namespace mla {
namespace {

using test::message_of;
using test::TemporaryFolder;
using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;

RunRecord example() {
  RunRecord record;
  record.head = {RunStatus::kDiverged, "loss not finite at step 3", "smoke", "d_kv=8", "00ff", "2025-01-31T12:00:00Z"};
  record.config = parse_json(R"({"z": {"b": 1}, "a": [1.5, "é", null]})", "");
  record.overrides = {{"compress[0].d_kv", 8}};
  record.provenance.git_hash = "0123";
  record.provenance.git_dirty = true;
  record.provenance.seed = std::numeric_limits<std::uint64_t>::max();
  record.provenance.libraries = {{"libtorch", "2.11.0"}};
  record.seconds = {{"load", 1.5}, {"compress", 0.25}};
  record.compression = {{{{0, 3}, {1, 2}}, {3, 2, 1}, {}, 0.1, 0.2, 0.3, 16, 24, 96, 1000, 2000},
                        {{{}, {}}, {1}, {2, 1}, 0, 0, 0, 8, 8, 96, 500, 2000}};
  record.training = {{1, 2}, {512, 1024}, {4.5, 4.25}, {1e-4, 2e-4}, {1, 0.5}};
  record.training_scores = {{"toy", "nll", "nats per token", {1, 2}, {3.5, 3.25}}, {"a task", "nll", "", {2}, {1}}};
  record.evaluation = {{"source", "toy", "accuracy", 0.75, 0.0625, 48, true, "share", {1, 0, 1, 1}, {3, 1}, "document"},
                       {"source", "toy", "perplexity", 2.5, {}, 48, false, "", {}},
                       {"converted", "a task", "accuracy", 0.5, 0.125, 16, true, "share", {0, 1}}};
  record.cache = {{"source", 100, 76'800, 76'800}, {"converted", 100, 9'600, 9'600}};
  record.cached_decoding = {{"source", "text", "hqq4", 4, 5.25, 100, 192, 12'600, 12'600, 3.5, 0.01, 33.1, 90}};
  return record;
}

TEST(Record, ComesBackEqual) {
  const TemporaryFolder folder;
  write_record(folder / "results/smoke/d_kv=8.h5", example());
  const RunRecord back = read_record(folder / "results/smoke/d_kv=8.h5");
  EXPECT_EQ(back.head, example().head);
  EXPECT_EQ(back.config.dump(), example().config.dump()) << "the order of keys counts";
  EXPECT_EQ(back.provenance, example().provenance);
  EXPECT_EQ(back.compression, example().compression);
  EXPECT_EQ(back.evaluation, example().evaluation);
  EXPECT_EQ(back, example());
}

TEST(Record, AnEmptyOneComesBackEqual) {
  const TemporaryFolder folder;
  write_record(folder / "x.h5", RunRecord{});
  EXPECT_EQ(read_record(folder / "x.h5"), RunRecord{});
}

TEST(Record, TheHeadAloneCanBeRead) {
  const TemporaryFolder folder;
  write_record(folder / "x.h5", example());
  EXPECT_EQ(read_record_head(folder / "x.h5"), example().head);
}

TEST(Record, AnOlderOneIsReplaced) {
  const TemporaryFolder folder;
  write_record(folder / "x.h5", example());
  write_record(folder / "x.h5", RunRecord{});
  EXPECT_EQ(read_record(folder / "x.h5"), RunRecord{});
}

TEST(Record, ScoresWithoutGroupsAreThoseOfEarlierRecords) {
  struct Earlier {
    double value = 0.5;
    std::int64_t n = 2;
    bool higher_is_better = true;
    std::string unit = "share";
    std::vector<double> per_sample = {0, 1};
    static void fields(const Earlier& self, detail::GroupWriter& visit) {
      visit("value", self.value, "");
      visit("n", self.n, "");
      visit("higher_is_better", self.higher_is_better, "");
      visit("unit", self.unit, "");
      visit("per_sample", self.per_sample, "");
    }
  };
  Hdf5File file = Hdf5File::create("earlier");
  write_group(file, "/score", Earlier{});
  const auto score = read_group<ScoreRecord>(file, "/score");
  EXPECT_EQ(score.per_sample, Earlier{}.per_sample);
  EXPECT_TRUE(score.group_sizes.empty() && score.group_unit.empty() && !score.spread);
}

TEST(Record, NumbersThatAreNotFiniteSurvive) {
  const TemporaryFolder folder;
  RunRecord record;
  record.evaluation = {{"source", "t", "m", std::nan(""), {}, 1, true, "", {std::nan("")}}};
  record.training = {{1}, {1}, {std::numeric_limits<double>::infinity()}, {0}, {std::nan("")}};
  write_record(folder / "x.h5", record);
  const RunRecord back = read_record(folder / "x.h5");
  EXPECT_TRUE(std::isnan(back.evaluation[0].value));
  EXPECT_TRUE(std::isnan(back.evaluation[0].per_sample[0]));
  EXPECT_TRUE(std::isinf(back.training.loss[0]));
}

TEST(Record, NamesThatCannotBeGroupsAndRepetitionsAreMistakesOfTheProgram) {
  const TemporaryFolder folder;
  const auto write_with = [&](const auto& change) {
    RunRecord record = example();
    change(record);
    write_record(folder / "x.h5", record);
  };
  EXPECT_THROW(write_with([](RunRecord& r) { r.evaluation[0].task = "a/b"; }), std::logic_error);
  EXPECT_THROW(write_with([](RunRecord& r) { r.evaluation[0].stage = ""; }), std::logic_error);
  EXPECT_THROW(write_with([](RunRecord& r) { r.evaluation.push_back(r.evaluation[0]); }), std::logic_error);
  EXPECT_THROW(write_with([](RunRecord& r) { r.cache[1].stage = "source"; }), std::logic_error);
  EXPECT_THROW(write_with([](RunRecord& r) { r.seconds.push_back({"load", 1}); }), std::logic_error);
  EXPECT_THROW(write_with([](RunRecord& r) { r.compression[0].pairs = {{1}, {1, 2}}; }), std::logic_error);
  EXPECT_THROW(write_with([](RunRecord& r) { r.training.loss.pop_back(); }), std::logic_error);
  EXPECT_THROW(write_with([](RunRecord& r) { r.training_scores[0].value.pop_back(); }), std::logic_error);
  EXPECT_TRUE(std::filesystem::is_empty(folder.path()));
}

TEST(Record, TruncatedAndForeignFilesAreDataErrorsOfOneLine) {
  const TemporaryFolder folder;
  write_record(folder / "x.h5", example());
  const std::string whole = read_file(folder / "x.h5");
  for (const std::size_t size : {std::size_t{0}, std::size_t{100}, whole.size() / 2, whole.size() - 100}) {
    const auto path = folder.write("cut.h5", whole.substr(0, size));
    EXPECT_THAT(message_of<DataError>([&] { read_record(path); }),
                AllOf(StartsWith(path.string() + ": "), Not(HasSubstr("\n"))));
  }
  Hdf5File::create("other").save(folder / "other.h5");
  EXPECT_EQ(message_of<DataError>([&] { read_record(folder / "other.h5"); }),
            (folder / "other.h5").string() +
                ": an HDF5 file, but no run record (attribute 'format' is not 'mlaforge run record')");
  EXPECT_THAT(message_of<DataError>([&] { read_record_head(folder / "none.h5"); }), HasSubstr("No such file"));
}

TEST(Record, AnotherVersionIsRefused) {
  const TemporaryFolder folder;
  Hdf5File file = Hdf5File::create("x");
  file.set_attribute("/", "format", std::string("mlaforge run record"));
  file.set_attribute("/", "version", std::int64_t{99});
  file.save(folder / "x.h5");
  EXPECT_THAT(message_of<DataError>([&] { read_record(folder / "x.h5"); }),
              HasSubstr("x.h5: record version 99, of a later program; this program reads versions 1 to 2"));
}

TEST(Record, MatricesOfSenselessShapesAreRefused) {
  EXPECT_EQ(rows_from_matrix({{2, 2}, {1, 2, 3, 4}}, "x"), (std::vector<std::vector<std::int64_t>>{{1, 2}, {3, 4}}));
  EXPECT_EQ(rows_from_matrix({{2, 0}, {}}, "x").size(), 2u);
  for (const std::size_t columns : {std::size_t{0}, std::size_t{1} << 32}) {
    EXPECT_THAT(message_of<DataError>([&] {
                  rows_from_matrix({{std::size_t{1} << 32, columns}, {}}, "x: /pairs");
                }),
                HasSubstr("x: /pairs: 4294967296 x "));
  }
  EXPECT_THROW(rows_from_matrix({{4}, {1, 2, 3, 4}}, "x"), DataError);
}

TEST(Record, MissingAndMistypedPartsAreNamed) {
  const TemporaryFolder folder;
  Hdf5File file = Hdf5File::create("x");
  file.set_attribute("/", "format", std::string("mlaforge run record"));
  file.set_attribute("/", "version", kRecordVersion);
  file.set_attribute("/", "status", std::string("complet"));
  file.save(folder / "x.h5");
  EXPECT_THAT(message_of<DataError>([&] { read_record(folder / "x.h5"); }),
              HasSubstr("x.h5: /@status: no 'complet'; did you mean 'complete'? known: complete, diverged, failed"));
  file.set_attribute("/", "status", std::string("complete"));
  file.save(folder / "x.h5");
  EXPECT_THAT(message_of<DataError>([&] { read_record(folder / "x.h5"); }),
              HasSubstr("x.h5: /config: no such dataset"));
}

TEST(Record, AFullDiskIsOneDataErrorAndLeavesNothing) {
  const TemporaryFolder folder;
  RunRecord record = example();
  record.config["padding"] = std::string(1 << 20, 'x');
  const test::SmallFilesOnly limit(1 << 16);
  EXPECT_THAT(message_of<DataError>([&] { write_record(folder / "x.h5", record); }),
              AllOf(StartsWith((folder / "x.h5").string() + ": cannot be written: "), Not(HasSubstr("\n"))));
  EXPECT_TRUE(std::filesystem::is_empty(folder.path()));
}

TEST(Record, AFullFileSystemIsOneDataErrorAndLeavesNothing) {
  const TemporaryFolder folder;
  if (::mount("none", folder.path().c_str(), "tmpfs", 0, "size=64k") != 0) {
    GTEST_SKIP() << "mounting a small file system is not permitted here";
  }
  RunRecord record = example();
  record.config["padding"] = std::string(1 << 20, 'x');
  EXPECT_EQ(message_of<DataError>([&] { write_record(folder / "x.h5", record); }),
            (folder / "x.h5").string() + ": cannot be written: No space left on device");
  EXPECT_TRUE(std::filesystem::is_empty(folder.path()));
  ::umount(folder.path().c_str());
}

TEST(Record, AnUnwritableResultsFolderIsADataError) {
  const TemporaryFolder folder;
  folder.write("results", "a file");
  EXPECT_THAT(message_of<DataError>([&] { write_record(folder / "results/smoke/x.h5", example()); }),
              AllOf(HasSubstr("cannot be made"), Not(HasSubstr("\n"))));
}

TEST(Record, H5pyReadsItWithoutThisProgram) {
  if (std::system("/usr/bin/python3 -c 'import h5py' 2>/dev/null") != 0)
    GTEST_SKIP() << "python3-h5py is not installed";
  const TemporaryFolder folder;
  write_record(folder / "x.h5", example());
  folder.write("check.py", R"(
import h5py, json, numpy, sys
with h5py.File(sys.argv[1], "r") as f:
    assert f.attrs["status"] == "diverged" and f.attrs["message"].startswith("loss not finite"), dict(f.attrs)
    assert f.attrs["version"] == 2
    assert json.loads(f["contents"][()])["timing"] == {"load": ["unit"], "compress": ["unit"]}
    assert list(json.loads(f["config"][()])) == ["z", "a"]
    assert json.loads(f["overrides"][()]) == {"compress[0].d_kv": 8}
    assert f["provenance"].attrs["git_dirty"] == True and f["provenance"].attrs["git_dirty"].dtype == bool
    assert f["provenance"].attrs["seed"] == 2**64 - 1
    assert json.loads(f["provenance"].attrs["libraries"]) == {"libtorch": "2.11.0"}
    assert f["timing/load"][()] == 1.5 and f["timing/load"].attrs["unit"] == "s"
    layer = f["compression/layer_000"]
    assert layer["pairs"][:].tolist() == [[0, 3], [1, 2]] and "kv_heads" in layer["pairs"].attrs["description"]
    assert layer["singular_values"].dtype == numpy.float64 and layer.attrs["joint_error"] == 0.1
    assert "latent_width" in json.loads(layer.attrs["fields"])
    assert f["compression/layer_001/pairs"].shape == (2, 0)
    assert f["training/loss"][:].tolist() == [4.5, 4.25]
    assert set(f["training"]) == {"step", "tokens", "loss", "learning_rate", "gradient_norm"}
    assert f["training_scores/toy/nll/value"][:].tolist() == [3.5, 3.25]
    assert f["training_scores/toy/nll"].attrs["unit"] == "nats per token"
    score = f["evaluation/source/toy/accuracy"]
    assert score.attrs["value"] == 0.75 and score.attrs["standard_error"] == 0.0625 and score.attrs["n"] == 48
    assert score.attrs["higher_is_better"] and score.attrs["unit"] == "share"
    assert score["per_sample"][:].tolist() == [1, 0, 1, 1]
    assert "standard_error" not in f["evaluation/source/toy/perplexity"].attrs
    assert f["cache/converted"].attrs["counted_bytes"] == 9600
)");
  const std::string command = "/usr/bin/python3 " + (folder / "check.py").string() + " " + (folder / "x.h5").string();
  EXPECT_EQ(std::system(command.c_str()), 0);
}

}  // namespace
}  // namespace mla
