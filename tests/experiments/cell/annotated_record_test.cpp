// A record that its owner has annotated is complete all the same; one in which a number was changed is not.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <hdf5.h>

#include "core/base/numerics_version.h"
#include "core/base/shell.h"
#include "core/store/record.h"
#include "core/store/record_contents.h"
#include "tests/support/run_program.h"
#include "tests/support/temporary_folder.h"
#include "tests/support/tiny_model_folder.h"

namespace mla {
namespace {

using testing::HasSubstr;

class AnnotatedRecord : public testing::Test {
 protected:
  void SetUp() override {
    test::write_tiny_inputs(folder_);
    const auto config = folder_.write_config("sweep.json", R"({
       "model": {"path": "@/model"}, "results": "@/results",
       "compress": [{"name": "mha2mla", "rope": {"name": "high", "pairs": 1},
                     "low_rank": {"name": "joint_svd", "d_kv": 3}}],
       "evaluate": [{"task": "perplexity", "data": {"files": ["@/text.txt"]}, "context": 12}]})");
    arguments_ = {"run", config.string(), "--json"};
    const auto result = test::run_program(arguments_);
    ASSERT_EQ(result.exit_code, 0) << result.err;
    record_ = result.json()["cells"][0]["record"].get<std::string>();
  }
  /// Sets a number as h5py would.
  void set_number(const char* object, const char* name, double value) const {
    const hid_t file = H5Fopen(record_.c_str(), H5F_ACC_RDWR, H5P_DEFAULT), space = H5Screate(H5S_SCALAR);
    if (H5Aexists_by_name(file, object, name, H5P_DEFAULT) > 0) H5Adelete_by_name(file, object, name, H5P_DEFAULT);
    const hid_t attribute =
        H5Acreate_by_name(file, object, name, H5T_IEEE_F64LE, space, H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT);
    H5Awrite(attribute, H5T_NATIVE_DOUBLE, &value);
    H5Aclose(attribute);
    H5Sclose(space);
    H5Fclose(file);
  }

  test::TemporaryFolder folder_;
  std::vector<std::string> arguments_;
  std::filesystem::path record_;
};

TEST_F(AnnotatedRecord, IsNotRunAgain) {
  set_number("/", "my note", 1);
  set_number("/evaluation", "checked", 1);
  const std::string bytes = read_file(record_);
  std::string command = "mlaforge";
  for (const std::string& argument : arguments_) command += " " + shell_quoted(argument);
  const auto again = test::run_script(command);
  EXPECT_EQ(again.exit_code, 0) << again.err;
  EXPECT_THAT(again.err, HasSubstr("complete already; another program has added to its record"));
  EXPECT_EQ(read_file(record_), bytes);
  EXPECT_EQ(check_record(record_).state, RecordState::kAnnotated);
}

TEST_F(AnnotatedRecord, AChangedNumberIsNoResult) {
  const double right = read_record(record_).evaluation[0].value;
  set_number("/evaluation/source/perplexity/nll", "value", right / 2);
  const auto again = test::run_program(arguments_);
  EXPECT_EQ(again.exit_code, 0) << again.err;
  EXPECT_EQ(read_record(record_).evaluation[0].value, right);
}

TEST_F(AnnotatedRecord, ARecordOfALaterProgramIsNotWrittenOver) {
  {
    const hid_t file = H5Fopen(record_.c_str(), H5F_ACC_RDWR, H5P_DEFAULT);
    const hid_t attribute = H5Aopen(file, "version", H5P_DEFAULT);
    const std::int64_t later = kRecordVersion + 1;
    H5Awrite(attribute, H5T_NATIVE_INT64, &later);
    H5Aclose(attribute);
    H5Fclose(file);
  }
  const std::string bytes = read_file(record_);
  const auto again = test::run_program(arguments_);
  EXPECT_EQ(again.exit_code, 3);
  EXPECT_THAT(again.err, HasSubstr("of a later program; this program reads versions 1 to"));
  EXPECT_EQ(read_file(record_), bytes);
}

TEST_F(AnnotatedRecord, RecordsSayWhatComputedThem) {
  const Provenance provenance = read_record(record_).provenance;
  EXPECT_EQ(provenance.numerics_version, kNumericsVersion);
  for (const char* name : {"libtorch", "hdf5", "openmp", "libtorch_instruction_set", "kernels_instruction_set"}) {
    const std::string value = provenance.libraries.value(name, "");
    EXPECT_TRUE(!value.empty() && value != "none") << name << ": " << provenance.libraries.dump();
  }
}

}  // namespace
}  // namespace mla
