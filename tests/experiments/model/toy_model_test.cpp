// The models that come with the project: they load, and answer the toy language's questions.
#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>

#include "core/evaluate/multiple_choice.h"
#include "core/model/checkpoint.h"
#include "core/text/tokenizer.h"
#include "core/text/toy_stories.h"

namespace mla {
namespace {

constexpr int kItems = 100;

/// What guessing gets, and four of its standard deviations.
double well_above_chance(const std::string& task) {
  const double chance = task == "agreement" ? 0.5 : 0.25;
  return chance + 4 * std::sqrt(chance * (1 - chance) / kItems);
}

class ToyModel : public testing::TestWithParam<const char*> {};

TEST_P(ToyModel, IsWellAboveChanceOnEveryTask) {
  const std::filesystem::path folder = std::filesystem::path(MLA_SOURCE_DIR) / "data" / GetParam();
  const Checkpoint model = load_checkpoint(folder);
  const auto tokenizer = load_tokenizer(folder);
  for (const std::string& task : toy_tasks()) {
    RandomStream stream(1, "test." + task);
    std::vector<MultipleChoiceItem> items;
    for (int i = 0; i < kItems; ++i) items.push_back(toy_item(task, stream));
    const auto result = multiple_choice(model.decoder, make_multiple_choice(std::move(items), *tokenizer), {});
    EXPECT_GT(result.accuracy.value, well_above_chance(task)) << task;
    EXPECT_EQ(result.truncated, 0);
  }
}

TEST_P(ToyModel, HasTheTokenizerOfItsLanguage) {
  const std::filesystem::path folder = std::filesystem::path(MLA_SOURCE_DIR) / "data" / GetParam();
  EXPECT_EQ(read_json(folder / "tokenizer.json"), toy_tokenizer());
}

INSTANTIATE_TEST_SUITE_P(Shipped, ToyModel, testing::Values("toy_mha", "toy_gqa"),
                         [](const auto& each) { return each.param; });

}  // namespace
}  // namespace mla
