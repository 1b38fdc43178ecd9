// Every fuzz target of this binary with its seeds, with what it once failed on, and with mutations of both.
//
// With MLA_FUZZ_SECONDS (environment) mutations go on for so long, each time others, and the input being tried is kept
// in MLA_FUZZ_FOLDER/TARGET.input: for targets that libFuzzer does not reach, and for other builds.
#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <random>

#include "core/base/file.h"
#include "core/base/log.h"
#include "tests/fuzz/support/input_files.h"
#include "tests/fuzz/support/mutate.h"
#include "tests/fuzz/support/target.h"

namespace mla::fuzz {
namespace {

/// 0 in an ordinary test run.
double asked_seconds() {
  const char* asked = std::getenv("MLA_FUZZ_SECONDS");
  return asked ? std::strtod(asked, nullptr) : 0;
}

/// Inputs on which this target once failed.
std::vector<std::string> findings(const Target& target) {
  std::vector<std::string> inputs;
  const std::filesystem::path folder = std::filesystem::path(MLA_SOURCE_DIR) / "tests/fuzz/findings" / target.name;
  if (!std::filesystem::is_directory(folder)) return inputs;
  for (const auto& file : std::filesystem::directory_iterator(folder)) inputs.push_back(read_file(file.path()));
  std::sort(inputs.begin(), inputs.end());  // the same order, and so the same mutations, everywhere
  return inputs;
}

class Fuzz : public testing::TestWithParam<Target> {
 protected:
  void SetUp() override { set_log_level(LogLevel::kError); }
  void TearDown() override { set_log_level(LogLevel::kInfo); }
  /// Whether the reader took the input.
  bool run(const std::string& input) {
    if (asked_seconds() > 0) keep(input);
    try {
      return try_input(GetParam(), input);
    } catch (const std::exception& error) {
      ADD_FAILURE() << error.what() << "\nof the input " << brief(Json(input.substr(0, 2000)));
      return false;
    }
  }

 private:
  void keep(const std::string& input) {
    const char* folder = std::getenv("MLA_FUZZ_FOLDER");
    std::ofstream(std::filesystem::path(folder ? folder : ".") / (GetParam().name + ".input"), std::ios::binary)
        << input;
  }
};

TEST_P(Fuzz, RefusesOrReads) {
  std::vector<std::string> inputs = GetParam().seeds();
  std::size_t taken = 0;
  for (const std::string& seed : inputs) taken += run(seed);
  EXPECT_EQ(taken > 0, GetParam().takes_seeds) << taken << " of the seeds are taken";
  for (const std::string& finding : findings(GetParam())) {
    run(finding);
    inputs.push_back(finding);
  }
  const auto end = std::chrono::steady_clock::now() + std::chrono::duration<double>(asked_seconds());
  Mutator mutator(asked_seconds() > 0 ? std::random_device()() : 1, GetParam().words);
  std::size_t done = 0;
  while (!HasFailure() && (done < GetParam().mutations || std::chrono::steady_clock::now() < end)) {
    const std::size_t at = done % inputs.size(), other = done / inputs.size() % inputs.size();
    run(mutator.mutate(inputs[at], inputs[other]));
    ++done;
  }
  if (asked_seconds() > 0)
    std::printf("%-26s %12zu %8.0f %9d\n", GetParam().name.c_str(), done, static_cast<double>(done) / asked_seconds(),
                HasFailure());
}

INSTANTIATE_TEST_SUITE_P(Readers, Fuzz, testing::ValuesIn(targets()),
                         [](const auto& tried) { return tried.param.name; });

}  // namespace
}  // namespace mla::fuzz
