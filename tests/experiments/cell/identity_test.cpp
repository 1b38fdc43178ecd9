// What a cell is known by: everything that can change a number, and nothing else.
#include "experiments/cell/identity.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <fstream>
#include <functional>
#include <set>

#include "core/base/registry.h"
#include "core/compress/pass.h"
#include "core/low_rank/factorizer.h"
#include "core/partial_rope/key_rotation.h"
#include "core/quantize/codec.h"
#include "core/store/record.h"
#include "experiments/cell/cell_folder.h"
#include "experiments/config/pretrain_config.h"
#include "experiments/tasks/evaluation_task.h"
#include "tests/support/run_program.h"
#include "tests/support/temporary_folder.h"
#include "tests/support/tiny_model_folder.h"

namespace mla {
namespace {

using test::run_program;
using testing::Contains;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;

/// The strategies that a field of type Json may name, for a value other than the default.
Json some_strategy(const std::string& field) {
  if (field == "compress") return Json::array({{{"name", "mha2mla"}}});
  if (field == "codec" || field == "rope_codec") return {{"name", "hqq"}, {"bits", 3}};
  if (field == "rope") return {{"name", "low"}};
  if (field == "low_rank") return {{"name", "split_svd"}};
  if (field == "attention") return {{"name", "mfa"}};
  return {{"other", 1}};
}

/// Makes every optional part present and every list hold one entry.
struct Populate {
  template <class T>
  void operator()(const char*, T& value, const char*) {
    if constexpr (detail::is_optional<T>::value) {
      if (!value) value.emplace();
      (*this)("", *value, "");
    } else if constexpr (detail::is_vector<T>::value) {
      if (value.empty()) value.emplace_back();
      if constexpr (!std::is_same_v<T, std::vector<bool>>) (*this)("", value.front(), "");
    } else if constexpr (requires(Populate & self) { T::fields(value, self); }) {
      T::fields(value, *this);
    }
  }
};

/// Changes the leaf number `target` of an options struct, and remembers where it was.
struct ChangeLeaf {
  int target;
  int seen = 0;
  std::string at, changed;

  template <class T>
  void operator()(const char* name, T& value, const char*) {
    const std::string outer = at;
    if (*name != '\0') at += at.empty() ? name : cat(".", name);
    descend(name, value);
    at = outer;
  }

 private:
  template <class T>
  void descend(const char* name, T& value) {
    if constexpr (detail::is_optional<T>::value) {
      descend(name, *value);
    } else if constexpr (detail::is_vector<T>::value) {
      at += "[]";
      descend(name, value.front());
    } else if constexpr (requires(ChangeLeaf & self) { T::fields(value, self); }) {
      T::fields(value, *this);
    } else if (seen++ == target) {
      changed = at;
      change(name, value);
    }
  }
  template <class T>
  static void change(const std::string& name, T& value) {
    if constexpr (std::is_same_v<T, bool>) {
      value = !value;
    } else if constexpr (std::is_same_v<T, Json>) {
      value = some_strategy(name);
    } else if constexpr (std::is_same_v<T, std::string>) {
      value += "other";
    } else if constexpr (std::is_enum_v<T>) {
      for (const auto& [label, named] : enum_names(value)) {
        if (named == value) continue;
        value = named;
        return;
      }
      FAIL() << name << " has one value only";
    } else if constexpr (std::is_arithmetic_v<T>) {
      value += 1;
    } else if constexpr (std::is_same_v<T, OwnTaskOptions>) {
      Json other = value.write();
      const auto number = std::find_if(other.begin(), other.end(), [](const Json& x) { return x.is_number_integer(); });
      const auto flag = std::find_if(other.begin(), other.end(), [](const Json& x) { return x.is_boolean(); });
      ASSERT_TRUE(number != other.end() || flag != other.end()) << name;
      if (number != other.end()) {
        *number = number->template get<int>() + 1;
      } else {
        *flag = !flag->template get<bool>();
      }
      value.read(other, name);
    } else {
      value = T(7);  // a value per layer
    }
  }
};

/// Fields that an options struct and all structs in it leave out, with their paths; each with a reason.
struct CollectLeftOut {
  std::string at;
  std::set<std::string> left_out, reasonless;

  template <class T>
  void walk(T& value) {
    if constexpr (detail::is_optional<T>::value) {
      walk(*value);
    } else if constexpr (detail::is_vector<T>::value) {
      at += "[]";
      walk(value.front());
    } else if constexpr (requires(CollectLeftOut & self) { T::fields(value, self); }) {
      if constexpr (requires { T::kLeftOut; }) {
        detail::NameCollector names;
        T::fields(value, names);
        for (const LeftOut& one : T::kLeftOut) {
          EXPECT_THAT(names.names, Contains(std::string(one.field))) << "left out, but no field";
          if (std::string(one.reason).empty()) reasonless.insert(one.field);
          left_out.insert(at.empty() ? one.field : cat(at, ".", one.field));
        }
      }
      T::fields(value, *this);
    }
  }
  template <class T>
  void operator()(const char* name, T& value, const char*) {
    const std::string outer = at;
    at += at.empty() ? name : cat(".", name);
    walk(value);
    at = outer;
  }
};

std::set<std::string> without_brackets(const std::set<std::string>& paths) {
  std::set<std::string> all;
  for (std::string path : paths) {
    if (path.ends_with("[]")) path.resize(path.size() - 2);
    all.insert(path);
  }
  return all;
}

/// Changes each field in turn: the identity must change, unless the field is on the list of those left out.
template <class Options>
void expect_that_every_field_counts() {
  Options usual{};
  Populate populate;
  Options::fields(usual, populate);
  CollectLeftOut collect;
  collect.walk(usual);
  EXPECT_THAT(collect.reasonless, IsEmpty());
  std::set<std::string> without_effect;
  const Json identity = identity_of_fields(usual);
  for (int leaf = 0;; ++leaf) {
    Options changed = usual;
    ChangeLeaf change{leaf, 0, "", ""};
    Options::fields(changed, change);
    if (change.changed.empty()) {
      ASSERT_GT(leaf, 5);
      break;
    }
    if (identity_of_fields(changed) == identity) without_effect.insert(change.changed);
  }
  EXPECT_EQ(without_brackets(without_effect), without_brackets(collect.left_out));
}

TEST(Identity, EveryFieldOfAnExperimentCountsUnlessItIsOnTheList) {
  expect_that_every_field_counts<ExperimentConfig>();
}

TEST(Identity, EveryFieldOfAPretrainingCountsUnlessItIsOnTheList) { expect_that_every_field_counts<PretrainConfig>(); }

/// Values of options that take names or structs.
const std::vector<Json> kOthers = Json::parse(R"([
  {"name": "low"}, {"name": "split_svd"}, {"seed": 1}, {"name": "energy"}, [{"layers": [0, 1]}], ["x"], ["output"],
  "0.2.2", "K", "float16", "channel", "each", "sqrt", "outputs", "nf", "converted", "norms",
  "svd", "unrotated", "keys", "last", "drop", "no_sqrt_care", "adjusted", {"sigma": 4}, "magnitude", "inverse",
  "weights", "sum", "fractions", "rolling", "right", "found", "float32", "element", "second", "std", "measured", "mean", "none",
  "fisher", {"rows": 2}
])");

/// Every option of every strategy of an interface counts, too.
template <class Interface>
void expect_that_every_option_counts() {
  const auto& registry = Registry<Interface>::instance();
  for (const std::string& name : registry.names()) {
    const auto& entry = registry.find(name, "");
    EXPECT_EQ(entry.identity(Json::object()), Json::object()) << name;
    EXPECT_EQ(entry.identity(entry.defaults), Json::object()) << name;
    for (const auto& [option, usual] : entry.defaults.items()) {
      std::vector<Json> others = {1, 2, true, false, "x", 0.25, Json::array({1}), Json::array({Json::array({1})})};
      others.insert(others.end(), kOthers.begin(), kOthers.end());
      bool counted = false;
      for (const Json& other : others) {
        if (other == usual) continue;
        try {
          counted = counted || entry.identity({{option, other}}).contains(option);
        } catch (const ConfigError&) {  // of another type
        }
      }
      EXPECT_TRUE(counted) << name << "." << option;
    }
  }
}

TEST(Identity, EveryOptionOfAStrategyCounts) {
  expect_that_every_option_counts<Pass>();
  expect_that_every_option_counts<RotationStrategy>();
  expect_that_every_option_counts<Factorizer>();
  expect_that_every_option_counts<Codec>();
  expect_that_every_option_counts<EvaluationTask>();
}

TEST(Identity, WhatIsSpelledOutIsTheSameAsTheDefault) {
  const auto identity = [](const char* text) {
    ExperimentConfig config;
    read_fields(parse_json(text, "test"), "", config);
    return identity_of_fields(config);
  };
  EXPECT_EQ(identity("{}"), Json::object());
  EXPECT_EQ(identity(R"({"seed": 0, "arithmetic": "float32", "device": "cpu", "evaluate": []})"), Json::object());
  EXPECT_NE(identity(R"({"device": "another"})"), identity("{}"));
  EXPECT_EQ(identity(R"({"compress": [{"name": "mha2mla"}]})"),
            identity(R"({"compress": [{"low_rank": {"name": "joint_svd"}, "name": "mha2mla"}]})"));
  EXPECT_NE(identity(R"({"compress": [{"name": "mha2mla"}]})"),
            identity(R"({"compress": [{"name": "mha2mla", "low_rank": {"name": "split_svd"}}]})"));
  EXPECT_EQ(identity(R"({"train": {"learning_rate": 1}})"), identity(R"({"train": {"learning_rate": 1.0}})"));
  EXPECT_NE(identity(R"({"train": {}})"), identity("{}"));
}

/// Defaults that identities rest on: a result's identity does not hold what was at its default. A line may be added for
/// a new field; one that changes would let old results stand for something else.
TEST(Identity, DefaultsNeverChange) {
  Json now = {{"experiment", write_fields(ExperimentConfig{})}, {"train", write_fields(TrainConfig{})},
              {"mixture", write_fields(MixtureSource{})},       {"evaluation", write_fields(EvaluationConfig{})},
              {"cache", write_fields(CachedDecodingConfig{})},  {"pretrain", write_fields(PretrainConfig{})}};
  const auto add = [&](const auto& registry, const std::string& kind) {
    for (const std::string& name : registry.names()) now[kind][name] = registry.find(name, "").defaults;
  };
  add(Registry<Pass>::instance(), "pass");
  add(Registry<RotationStrategy>::instance(), "rope");
  add(Registry<Factorizer>::instance(), "low_rank");
  add(Registry<Codec>::instance(), "codec");
  const std::filesystem::path file = std::filesystem::path(MLA_SOURCE_DIR) / "tests/experiments/defaults.json";
  const Json flat = now.flatten(), held = read_json(file).flatten();
  for (const auto& [place, value] : held.items()) {
    EXPECT_TRUE(flat.contains(place)) << place << " is gone";
    if (flat.contains(place)) {
      EXPECT_EQ(flat[place], value) << place;
    }
  }
  for (const auto& [place, value] : flat.items())
    EXPECT_TRUE(held.contains(place)) << "a new field; add it to " << file << ": " << place << " = " << value;
}

TEST(Identity, OldRuleCountsWhereOnlyPathsHoldVariables) {
  const auto differ = [](const char* written, const char* expanded) {
    return differ_in_paths_alone(parse_json(written, "written"), parse_json(expanded, "expanded"));
  };
  EXPECT_TRUE(differ(R"({"model": {"path": "${A}"}})", R"({"model": {"path": "a"}})"));
  EXPECT_TRUE(differ(R"({"evaluate": [{"data": {"files": ["${A}"]}, "items": "${B}"}], "results": "${C}"})",
                     R"({"evaluate": [{"data": {"files": ["a"]}, "items": "b"}], "results": "c"})"));
  EXPECT_FALSE(differ(R"({"compress": [{"rope": {"name": "${R}"}}]})", R"({"compress": [{"rope": {"name": "low"}}]})"));
  EXPECT_FALSE(differ(R"({"evaluate": [{"name": "${N}"}]})", R"({"evaluate": [{"name": "n"}]})"));
}

class CellIdentities : public testing::Test {
 protected:
  using path = std::filesystem::path;

  void SetUp() override { test::write_tiny_inputs(folder_); }

  /// Writes a config with `more` members.
  path write(const std::string& more) {
    return folder_.write_config(cat("c", count_++, ".json"), R"({"results": "@/results", "name": "e", )" + more + "}");
  }
  static std::string hash(const path& config) {
    const ExperimentPlan plan = plan_experiment(config, {});
    Session session(plan.cells);
    return identify(plan.cells.front(), session).hash;
  }
  std::string hash(const std::string& more) { return hash(write(more)); }
  /// As a program of its own, whose log can be read.
  static test::ProgramResult run(const path& config) { return test::run_script("mlaforge run " + config.string()); }

  test::TemporaryFolder folder_;
  int count_ = 0;
};

constexpr const char* kEvaluate =
    R"("evaluate": [{"task": "perplexity", "context": 32, "data": {"files": ["@/text.txt"]}}])";

TEST_F(CellIdentities, VariablesCountByTheirValue) {
  const path config = write(cat(R"("model": {"path": "@/model"},
    "compress": [{"name": "mha2mla", "rope": {"name": "${MLA_TEST_ROPE}", "pairs": 1}, "low_rank": {"name": "none"}}], )",
                                kEvaluate));
  ::setenv("MLA_TEST_ROPE", "high", 1);
  const auto high = run(config);
  ASSERT_EQ(high.exit_code, 0) << high.err;
  EXPECT_THAT(run(config).err, HasSubstr("complete already"));
  ::setenv("MLA_TEST_ROPE", "low", 1);
  const auto low = run(config);
  ::unsetenv("MLA_TEST_ROPE");
  ASSERT_EQ(low.exit_code, 0) << low.err;
  EXPECT_THAT(low.err, Not(HasSubstr("complete already")));
}

TEST_F(CellIdentities, ContentsCountAndPlacesDoNot) {
  const std::string here = hash(cat(R"("model": {"path": "@/model"}, )", kEvaluate));
  std::filesystem::copy(folder_ / "model", folder_ / "elsewhere", std::filesystem::copy_options::recursive);
  EXPECT_EQ(hash(cat(R"("model": {"path": "@/elsewhere"}, )", kEvaluate)), here);
  std::ofstream(folder_ / "elsewhere/tokenizer.json", std::ios::app) << ' ';
  EXPECT_NE(hash(cat(R"("model": {"path": "@/elsewhere"}, )", kEvaluate)), here);
}

TEST_F(CellIdentities, ATokenizerApartCounts) {
  const auto write_tokenizer = [&](const char* place, const std::string& text) {
    std::filesystem::create_directories(folder_ / place);
    std::ofstream(folder_ / place / "tokenizer.json") << text;
  };
  const std::string text = test::tiny_sentencepiece_like().dump();
  write_tokenizer("a", text);
  write_tokenizer("b", text);
  write_tokenizer("c", text + " ");
  const auto with = [&](const char* place) {
    return hash(cat(R"("model": {"path": "@/model", "tokenizer": "@/)", place, R"("}, )", kEvaluate));
  };
  const std::string a = with("a");
  EXPECT_EQ(with("b"), a);
  EXPECT_NE(with("c"), a);
  std::ofstream(folder_ / "b/tokenizer_config.json") << R"({"add_bos_token": false})";
  EXPECT_NE(with("b"), a);
  EXPECT_NE(with("a/tokenizer.json"), with("c/tokenizer.json"));
}

/// The hash that the last program with the earlier rule gave this very config.
TEST_F(CellIdentities, TheEarlierRuleIsAsItWas) {
  std::string text;
  for (int i = 0; i < 20; ++i) text += "The red fox sees the old tree.\n";
  ::setenv("MLA_TEST_TEXT", folder_.write("fox.txt", text).c_str(), 1);
  ::setenv("MLA_TEST_RESULTS", (folder_ / "results").c_str(), 1);
  const ExperimentPlan plan = plan_experiment(
      folder_.write("earlier.json",
                    R"({"name": "earlier", "model": {"path": "data/toy_mha"}, "results": "${MLA_TEST_RESULTS}",
     "compress": [{"name": "mha2mla", "rope": {"name": "high", "pairs": 4}, "low_rank": {"name": "joint_svd", "d_kv": 8}}],
     "evaluate": [{"task": "perplexity", "context": 32, "data": {"files": ["${MLA_TEST_TEXT}"]}}]})"),
      {});
  Session session(plan.cells);
  EXPECT_EQ(identify(plan.cells.front(), session).earlier, "900c33daa5f265c4c07cfbba1da3a1f2");
}

TEST_F(CellIdentities, RecordsOfTheEarlierRuleAreAccepted) {
  const path config = write(cat(R"("model": {"path": "@/model"}, )", kEvaluate));
  ASSERT_EQ(run_program({"run", config.string(), "--quiet"}).exit_code, 0);
  const ExperimentPlan plan = plan_experiment(config, {});
  Session session(plan.cells);
  const CellIdentity identity = identify(plan.cells.front(), session);
  ASSERT_FALSE(identity.earlier.empty());
  const path file = plan.cells.front().record;
  RunRecord record = read_record(file);
  EXPECT_EQ(record.head.content_hash, identity.hash);
  record.head.content_hash = identity.earlier;
  write_record(file, record);
  std::filesystem::remove_all(folder_ / "results/.cells");
  const auto again = run(config);
  EXPECT_THAT(again.err, HasSubstr("complete already"));
  EXPECT_EQ(read_record(file).head.content_hash, identity.earlier);
  const auto status = run_program({"status", (folder_ / "results/e").string(), "--json"});
  EXPECT_EQ(status.json().dump().find("pending\":1"), std::string::npos) << status.out;
  EXPECT_THAT(status.out, HasSubstr("complete"));
  const auto forced = run_program({"run", config.string(), "--force", "--json"});
  EXPECT_EQ(read_record(file).head.content_hash, identity.hash);
}

}  // namespace
}  // namespace mla
