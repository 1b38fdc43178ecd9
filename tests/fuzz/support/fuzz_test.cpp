// Every fuzz target of this binary with its seeds, with what it once failed on, and with mutations of both.
//
// MLA_FUZZ_EXECUTIONS (environment) asks for more mutations than the few of a test run, and then keeps the input being
// tried in TARGET.input of the working directory, for targets that libFuzzer does not reach or when there is no clang.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "core/base/file.h"
#include "core/base/log.h"
#include "tests/fuzz/support/input_files.h"
#include "tests/fuzz/support/mutate.h"
#include "tests/fuzz/support/target.h"

namespace mla::fuzz {
namespace {

constexpr std::int64_t kExecutions = 150;

std::int64_t executions() {
  const char* asked = std::getenv("MLA_FUZZ_EXECUTIONS");
  return asked ? std::strtoll(asked, nullptr, 10) : kExecutions;
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
    if (std::getenv("MLA_FUZZ_EXECUTIONS")) write_kept(input);
    try {
      return try_input(GetParam(), input);
    } catch (const std::exception& error) {
      ADD_FAILURE() << error.what() << "\nof the input " << brief(Json(input.substr(0, 2000)));
      return false;
    }
  }

 private:
  void write_kept(const std::string& input) { std::ofstream(GetParam().name + ".input", std::ios::binary) << input; }
};

TEST_P(Fuzz, RefusesOrReads) {
  std::vector<std::string> inputs = GetParam().seeds();
  std::size_t taken = 0;
  for (const std::string& seed : inputs) taken += run(seed);
  EXPECT_GT(taken, 0u) << "the reader takes none of its seeds";
  for (const std::string& finding : findings(GetParam())) {
    run(finding);
    inputs.push_back(finding);
  }
  Mutator mutator(1, GetParam().words);
  for (std::int64_t i = 0; i < executions() && !HasFailure(); ++i) {
    const auto n = static_cast<std::int64_t>(inputs.size());
    run(mutator.mutate(inputs[static_cast<std::size_t>(i % n)], inputs[static_cast<std::size_t>(i / n % n)]));
  }
}

INSTANTIATE_TEST_SUITE_P(Readers, Fuzz, testing::ValuesIn(targets()),
                         [](const auto& tried) { return tried.param.name; });

}  // namespace
}  // namespace mla::fuzz
