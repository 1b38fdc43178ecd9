// Every family against an independent float64 implementation (shared conformance data).
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <fstream>

#include "core/model/checkpoint.h"
#include "tests/support/shared_data.h"
#include "tests/support/tiny_models.h"

namespace mla {
namespace {

constexpr double kFamilyDoubleTolerance = 1e-9;
constexpr double kFamilyFloatTolerance = 2e-4;

at::Tensor to_tensor(const Json& rows) {
  std::vector<at::Tensor> all;
  for (const Json& row : rows) {
    all.push_back(row[0].is_array() ? to_tensor(row) : at::tensor(row.get<std::vector<double>>(), at::kDouble));
  }
  return at::stack(all);
}

class FamilyGolden : public testing::TestWithParam<std::tuple<std::string, at::ScalarType>> {};

TEST_P(FamilyGolden, LogitsMatch) {
  const auto [name, dtype] = GetParam();
  const std::string folder = "data/conformance/families/" + name;
  MLA_NEEDS_SHARED(folder);
  const Json golden = read_json(test::shared_folder() / folder / "golden.json");
  const LoadOptions options{.placement = Placement::in(dtype)};
  const Checkpoint checkpoint = load_checkpoint(test::shared_folder() / folder, options);
  EXPECT_EQ(checkpoint.decoder.parameter_count(), golden["parameters"].get<std::int64_t>());
  EXPECT_EQ(count_parameters(checkpoint.decoder.spec()).total(), checkpoint.decoder.parameter_count());

  const c10::InferenceMode inference;
  const at::Tensor logits = checkpoint.decoder.forward(to_tensor(golden["input_ids"]).to(at::kLong));
  const std::int64_t first = golden["logits_positions"][0].get<std::int64_t>();
  const at::Tensor expected = to_tensor(golden["logits_last4"]);
  EXPECT_LT(test::largest_difference(logits.narrow(1, first, expected.size(1)), expected),
            dtype == at::kDouble ? kFamilyDoubleTolerance : kFamilyFloatTolerance);
}

INSTANTIATE_TEST_SUITE_P(All, FamilyGolden,
                         testing::Combine(testing::Values("llama-mha", "llama-gqa-tied", "llama-rope-llama3",
                                                          "mistral-gqa", "qwen2-gqa", "qwen3-gqa", "llama-sharded",
                                                          "llama-bf16"),
                                          testing::Values(at::kDouble, at::kFloat)),
                         [](const auto& test) {
                           std::string name = std::get<0>(test.param);
                           std::replace(name.begin(), name.end(), '-', '_');
                           return name + "_" + c10::toString(std::get<1>(test.param));
                         });

}  // namespace
}  // namespace mla
