#include "experiments/cell/statistics_file.h"

#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/base/error.h"
#include "core/model/safetensors.h"
#include "tests/support/errors.h"
#include "tests/support/temporary_folder.h"

namespace mla {
namespace {

TEST(StatisticsFile, ComesBackAsItWasWritten) {
  const test::TemporaryFolder folder;
  Statistics written;
  written.tokens = 7;
  written.rows_hash = "0123abcd";
  written.values[{kInputMoment, 0}] = at::randn({3, 3}, at::kDouble);
  written.values[{kKeyPairNorms, 12}] = at::randn({2, 4}, at::kDouble);
  write_statistics(folder / "s.safetensors", written);
  const Statistics read = read_statistics(folder / "s.safetensors");
  EXPECT_EQ(read.tokens, written.tokens);
  EXPECT_EQ(read.rows_hash, written.rows_hash);
  ASSERT_EQ(read.values.size(), written.values.size());
  for (const auto& [key, value] : written.values) EXPECT_TRUE(at::equal(read.values.at(key), value));
}

TEST(StatisticsFile, RefusesWhatHoldsSomethingElse) {
  const test::TemporaryFolder folder;
  const auto refusal = [&](const std::vector<std::pair<std::string, at::Tensor>>& tensors) {
    write_safetensors(folder / "x.safetensors", tensors);
    return test::message_of<DataError>([&] { read_statistics(folder / "x.safetensors"); });
  };
  const at::Tensor number = at::ones({1}, at::kDouble);
  EXPECT_THAT(refusal({{"model.norm.weight", number}}), testing::HasSubstr("no calibration statistics"));
  EXPECT_THAT(refusal({{"0.elsewhere.pair_norms", number}}), testing::HasSubstr("tensor 0.elsewhere.pair_norms"));
  EXPECT_THAT(refusal({{"0.key.pair_norms", number.to(at::kFloat)}}), testing::HasSubstr("tensor 0.key.pair_norms"));
  EXPECT_THAT(refusal({{"0.key.pair_norms", number}}), testing::HasSubstr("tensor tokens or rows_hash"));
}

}  // namespace
}  // namespace mla
