// Model files in which any value may be of any kind: one line and exit code 3, or the same meaning; never a crash, and
// never the words of a library.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <functional>

#include "core/base/file.h"
#include "tests/support/run_program.h"
#include "tests/support/temporary_folder.h"
#include "tests/support/tiny_model_folder.h"

namespace mla {
namespace {

using test::run_program;
using testing::AllOf;
using testing::AnyOf;
using testing::HasSubstr;
using testing::Not;

/// A value of each kind, and of each size that could do harm.
std::vector<Json> values_of_every_kind() {
  return {nullptr,
          true,
          false,
          0,
          -1,
          std::int64_t{1} << 31,
          std::int64_t{1} << 62,
          std::numeric_limits<std::int64_t>::max(),
          std::numeric_limits<std::uint64_t>::max(),
          2.5,
          1e300,
          -1e300,
          "",
          "x",
          std::string(100000, 'x'),
          Json::array(),
          Json::array({1}),
          Json::array({"a", nullptr}),
          Json::object(),
          Json{{"a", 1}},
          Json{{"type", 3}},
          Json::array({Json::array({Json::object()})})};
}

bool same_kind(const Json& a, const Json& b) { return a.type() == b.type() || (a.is_number() && b.is_number()); }

/// Calls `visit` with a pointer to each value inside `json`, objects and lists included; of tensors, which are all
/// alike, and of lists only to a few.
void for_each_value(const Json& json, const Json::json_pointer& here,
                    const std::function<void(const Json::json_pointer&)>& visit) {
  for (std::size_t i = 0; json.is_array() && i < std::min<std::size_t>(json.size(), 2); ++i) {
    visit(here / i);
    for_each_value(json[i], here / i, visit);
  }
  if (!json.is_object()) return;
  std::size_t tensors = 0;
  for (const auto& [key, value] : json.items()) {
    if (key.starts_with("model.") && ++tensors > 2) continue;
    visit(here / key);
    for_each_value(value, here / key, visit);
  }
}

class HostileModel : public testing::Test {
 protected:
  void SetUp() override {
    test::write_tiny_model(model());
    ids_ = folder_.write("ids.json", R"({"ids": [[1, 5, 9, 40, 7, 200, 33, 12]]})");
  }
  std::filesystem::path model() const { return folder_ / "model"; }
  test::ProgramResult score(const std::filesystem::path& model) const {
    return run_program({"score", "--model", model.string(), "--ids", ids_.string()});
  }

  /// Puts a value of every kind in the place of each value of a file; `write` writes what became of it. What is taken
  /// without an error must mean what the file meant, or what it means without the value.
  void walk(const std::filesystem::path& model, const Json& whole, const std::function<void(const Json&)>& write) {
    const std::string before = score(model).out;
    ASSERT_NE(before, "");
    for_each_value(whole, Json::json_pointer(), [&](const Json::json_pointer& place) {
      Json absent = whole;
      if (absent.at(place.parent_pointer()).is_object()) absent.at(place.parent_pointer()).erase(place.back());
      write(absent);
      const std::string without = score(model).out;
      for (const Json& value : values_of_every_kind()) {
        Json changed = whole;
        changed.at(place) = value;
        write(changed);
        const auto result = score(model);
        const std::string what = cat(place.to_string(), " = ", brief(value), ": ", result.err.substr(0, 300));
        EXPECT_THAT(result.exit_code, AnyOf(0, 3)) << what;
        EXPECT_LT(result.err.size(), 800u) << what;
        EXPECT_THAT(result.err, Not(HasSubstr("json.exception"))) << what;
        if (result.exit_code == 3) {
          EXPECT_EQ(result.err.find('\n'), result.err.size() - 1) << what;
        } else if (!same_kind(value, whole.at(place))) {
          EXPECT_THAT(result.out, AnyOf(before, without)) << what;
        }
      }
    });
    write(whole);
    EXPECT_EQ(score(model).out, before);
  }

  void walk_file(const std::string& name, const Json& whole) {
    folder_.write("model/" + name, whole.dump());
    walk(model(), whole, [&](const Json& changed) { folder_.write("model/" + name, changed.dump()); });
  }

  test::TemporaryFolder folder_;
  std::filesystem::path ids_;
};

TEST_F(HostileModel, EveryKeyOfAConfig) {
  Json config = read_json(model() / "config.json");
  config.update({{"pad_token_id", 0},
                 {"rope_scaling",
                  {{"rope_type", "yarn"},
                   {"factor", 2.0},
                   {"original_max_position_embeddings", 32},
                   {"beta_fast", 32},
                   {"beta_slow", 1},
                   {"truncate", true},
                   {"attention_factor", 1.5},
                   {"mscale", 1.0},
                   {"mscale_all_dim", 1.0}}},
                 {"eos_token_id", {2, 3}},
                 {"layer_types", {"full_attention", "full_attention"}},
                 {"pruned_heads", Json::object()},
                 {"original_max_position_embeddings", 32},
                 {"partial_rotary_factor", 1.0}});
  walk_file("config.json", config);
}

TEST_F(HostileModel, EveryKeyOfTheOtherFamilies) {
  for (const char* family : {"mistral", "qwen2", "qwen3"}) {
    Json config = read_json(model() / "config.json");
    config.update({{"model_type", family},
                   {"sliding_window", 8},
                   {"use_sliding_window", true},
                   {"max_window_layers", 1},
                   {"rope_parameters", {{"rope_type", "linear"}, {"factor", 2.0}, {"rope_theta", 10000.0}}}});
    if (std::string(family) != "mistral") config["layer_types"] = {"full_attention", "sliding_attention"};
    // The tiny weights are a llama's: every answer is a refusal, and must be one of ours.
    for (const char* key : {"sliding_window", "use_sliding_window", "max_window_layers", "layer_types",
                            "rope_parameters", "num_key_value_heads", "head_dim", "attention_bias"}) {
      for (const Json& value : values_of_every_kind()) {
        Json changed = config;
        changed[key] = value;
        folder_.write("model/config.json", changed.dump());
        const auto result = score(model());
        EXPECT_THAT(result.exit_code, AnyOf(0, 3)) << family << key << brief(value) << result.err;
        EXPECT_LT(result.err.size(), 800u) << family << key;
      }
    }
  }
}

TEST_F(HostileModel, EveryKeyOfAGenerationConfig) {
  walk_file("generation_config.json", {{"eos_token_id", {2, 3}}, {"bos_token_id", 1}, {"do_sample", true}});
  folder_.write("model/generation_config.json", "[1]");
  EXPECT_THAT(score(model()).err, HasSubstr("generation_config.json: expected an object, found an array"));
  folder_.write("model/generation_config.json", R"({"eos_token_id": "</s>"})");
  EXPECT_THAT(score(model()).err, HasSubstr("generation_config.json: eos_token_id = \"</s>\": must be a token id"));
}

TEST_F(HostileModel, EveryKeyOfAnIndex) {
  std::filesystem::rename(model() / "model.safetensors", model() / "all.safetensors");
  Json map = Json::object();
  for (const auto& [name, tensor] : read_safetensors(model() / "all.safetensors")) map[name] = "all.safetensors";
  walk_file("model.safetensors.index.json", {{"metadata", {{"total_size", 1}}}, {"weight_map", map}});
}

TEST_F(HostileModel, EveryKeyOfASafetensorsHeader) {
  const std::string bytes = read_file(model() / "model.safetensors");
  std::uint64_t length = 0;
  std::memcpy(&length, bytes.data(), sizeof length);
  const Json header = parse_json(bytes.substr(sizeof length, length), "header");
  walk(model(), header, [&](const Json& changed) {
    const std::string text = changed.dump();
    const std::uint64_t size = text.size();
    folder_.write("model/model.safetensors", std::string(reinterpret_cast<const char*>(&size), sizeof size) + text +
                                                 bytes.substr(sizeof length + length));
  });
}

TEST_F(HostileModel, EveryKeyOfALatentDescription) {
  const std::string out = (folder_ / "out").string();
  const auto converted = run_program({"convert", "--model", model().string(), "--output", out, "--rope", "uniform",
                                      "--pairs", "1", "--low-rank", "split_svd", "--d-kv", "4", "--quiet"});
  ASSERT_EQ(converted.exit_code, 0) << converted.err;
  walk(out, read_json(folder_ / "out/config.json"),
       [&](const Json& changed) { folder_.write("out/config.json", changed.dump()); });
}

TEST_F(HostileModel, SizesBeyondEveryModelAreRefusedAtOnce) {
  const Json config = read_json(model() / "config.json");
  for (const char* key : {"vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads",
                          "num_key_value_heads", "head_dim", "max_position_embeddings"}) {
    for (const Json& value : {Json(std::int64_t{1} << 31), Json(std::numeric_limits<std::int64_t>::max()),
                              Json(std::numeric_limits<std::uint64_t>::max()), Json(0), Json(-1)}) {
      Json changed = config;
      changed[key] = value;
      folder_.write("model/config.json", changed.dump());
      for (const auto& command : {std::vector<std::string>{"inspect", model().string()},
                                  {"score", "--model", model().string(), "--ids", ids_.string()}}) {
        const auto result = run_program(command);
        EXPECT_EQ(result.exit_code, 3) << key << value << result.err;
        EXPECT_THAT(result.err, AllOf(HasSubstr("config.json"), HasSubstr(key), HasSubstr(value.dump())));
      }
    }
  }
}

TEST_F(HostileModel, AHeaderNestedDeep) {
  const std::string deep = "{\"a\":" + std::string(100000, '[');
  for (const char* name : {"config.json", "generation_config.json"}) {
    const auto file = model() / name;
    const std::string before = std::filesystem::exists(file) ? read_file(file) : "";
    folder_.write(cat("model/", name), deep);
    const auto result = score(model());
    EXPECT_EQ(result.exit_code, 3);
    EXPECT_THAT(result.err, AllOf(HasSubstr(name), HasSubstr("nested too deep")));
    std::filesystem::remove(file);
    if (!before.empty()) folder_.write(cat("model/", name), before);
  }
  const std::uint64_t size = deep.size();
  folder_.write("model/model.safetensors", std::string(reinterpret_cast<const char*>(&size), sizeof size) + deep);
  EXPECT_THAT(score(model()).err, AllOf(HasSubstr("model.safetensors (header)"), HasSubstr("nested too deep")));
  EXPECT_THAT(
      run_program({"score", "--model", model().string(), "--ids", folder_.write("deep.json", deep).string()}).err,
      HasSubstr("nested too deep"));
}

TEST_F(HostileModel, Llama2cHeaders) {
  const auto error = [&](const std::vector<std::int32_t>& header, std::size_t more = 100) {
    const std::string bytes(reinterpret_cast<const char*>(header.data()), header.size() * sizeof(std::int32_t));
    const auto file = folder_.write("x.bin", bytes + std::string(more, '\0'));
    const auto result = run_program({"inspect", file.string()});
    EXPECT_EQ(result.exit_code, 3) << result.err;
    return result.err;
  };
  constexpr std::int32_t kLeast = std::numeric_limits<std::int32_t>::min(),
                         kMost = std::numeric_limits<std::int32_t>::max();
  EXPECT_THAT(error({64, 172, 5, 8, 4, kLeast, 512}), HasSubstr("header value 5 is -2147483648"));
  EXPECT_THAT(error({kMost, 172, 5, 8, 4, 512, 512}), HasSubstr("header value 0"));
  EXPECT_THAT(error({64, 172, kMost, 8, 4, 512, 512}), HasSubstr("header value 2"));
  // These wrapped to what the file holds: hidden^2 * layers and hidden * intermediate * layers are multiples of 2^62.
  EXPECT_THAT(error({1 << 18, 1 << 22, 10000, 1 << 16, 1 << 16, kMost, kMost}), HasSubstr("the header asks for"));
  EXPECT_THAT(error({1 << 24, 1 << 24, 1 << 16, 1 << 16, 1 << 16, 1 << 24, 1 << 24}), HasSubstr("header value 0"));
  EXPECT_THAT(error({64, 172, 5, 0, 4, 512, 512}), HasSubstr("header value 3 is 0"));
  EXPECT_THAT(error({64, 172, 5, 8, -4, 512, 512}), HasSubstr("header value 4 is -4"));
  EXPECT_THAT(error({}, 0), HasSubstr("x.bin"));
  EXPECT_THAT(error({0x04034b50}), HasSubstr("a PyTorch file"));
  EXPECT_THAT(error({0x616b3432, 1}), HasSubstr("version 1 or 2"));
}

}  // namespace
}  // namespace mla
