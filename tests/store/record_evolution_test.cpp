// Records of earlier programs, and records that other programs have written to.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <hdf5.h>

#include <cstdlib>
#include <functional>

#include "core/base/file.h"
#include "core/store/hdf5_file.h"
#include "core/store/record_contents.h"
#include "core/store/record_file.h"
#include "core/store/record_outline.h"
#include "tests/support/errors.h"
#include "tests/support/temporary_folder.h"

namespace mla {
namespace {

using test::message_of;
using ::testing::HasSubstr;
using ::testing::UnorderedElementsAre;

RunRecord small_record() {
  RunRecord record;
  record.head = {RunStatus::kComplete, "", "demo", "a", "00ff", "2025-01-31T12:00:00Z"};
  record.config = {{"model", {{"path", "m"}}}};
  record.overrides = {{"seed", 3}};
  record.provenance.git_hash = "0123";
  record.provenance.numerics_version = 2;
  record.seconds = {{"train", 2.5}};
  LayerRecord layer;
  layer.pairs = {{0, 1}};
  layer.singular_values = {3, 1};
  layer.joint_error = 0.25;
  record.compression = {layer};
  record.training = {{1, 2}, {8, 16}, {4, 3}, {1e-3, 1e-3}, {1, 2}};
  record.evaluation = {{"source", "toy", "accuracy", 0.75, 0.25, 4, true, "share", {1, 0, 1, 1}},
                       {"fine_tuned", "toy", "accuracy", 0.5, {}, 4, true, "share", {1, 0, 1, 0}, {2, 2}, "document"}};
  record.cache = {{"source", 64, 128, 128}};
  record.cached_decoding = {{"source", "text", "hqq4", 4, 5.25, 100, 192, 12'600, 12'600, 3.5, 0.01, 33.1, 90}};
  return record;
}

/// Does to a record what any program does that opens it for writing: HDF5 cuts the checksum after its content off.
template <class Edit>
void edit(const std::filesystem::path& path, const Edit& how) {
  const hid_t file = H5Fopen(path.c_str(), H5F_ACC_RDWR, H5P_DEFAULT);
  ASSERT_GE(file, 0);
  how(file);
  H5Fclose(file);
}

void set_number(hid_t file, const char* object, const char* name, double value) {
  if (H5Aexists_by_name(file, object, name, H5P_DEFAULT) > 0) H5Adelete_by_name(file, object, name, H5P_DEFAULT);
  const hid_t space = H5Screate(H5S_SCALAR);
  const hid_t attribute =
      H5Acreate_by_name(file, object, name, H5T_IEEE_F64LE, space, H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT);
  ASSERT_GE(H5Awrite(attribute, H5T_NATIVE_DOUBLE, &value), 0);
  H5Aclose(attribute);
  H5Sclose(space);
}

void set_version(hid_t file, std::int64_t version) {
  const hid_t attribute = H5Aopen_by_name(file, "/", "version", H5P_DEFAULT, H5P_DEFAULT);
  ASSERT_GE(H5Awrite(attribute, H5T_NATIVE_INT64, &version), 0);
  H5Aclose(attribute);
}

void remove_field(hid_t file, const char* group, const char* name) {
  if (H5Aexists_by_name(file, group, name, H5P_DEFAULT) > 0) {
    H5Adelete_by_name(file, group, name, H5P_DEFAULT);
  } else {
    H5Ldelete(file, (std::string(group) + "/" + name).c_str(), H5P_DEFAULT);
  }
}

/// What every program before there were lists of contents left behind.
void make_old(hid_t file) {
  H5Ldelete(file, kContents, H5P_DEFAULT);
  set_version(file, 1);
}

class Evolution : public testing::Test {
 protected:
  void SetUp() override { write_record(path_, small_record()); }
  test::TemporaryFolder folder_;
  std::filesystem::path path_ = folder_ / "a.h5";
};

TEST_F(Evolution, FieldsOfLaterProgramsMayBeMissing) {
  struct Field {
    const char *group, *name;
  };
  for (const Field& field : {Field{"/", "message"},
                             {"/", "experiment"},
                             {"/", "content_hash"},
                             {"/", "overrides"},
                             {"/", "provenance"},
                             {"/", "timing"},
                             {"/", "cache"},
                             {"/", "training"},
                             {"/provenance", "numerics_version"},
                             {"/provenance", "device"},
                             {"/provenance", "libraries"},
                             {"/provenance", "cpu"},
                             {"/training", "gradient_norm"},
                             {"/compression/layer_000", "value_singular_values"},
                             {"/evaluation/fine_tuned/toy/accuracy", "group_sizes"},
                             {"/evaluation/fine_tuned/toy/accuracy", "group_unit"},
                             {"/evaluation/fine_tuned/toy/accuracy", "n"},
                             {"/evaluation/source/toy/accuracy", "unit"},
                             {"/evaluation/source/toy/accuracy", "standard_error"},
                             {"/evaluation/source/toy/accuracy", "per_sample"},
                             {"/cached_decoding/source/text", "codec"}}) {
    SCOPED_TRACE(std::string(field.group) + " " + field.name);
    write_record(path_, small_record());
    edit(path_, [&](hid_t file) {
      make_old(file);
      remove_field(file, field.group, field.name);
    });
    const RunRecord back = read_record(path_);
    EXPECT_EQ(back.evaluation.size(), 2u);
    EXPECT_EQ(back.evaluation[0].value, 0.75);
    EXPECT_EQ(read_outline(path_).evaluation.size(), 2u);
    EXPECT_EQ(read_record_head(path_).status, RunStatus::kComplete);
    EXPECT_EQ(check_record(path_).state, RecordState::kUnchecked);
    write_record(folder_ / "copy.h5", back);  // as a sweep does that takes a cell over
    EXPECT_EQ(read_record(folder_ / "copy.h5"), back);
  }
  write_record(path_, small_record());
  edit(path_, [&](hid_t file) {
    make_old(file);
    remove_field(file, "/provenance", "numerics_version");
  });
  EXPECT_EQ(read_record(path_).provenance.numerics_version, 1);
}

TEST_F(Evolution, ANumberThatIsMissingIsNotReadAsZero) {
  for (const char* group : {"/evaluation/source/toy/accuracy@value", "/compression/layer_000@joint_error",
                            "/cache/source@counted_bytes", "/@status"}) {
    const std::string text = group, object = text.substr(0, text.find('@')), name = text.substr(text.find('@') + 1);
    SCOPED_TRACE(text);
    write_record(path_, small_record());
    edit(path_, [&](hid_t file) {
      make_old(file);
      remove_field(file, object.c_str(), name.c_str());
    });
    EXPECT_THAT(message_of<DataError>([&] { read_record(path_); }), HasSubstr(object + "@" + name));
  }
}

TEST(EvolutionOfFiles, RecordsOfTheFirstVersionStayReadableAndVerifiable) {
  for (const char* model : {"toy_mha", "toy_gqa"}) {
    const auto path = std::filesystem::path(MLA_SOURCE_DIR) / "data" / model / "training.h5";
    EXPECT_TRUE(Hdf5File::is_sealed(path));
    EXPECT_EQ(check_record(path).state, RecordState::kWhole);
    const RunRecord record = read_record(path);
    EXPECT_GT(record.training.loss.size(), 10u);
    EXPECT_EQ(record.provenance.numerics_version, 1);
    const RecordOutline outline = read_outline(path);
    EXPECT_EQ(outline.version, 1);
    EXPECT_EQ(outline.head, record.head);
    const test::TemporaryFolder folder;
    std::string damaged = read_file(path);
    damaged[damaged.size() / 2] = static_cast<char>(damaged[damaged.size() / 2] ^ 1);
    const auto copy = folder.write("x.h5", damaged);
    EXPECT_THAT(message_of<DataError>([&] { read_record(copy); }), HasSubstr("its checksum does not fit"));
  }
}

TEST(EvolutionOfFiles, ACellOfTheFirstVersionKeepsAllItHas) {
  const auto path = std::filesystem::path(MLA_SOURCE_DIR) / "tests/store/version_1/cell.h5";
  EXPECT_EQ(check_record(path).state, RecordState::kWhole);
  const RunRecord record = read_record(path);
  EXPECT_EQ(record.head.status, RunStatus::kComplete);
  EXPECT_EQ(record.config["compress"][0]["low_rank"]["d_kv"], 8);
  EXPECT_EQ(record.provenance.numerics_version, 1);
  EXPECT_EQ(record.provenance.device, "cpu");
  EXPECT_FALSE(record.provenance.data_hashes.empty());
  EXPECT_EQ(record.compression.size(), 4u);
  EXPECT_EQ(record.training.step, (std::vector<std::int64_t>{0, 1}));
  EXPECT_EQ(record.cache.size(), 3u);
  EXPECT_EQ(record.cached_decoding.size(), 3u);
  const RecordOutline note = read_outline(path), groups = read_outline_from_groups(path);
  EXPECT_EQ(note, groups);
  EXPECT_EQ(note.version, 1);
  EXPECT_EQ(note.evaluation.size(), record.evaluation.size());
  const test::TemporaryFolder folder;
  write_record(folder / "x.h5", record);  // in today's form it holds the same
  EXPECT_EQ(read_record(folder / "x.h5"), record);
}

TEST(EvolutionOfFiles, ABenchRecordOfTheFirstVersionHasSpreadsAndNoErrors) {
  const auto path = std::filesystem::path(MLA_SOURCE_DIR) / "tests/store/version_1/bench.h5";
  for (const RecordOutline& outline : {read_outline(path), read_outline_from_groups(path)}) {
    std::size_t spreads = 0;
    for (const ScoreOutline& score : outline.evaluation) {
      EXPECT_FALSE(score.standard_error) << score.metric;
      spreads += score.spread.has_value();
    }
    EXPECT_EQ(spreads, 2u) << "of both times";
  }
  EXPECT_FALSE(read_record(path).evaluation[0].standard_error);
}

TEST_F(Evolution, BenchKeptAQuartileDistanceAsItsError) {
  RunRecord record = small_record();
  record.evaluation = {{"source", "bench", "time_per_token", 10, 0.5, 3, false, "ms", {9, 10, 11}},
                       {"source", "toy", "accuracy", 0.75, 0.25, 4, true, "share", {1, 0, 1, 1}}};
  write_record(path_, record);
  EXPECT_EQ(read_record(path_).evaluation[0].standard_error, 0.5);
  EXPECT_EQ(read_outline(path_).evaluation[0].standard_error, 0.5);
  Json note = outline_to_json(read_outline(path_));
  note.erase("version");  // as earlier programs left it
  const auto outline = outline_from_json(note, "x");
  ASSERT_TRUE(outline);
  EXPECT_FALSE(outline->evaluation[0].standard_error);
  EXPECT_EQ(outline->evaluation[0].spread, 0.5);
  EXPECT_EQ(outline->evaluation[1].standard_error, 0.25);
  edit(path_, make_old);
  const RunRecord old = read_record(path_);
  EXPECT_FALSE(old.evaluation[0].standard_error);
  EXPECT_EQ(old.evaluation[0].spread, 0.5);
  EXPECT_EQ(old.evaluation[1].standard_error, 0.25);
  EXPECT_FALSE(read_outline(path_).evaluation[0].standard_error);
}

TEST_F(Evolution, KeysOfLaterOutlinesArePassedOver) {
  Json note = outline_to_json(read_outline(path_));
  note["head"]["mood"] = "good";
  note["weather"] = "fine";
  note["evaluation"][0].push_back("more");
  const auto outline = outline_from_json(note, "x");
  ASSERT_TRUE(outline);
  EXPECT_EQ(*outline, read_outline(path_));
  note["outline"] = 2;
  EXPECT_FALSE(outline_from_json(note, "x")) << "another form is left to the groups";
}

TEST_F(Evolution, ALayersNumberThatIsATextIsNotBelieved) {
  Json note = outline_to_json(read_outline(path_));
  note["layers"].push_back({{"joint_error", 0.5}, {"my note", "text"}});
  EXPECT_TRUE(outline_from_json(note, "x"));
  note["layers"].push_back({{"joint_error", "small"}});
  EXPECT_FALSE(outline_from_json(note, "x"));
}

TEST_F(Evolution, LaterVersionsAreRefused) {
  edit(path_, [](hid_t file) { set_version(file, kRecordVersion + 1); });
  EXPECT_THAT(message_of<DataError>([&] { read_record(path_); }),
              HasSubstr("record version 3, of a later program; this program reads versions 1 to 2"));
}

TEST_F(Evolution, WhatWasOpenedForWritingIsWholeAllTheSame) {
  edit(path_, [](hid_t) {});
  EXPECT_FALSE(Hdf5File::is_sealed(path_));
  EXPECT_EQ(read_record(path_), small_record());
  EXPECT_EQ(check_record(path_).state, RecordState::kAnnotated);
  EXPECT_TRUE(check_record(path_).added.empty());
}

TEST_F(Evolution, AnnotationsAreNoticedAndChangeNothing) {
  const RecordOutline before = read_outline(path_);
  edit(path_, [](hid_t file) {
    set_number(file, "/", "note", 1);
    set_number(file, "/evaluation/source/toy/accuracy", "seen by", 2);
    set_number(file, "/evaluation/source/toy/accuracy/per_sample", "unit", 3);
    set_number(file, "/evaluation", "note", 4);
    const hid_t mine = H5Gcreate2(file, "/mine", H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT);
    set_number(file, "/mine", "judgement", 5);
    H5Gclose(mine);
    H5Lcreate_hard(file, "/", file, "/mine/loop", H5P_DEFAULT, H5P_DEFAULT);
    H5Lcreate_soft("/nowhere", file, "/evaluation/dangling", H5P_DEFAULT, H5P_DEFAULT);
    H5Lcreate_external("other.h5", "/", file, "/elsewhere", H5P_DEFAULT, H5P_DEFAULT);
    // Copies of what the program wrote are no more of its own than other groups.
    H5Ocopy(file, "/evaluation/source", file, "/evaluation/source before", H5P_DEFAULT, H5P_DEFAULT);
    H5Ocopy(file, "/config", file, "/evaluation/source/notes", H5P_DEFAULT, H5P_DEFAULT);
    H5Ocopy(file, "/config", file, "/timing/notes", H5P_DEFAULT, H5P_DEFAULT);
    H5Ocopy(file, "/training", file, "/cache/training", H5P_DEFAULT, H5P_DEFAULT);
  });
  EXPECT_EQ(read_record(path_), small_record());
  const RecordOutline after = read_outline(path_);
  EXPECT_EQ(after.evaluation, before.evaluation);
  EXPECT_EQ(after.cache, before.cache);
  EXPECT_EQ(after.seconds, before.seconds);
  const RecordCheck check = check_record(path_);
  EXPECT_EQ(check.state, RecordState::kAnnotated);
  EXPECT_THAT(check.added,
              UnorderedElementsAre("/@note", "/evaluation/source/toy/accuracy@seen by",
                                   "/evaluation/source/toy/accuracy/per_sample@unit", "/evaluation@note", "/mine",
                                   "/evaluation/dangling", "/elsewhere", "/evaluation/source before",
                                   "/evaluation/source/notes", "/timing/notes", "/cache/training"));
}

TEST_F(Evolution, AnnotationsOfOldRecordsAreNoneOfTheirContent) {
  edit(path_, [](hid_t file) {
    make_old(file);
    set_number(file, "/evaluation/source/toy/accuracy", "note", 1);
    H5Gclose(H5Gcreate2(file, "/evaluation/source/toy/mine", H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT));
    H5Gclose(H5Gcreate2(file, "/compression/mine", H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT));
    H5Lcreate_soft("/nowhere", file, "/evaluation/dangling", H5P_DEFAULT, H5P_DEFAULT);
    H5Ocopy(file, "/config", file, "/evaluation/notes", H5P_DEFAULT, H5P_DEFAULT);
  });
  EXPECT_EQ(read_record(path_), small_record());
  EXPECT_EQ(read_outline(path_).layers.size(), 1u);
  EXPECT_EQ(check_record(path_).state, RecordState::kUnchecked);
}

TEST_F(Evolution, ChangesAreDamage) {
  const auto expect_damage = [&](const char* what, const auto& how) {
    SCOPED_TRACE(what);
    write_record(path_, small_record());
    edit(path_, how);
    const std::vector<std::function<void()>> readers = {[&] { read_record(path_); }, [&] { read_outline(path_); },
                                                        [&] { read_record_head(path_); }};
    for (const auto& read : readers) {
      EXPECT_THAT(message_of<DataError>(read), HasSubstr("a.h5: the file is damaged: another program has changed"));
    }
  };
  expect_damage("a score", [](hid_t file) { set_number(file, "/evaluation/source/toy/accuracy", "value", 0.76); });
  expect_damage("a score that had no error",
                [](hid_t file) { set_number(file, "/evaluation/fine_tuned/toy/accuracy", "standard_error", 0.1); });
  expect_damage("an array", [](hid_t file) {
    const hid_t loss = H5Dopen2(file, "/training/loss", H5P_DEFAULT);
    const double values[] = {4, 3.5};
    H5Dwrite(loss, H5T_NATIVE_DOUBLE, H5S_ALL, H5S_ALL, H5P_DEFAULT, values);
    H5Dclose(loss);
  });
  expect_damage("a group that is gone", [](hid_t file) { H5Ldelete(file, "/evaluation/fine_tuned", H5P_DEFAULT); });
  expect_damage("a name", [](hid_t file) {
    H5Lmove(file, "/evaluation/fine_tuned", file, "/evaluation/converted", H5P_DEFAULT, H5P_DEFAULT);
  });
  expect_damage("the list itself", [](hid_t file) { set_number(file, kContents, "checksum", 0); });
}

TEST_F(Evolution, H5pyMayAnnotateARecord) {
  if (std::system("/usr/bin/python3 -c 'import h5py' 2>/dev/null") != 0)
    GTEST_SKIP() << "python3-h5py is not installed";
  folder_.write("annotate.py", R"(
import h5py, numpy, sys
with h5py.File(sys.argv[1], "r+") as f:
    f.attrs["note"] = "looks good"
    f.attrs["tags"] = ["a", "b"]
    f.attrs["bytes"] = numpy.bytes_(b"fixed")
    f["training"].attrs["empty"] = h5py.Empty("f")
    f["evaluation/source"].attrs["ref"] = f["config"].ref
    f["evaluation/source/toy"].create_group("remarks")["text"] = "hm"
    f.create_dataset("mine/matrix", data=numpy.eye(3))
)");
  const std::string command = "/usr/bin/python3 " + (folder_ / "annotate.py").string() + " " + path_.string();
  ASSERT_EQ(std::system(command.c_str()), 0);
  EXPECT_EQ(read_record(path_), small_record());
  const RecordCheck check = check_record(path_);
  EXPECT_EQ(check.state, RecordState::kAnnotated);
  EXPECT_THAT(check.added, UnorderedElementsAre("/@note", "/@tags", "/@bytes", "/training@empty",
                                                "/evaluation/source@ref", "/evaluation/source/toy/remarks", "/mine"));
}

}  // namespace
}  // namespace mla
