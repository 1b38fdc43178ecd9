#include "experiments/data/token_data.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>

#include "core/base/json.h"
#include "tests/support/temporary_folder.h"

namespace mla {
namespace {

using testing::ElementsAre;

TEST(SpreadPlaces, AreAtEvenDistancesFromTheirBeginningsOn) {
  EXPECT_THAT(spread_places(16, 8), ElementsAre(0, 8, 4, 12, 2, 10, 6, 14));
  EXPECT_THAT(spread_places(10, 3), ElementsAre(0, 6, 3));
  EXPECT_THAT(spread_places(3, 0), ElementsAre(0, 2, 1));
  EXPECT_THAT(spread_places(2, 9), ElementsAre(0, 1));
  EXPECT_THAT(spread_places(0, 4), ElementsAre());
  for (const std::size_t total : {1, 7, 100, 1000}) {
    for (std::size_t count = 1; count <= total; count += 3) {
      const auto places = spread_places(total, count);
      const std::set<std::size_t> different(places.begin(), places.end());
      EXPECT_EQ(places.size(), count);
      EXPECT_EQ(different.size(), count);
      EXPECT_LT(*different.rbegin(), total);
    }
  }
}

class SpreadRows : public testing::Test {
 protected:
  /// The first ids of the rows that are taken of eight, which begin with 0 to 7, the last two in a file of their own.
  std::vector<std::int32_t> first_ids(std::int64_t max_rows, bool spread) const {
    Json first = Json::array(), second = Json::array();
    for (int i = 0; i < 6; ++i) first.push_back({i, 100});
    for (int i = 6; i < 8; ++i) second.push_back({i, 100});
    DataOptions options;
    options.files = {folder_.write("first.json", Json{{"ids", first}}.dump()).string(),
                     folder_.write("second.json", Json{{"ids", second}}.dump()).string()};
    options.max_rows = max_rows;
    options.spread_rows = spread;
    std::vector<std::int32_t> ids;
    for (const auto& row : load_rows(options, nullptr, 1000, 1).rows) ids.push_back(row[0]);
    return ids;
  }

  test::TemporaryFolder folder_;
};

TEST_F(SpreadRows, ComeFromAllFiles) {
  EXPECT_THAT(first_ids(4, true), ElementsAre(0, 4, 2, 6));
  EXPECT_THAT(first_ids(4, false), ElementsAre(0, 1, 2, 3));
  EXPECT_THAT(first_ids(0, true), ElementsAre(0, 4, 2, 6, 1, 5, 3, 7));
}

}  // namespace
}  // namespace mla
