#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "core/model/safetensors.h"
#include "tests/support/run_program.h"

namespace mla {
namespace {

using test::run_program;
using testing::HasSubstr;

class CodecCommand : public testing::Test {
 protected:
  void SetUp() override {
    at::manual_seed(1);
    x_ = at::randn({1, 2, 64, 32});
    write_safetensors(input_, {{"keys", x_}, {"counts", at::zeros({3}, at::kLong)}});
  }
  std::vector<std::string> command(std::vector<std::string> more) const {
    std::vector<std::string> all = {"codec", "--input", input_.string()};
    all.insert(all.end(), more.begin(), more.end());
    return all;
  }
  test::TemporaryFolder folder_;
  std::filesystem::path input_ = folder_ / "x.safetensors", output_ = folder_ / "y.safetensors";
  at::Tensor x_;
};

TEST_F(CodecCommand, WritesTheRoundTripAndItsParts) {
  const auto result =
      run_program(command({"--name", "hqq", "--bits", "4", "--axis", "1", "--output", output_.string(), "--json"}));
  ASSERT_EQ(result.exit_code, 0) << result.err;
  const Json report = result.json();
  const WeightMap written = read_safetensors(output_);
  const at::Tensor& y = written.at("keys");
  EXPECT_NEAR(report["error"]["mse"].get<double>(),
              (y.to(at::kDouble) - x_.to(at::kDouble)).square().mean().item<double>(), 1e-12);
  EXPECT_EQ(report["effective_bits"], 5.0);
  EXPECT_EQ(report["nominal_bits"], 4);
  EXPECT_EQ(report["bytes"], report["predicted_bytes"]);
  EXPECT_EQ(report["tensors"].size(), 1);
  const at::Tensor again =
      (written.at("keys.codes").to(at::kFloat) - written.at("keys.zero")) * written.at("keys.scale");
  EXPECT_TRUE(at::equal(again.view(x_.sizes()), y));
}

TEST_F(CodecCommand, TakesEveryCodecsOptions) {
  for (const std::vector<std::string>& options : std::vector<std::vector<std::string>>{
           {"--name", "rtn", "--bits", "3", "--per", "channel"},
           {"--name", "rtn", "--bits", "8", "--group-size", "16", "--dtype", "float16"},
           {"--name", "quanto", "--bits", "2", "--axis", "-1", "--group-size", "64"},
           {"--name", "kivi", "--bits", "2", "--tensor", "V", "--group-size", "32", "--dtype", "f16"},
           {"--name", "hqq", "--version", "0.2.2", "--optimize", "true", "--set", "iterations=3"},
           {"--name", "kvquant", "--bits", "3", "--variant", "nf1", "--tensor", "k"},
           {"--name", "kvquant", "--bits", "2", "--variant", "nuq", "--tensor", "v", "--first-few-fp16", "1"}}) {
    const auto result = run_program(command(options));
    EXPECT_EQ(result.exit_code, 0) << result.err;
    EXPECT_THAT(result.out, HasSubstr("keys"));
  }
}

TEST_F(CodecCommand, MistakesAreOneLine) {
  const auto fails = [&](std::vector<std::string> options, int code, const std::string& text) {
    const auto result = run_program(command(std::move(options)));
    EXPECT_EQ(result.exit_code, code);
    EXPECT_THAT(result.err, HasSubstr(text));
    EXPECT_EQ(std::count(result.err.begin(), result.err.end(), '\n'), 1) << result.err;
    EXPECT_EQ(result.out, "");
  };
  fails({"--name", "hqqq"}, 2, "did you mean 'hqq'");
  fails({"--name", "rtn", "--bits", "11"}, 2, "codec.bits = 11");
  fails({"--name", "rtn", "--axis", "0"}, 2, "codec.axis: unknown key");
  fails({"--name", "hqq", "--group-size", "10", "--bits", "3"}, 2, "not whole bytes");
  fails({"--name", "kivi", "--tensor", "K", "--group-size", "48"}, 2, "does not divide the 128 tokens of all heads");
  fails({"--name", "rtn", "--only", "kees"}, 3, "did you mean 'keys'");
  fails({}, 2, "--name is missing; known: hqq, ");
  fails({"--bits", "4"}, 2, "--name is missing");
  fails({"--name", "kvquant", "--calib", "nothing"}, 3, "no tensor 'nothing'");
}

TEST_F(CodecCommand, NumbersThatAreNoneAreRefused) {
  x_[0][0][3][3] = std::numeric_limits<float>::quiet_NaN();
  write_safetensors(input_, {{"keys", x_}});
  const auto result = run_program(command({"--name", "rtn"}));
  EXPECT_EQ(result.exit_code, 3);
  EXPECT_THAT(result.err,
              HasSubstr("keys: input: element [0, 0, 3, 3] of [1, 2, 64, 32] is nan; only finite numbers have codes"));
}

}  // namespace
}  // namespace mla
