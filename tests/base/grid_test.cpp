#include "core/base/grid.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>

#include "core/base/error.h"
#include "tests/support/errors.h"

namespace mla {
namespace {

using test::message_of;
using ::testing::Each;
using ::testing::MatchesRegex;

std::vector<Cell> expand(const std::string& grid) {
  Json config =
      parse_json(R"({"compress": [{"name": "mha2mla", "rope": {"name": "high"}, "d_kv": 4}], "seed": 1})", "");
  config["grid"] = parse_json(grid, "grid");
  return expand_grid(config);
}

std::vector<std::string> names(const std::vector<Cell>& cells) {
  std::vector<std::string> all;
  for (const Cell& cell : cells) all.push_back(cell.name);
  return all;
}

std::string grid_error(const std::string& grid) {
  return message_of<ConfigError>([&] { expand(grid); });
}

TEST(Grid, WithoutOneThereIsOneCell) {
  const auto cells = expand_grid({{"a", 1}});
  ASSERT_EQ(cells.size(), 1u);
  EXPECT_EQ(cells[0].name, "default");
  EXPECT_EQ(cells[0].overrides, Json::object());
  EXPECT_EQ(cells[0].config, (Json{{"a", 1}}));
  EXPECT_EQ(names(expand("{}")), std::vector<std::string>{"default"});
}

TEST(Grid, AllCombinationsLastKeyFastestInTheOrderWritten) {
  const auto cells = expand(R"({"compress[0].rope.name": ["low", "high"], "compress[0].d_kv": [8, 4, 16]})");
  EXPECT_EQ(names(cells),
            (std::vector<std::string>{"rope.name=low,d_kv=8", "rope.name=low,d_kv=4", "rope.name=low,d_kv=16",
                                      "rope.name=high,d_kv=8", "rope.name=high,d_kv=4", "rope.name=high,d_kv=16"}));
  EXPECT_EQ(cells[2].config, parse_json(R"({"compress": [{"name": "mha2mla", "rope": {"name": "low"}, "d_kv": 16}],
                                            "seed": 1})",
                                        ""));
  EXPECT_EQ(cells[2].overrides.dump(), R"({"compress[0].rope.name":"low","compress[0].d_kv":16})");
}

TEST(Grid, JointKeysMoveTogether) {
  const auto cells = expand(R"({"seed,data.seed": [[1, 10], [2, 20]], "x": [true]})");
  EXPECT_EQ(names(cells), (std::vector<std::string>{"seed=1,data.seed=10,x=true", "seed=2,data.seed=20,x=true"}));
  EXPECT_EQ(cells[1].config["seed"], 2);
  EXPECT_EQ(cells[1].config["data"]["seed"], 20);
}

TEST(Grid, NamesUseTheShortestTailsThatDiffer) {
  EXPECT_EQ(names(expand(R"({"train.seed": [1], "data.seed": [2]})")),
            (std::vector<std::string>{"train.seed=1,data.seed=2"}));
  EXPECT_EQ(names(expand(R"({"compress[0].name": ["a"], "compress[0].rope.name": ["b"]})")),
            (std::vector<std::string>{"compress0.name=a,rope.name=b"}));
  EXPECT_EQ(names(expand(R"({"a.list": [[16, 8], {"k": 1}, null, 0.001]})")),
            (std::vector<std::string>{"list=16+8", "list=k_1", "list=null", "list=0.001"}));
}

TEST(Grid, NamesAreFitForFilesAndUnique) {
  const std::string longer(400, 'x');
  const auto cells =
      expand(R"({"path": ["../a b", "../a/b", "../ab", "é", ")" + longer + R"(", ")" + longer + R"(y"]})");
  const auto all = names(cells);
  EXPECT_EQ(std::set<std::string>(all.begin(), all.end()).size(), cells.size());
  EXPECT_THAT(all, Each(MatchesRegex("[A-Za-z0-9_.=,+-]{1,180}")));
  EXPECT_EQ(all[1], "path=.._a_b");
}

TEST(Grid, BadGridsAreConfigErrors) {
  EXPECT_EQ(grid_error(R"({"a": []})"), "grid.a: expected a list of values, not empty, found []");
  EXPECT_EQ(grid_error(R"({"a": 1})"), "grid.a: expected a list of values, not empty, found 1");
  EXPECT_EQ(grid_error(R"({"a": [1, 2, 1]})"), "grid.a: the value 1 is given twice");
  EXPECT_EQ(grid_error(R"({"a,b": [[1, 2], [3]]})"), "grid.a,b: expected lists of 2 values, found [3]");
  EXPECT_EQ(grid_error(R"({"a,b": [1]})"), "grid.a,b: expected lists of 2 values, found 1");
  EXPECT_EQ(grid_error(R"({"a": [1], "a,b": [[1, 2]]})"), "grid: a is set by two keys");
  EXPECT_EQ(grid_error(R"({"compress[3].d_kv": [1]})"), "compress[3]: the list has 1 entries");
  EXPECT_EQ(grid_error(R"({"a,": [[1, 2]]})"), "'': a part of the path is empty");
  EXPECT_EQ(grid_error("[]"), "grid: expected an object, found an array");
}

TEST(AddGrid, AddsAndReplacesKeys) {
  Json config = parse_json(R"({"grid": {"a.b": [0], "c": ["x"]}})", "");
  add_grid(config, "a.b=1,2,3");
  add_grid(config, "d,e=[1,2],[3,high]");
  EXPECT_EQ(config["grid"].dump(), R"({"a.b":[1,2,3],"c":["x"],"d,e":[[1,2],"[3,high]"]})");
  Json empty = Json::object();
  add_grid(empty, "a=high,low");
  EXPECT_EQ(empty.dump(), R"({"grid":{"a":["high","low"]}})");
  EXPECT_EQ(message_of<ConfigError>([&] { add_grid(empty, "a"); }), "--grid a: expected path=value");
}

}  // namespace
}  // namespace mla
