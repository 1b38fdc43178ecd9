// Wrong files and wrong values: one line on stderr that names the place, and the right exit code.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <limits>

#include "tests/support/run_program.h"
#include "tests/support/tiny_model_folder.h"

namespace mla {
namespace {

using test::run_program;
using testing::AllOf;
using testing::HasSubstr;
using testing::Matcher;
using testing::StartsWith;

constexpr std::size_t kLengthBytes = 8;

/// A safetensors file taken apart and put together again.
struct Parts {
  Json header;
  std::string data;

  explicit Parts(const std::filesystem::path& path) {
    const std::string bytes = read_file(path);
    std::uint64_t length = 0;
    std::memcpy(&length, bytes.data(), kLengthBytes);
    header = parse_json(bytes.substr(kLengthBytes, length), "header");
    data = bytes.substr(kLengthBytes + length);
  }
  std::string bytes() const {
    const std::string text = header.dump();
    const std::uint64_t length = text.size();
    return std::string(reinterpret_cast<const char*>(&length), kLengthBytes) + text + data;
  }
};

class WrongInput : public testing::Test {
 protected:
  void SetUp() override {
    test::write_tiny_model(model());
    ids_ = folder_.write("ids.json", R"({"ids": [[1, 2, 3]]})");
    text_ = folder_.write("text.txt", "ab ab\n");
  }

  std::filesystem::path model() const { return folder_ / "model"; }
  std::filesystem::path weights() const { return model() / "model.safetensors"; }
  void replace(const std::string& name, const std::string& bytes) const { folder_.write("model/" + name, bytes); }

  /// Runs, expects nothing on stdout and one line on stderr, and gives the line without the program's name.
  static std::string failure(int exit_code, const std::vector<std::string>& arguments) {
    const auto result = run_program(arguments);
    EXPECT_EQ(result.exit_code, exit_code) << result.err;
    EXPECT_EQ(result.out, "");
    EXPECT_EQ(result.err.find('\n'), result.err.size() - 1) << result.err;
    const std::string prefix = "mlaforge " + arguments.front() + ": ";
    EXPECT_THAT(result.err, StartsWith(prefix));
    return result.err.substr(std::min(prefix.size(), result.err.size()));
  }
  std::string score() const { return failure(3, {"score", "--model", model().string(), "--ids", ids_.string()}); }
  std::string score(const std::string& request) const {
    return failure(3, {"score", "--model", model().string(), "--ids", folder_.write("wrong.json", request).string()});
  }
  std::string evaluate(int exit_code, const std::filesystem::path& file, std::vector<std::string> more = {}) const {
    more.insert(more.begin(), {"evaluate", "--model", model().string(), "--perplexity", file.string()});
    return failure(exit_code, more);
  }

  test::TemporaryFolder folder_;
  std::filesystem::path ids_, text_;
};

TEST_F(WrongInput, TheRightInputPasses) {
  EXPECT_EQ(run_program({"score", "--model", model().string(), "--ids", ids_.string()}).exit_code, 0);
  EXPECT_EQ(run_program({"evaluate", "--model", model().string(), "--perplexity", text_.string()}).exit_code, 0);
}

TEST_F(WrongInput, TruncatedWeights) {
  const std::string bytes = read_file(weights());
  replace("model.safetensors", bytes.substr(0, bytes.size() - 100));
  EXPECT_THAT(score(), AllOf(StartsWith(weights().string()), HasSubstr("truncated")));
  replace("model.safetensors", bytes.substr(0, 5));
  EXPECT_THAT(score(), HasSubstr("truncated"));
  replace("model.safetensors", "");
  EXPECT_THAT(score(), StartsWith(weights().string()));
}

TEST_F(WrongInput, HeaderBeyondTheFile) {
  std::string bytes = read_file(weights());
  const std::uint64_t length = std::uint64_t{1} << 60;
  std::memcpy(bytes.data(), &length, kLengthBytes);
  replace("model.safetensors", bytes);
  EXPECT_THAT(score(),
              AllOf(StartsWith(weights().string()), HasSubstr("the header says it is 1152921504606846976 bytes")));
}

TEST_F(WrongInput, TypeAndShape) {
  Parts parts(weights());
  const Json header = parts.header;
  parts.header["model.norm.weight"]["dtype"] = "F8_E4M3";
  replace("model.safetensors", parts.bytes());
  EXPECT_THAT(score(), HasSubstr("model.norm.weight: dtype F8_E4M3 is not supported"));
  parts.header = header;
  parts.header["model.norm.weight"]["dtype"] = "I32";
  replace("model.safetensors", parts.bytes());
  EXPECT_THAT(score(), HasSubstr("model.norm.weight: expected floating point"));
  parts.header = header;
  parts.header["model.norm.weight"]["dtype"] = "F64";
  replace("model.safetensors", parts.bytes());
  EXPECT_THAT(score(), HasSubstr("model.norm.weight: shape [32] of F64 needs 256 bytes, the file gives it 128"));
  parts.header = header;
  parts.header["model.norm.weight"]["shape"] = {4, 8};
  replace("model.safetensors", parts.bytes());
  EXPECT_THAT(score(), HasSubstr("model.norm.weight: expected shape [32], found [4, 8]"));
}

TEST_F(WrongInput, MissingTensorAndTensorNobodyWants) {
  Parts parts(weights());
  const Parts whole = parts;
  const auto begin = parts.header["model.norm.weight"]["data_offsets"][0].get<std::size_t>(), end = parts.data.size();
  parts.header.erase("model.norm.weight");  // the last of the file: nothing is left of it
  parts.data.resize(begin);
  replace("model.safetensors", parts.bytes());
  EXPECT_THAT(score(), AllOf(StartsWith(model().string()), HasSubstr("tensor model.norm.weight is missing")));
  parts = whole;
  parts.header["model.layers.0.self_attn.q_proj.bias"] = {
      {"dtype", "F32"}, {"shape", {32}}, {"data_offsets", {end, end + 128}}};
  parts.data += std::string(128, '\0');
  replace("model.safetensors", parts.bytes());
  EXPECT_THAT(score(), HasSubstr("tensor model.layers.0.self_attn.q_proj.bias has no place"));
}

TEST_F(WrongInput, MissingShard) {
  std::filesystem::rename(weights(), model() / "model-00001-of-00002.safetensors");
  const Parts parts(model() / "model-00001-of-00002.safetensors");
  Json map = Json::object();
  for (const auto& [name, entry] : parts.header.items()) {
    if (name != "__metadata__") map[name] = "model-00001-of-00002.safetensors";
  }
  map["model.norm.weight"] = "model-00002-of-00002.safetensors";
  replace("model.safetensors.index.json", Json({{"weight_map", map}}).dump());
  EXPECT_THAT(score(), HasSubstr("shard model-00002-of-00002.safetensors is missing"));
}

TEST_F(WrongInput, WeightsThatAreNotFinite) {
  for (const float value : {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()}) {
    Parts parts(weights());
    const auto at = parts.header["model.norm.weight"]["data_offsets"][0].get<std::size_t>();
    std::memcpy(parts.data.data() + at, &value, sizeof value);
    replace("model.safetensors", parts.bytes());
    EXPECT_THAT(score(), HasSubstr("model.norm.weight: holds NaN or infinite values"));
  }
}

TEST_F(WrongInput, MalformedJson) {
  replace("config.json", "{\n  \"model_type\": \"llama\",\n  \"vocab_size\": }\n");
  EXPECT_THAT(score(), StartsWith((model() / "config.json").string() + ":3:17: malformed JSON"));
  EXPECT_THAT(failure(3, {"inspect", model().string()}), HasSubstr("config.json:3:17: malformed JSON"));
}

TEST_F(WrongInput, UnknownKeysOfAConfig) {
  Json config = read_json(model() / "config.json");
  config["hidden_act"] = "gelu";
  write_json(model() / "config.json", config);
  EXPECT_THAT(score(), HasSubstr("hidden_act"));
}

TEST_F(WrongInput, MissingModels) {
  EXPECT_THAT(failure(3, {"inspect", "/no/such/model"}), StartsWith("/no/such/model: no such file or folder"));
  EXPECT_THAT(failure(3, {"inspect", folder_.path().string()}), HasSubstr("holds no config.json; a model is a"));
  folder_.write("lone/weights.gguf", "GGUF");
  EXPECT_THAT(failure(3, {"inspect", (folder_ / "lone").string()}),
              AllOf(HasSubstr("its GGUF file is a model"), HasSubstr("weights.gguf")));
  const auto config = folder_.write_config("lost.json", R"({"model": {"path": "/no/such/model"}})");
  for (const char* command : {"run", "check"})
    EXPECT_THAT(failure(3, {command, config.string()}),
                HasSubstr("model.path = /no/such/model: no such file or folder"));
}

TEST_F(WrongInput, AModelIsNotConvertedIntoItself) {
  const auto before = read_file(model() / "config.json");
  EXPECT_THAT(failure(2, {"convert", "--model", model().string(), "--output", (model() / ".").string(), "--rope",
                          "high", "--pairs", "1", "--d-kv", "2"}),
              HasSubstr("is the source model itself; name another folder"));
  EXPECT_EQ(read_file(model() / "config.json"), before);
}

TEST_F(WrongInput, ConfigsOfAConversionAreNamed) {
  const auto config = folder_.write_config("typo.json", R"({"compres": []})");
  EXPECT_THAT(failure(2, {"convert", config.string(), "--output", (folder_ / "out").string()}),
              HasSubstr("typo.json: compres: unknown key; did you mean 'compress'?"));
}

TEST_F(WrongInput, CachesAreNamedByTheirCodecs) {
  EXPECT_THAT(failure(2, {"generate", "--model", model().string(), "--prompt", "a", "--cache", "/no/such"}),
              HasSubstr("--cache = /no/such: expected plain, a codec and its bits, such as hqq4"));
  const std::string long_name(100'000, 'a');
  const std::string line = failure(2, {"generate", "--model", model().string(), "--prompt", "a", "--cache", long_name});
  EXPECT_THAT(line, HasSubstr("--cache.codec"));
  EXPECT_LT(line.size(), 1000);
}

TEST_F(WrongInput, TokenIds) {
  EXPECT_THAT(score(R"({"ids": [[1, 2], [3, 265]]})"),
              HasSubstr("wrong.json: ids[1][1] = 265: outside the model's vocabulary, 0..264"));
  EXPECT_THAT(score(R"({"ids": [[-1]]})"), HasSubstr("ids[0][0] = -1: outside"));
  EXPECT_THAT(score(R"({"ids": [[1], []]})"), HasSubstr("wrong.json: ids[1] is empty"));
  EXPECT_THAT(score(R"({"ids": [[1, 2.5]]})"),
              HasSubstr("wrong.json: ids[0][1]: expected an integer, found a number 2.5"));
  EXPECT_THAT(score(R"({"ids": [[1, "a"]]})"), HasSubstr("ids[0][1]: expected an integer"));
  EXPECT_THAT(score(R"({"ids": [[99999999999]]})"), HasSubstr("ids[0][0]: 99999999999 is outside"));
  EXPECT_THAT(score(R"({"ids": 5})"), HasSubstr("ids: expected an array"));
  EXPECT_THAT(score(R"({"last": 1})"), HasSubstr("key ids is missing"));
  EXPECT_THAT(score(R"({"ids": [[1]], "lsat": 1})"), HasSubstr("lsat: unknown key; did you mean 'last'?"));
  EXPECT_THAT(score(R"({"ids": [[1]], "last": -1})"), HasSubstr("last = -1: must be at least 0"));
  EXPECT_THAT(score("{\"ids\": [[1,]]}"), HasSubstr("wrong.json:1:13: malformed JSON"));
}

TEST_F(WrongInput, Texts) {
  EXPECT_THAT(evaluate(3, folder_ / "none.txt"), HasSubstr("none.txt"));
  EXPECT_THAT(evaluate(3, folder_.write("empty.txt", "")), HasSubstr("empty.txt"));
  EXPECT_THAT(evaluate(3, folder_.write("blank.txt", " \n\n")), HasSubstr("blank.txt"));
  EXPECT_THAT(evaluate(3, folder_.write("single.json", R"({"ids": [[1], [2]]})")),
              HasSubstr("single.json: nothing to score"));
  EXPECT_THAT(evaluate(3, folder_.write("large.json", R"({"ids": [[1, 300]]})")),
              HasSubstr("ids[0][1] = 300: outside"));
}

TEST_F(WrongInput, TokenizerThatDoesNotFit) {
  test::write_tiny_model(model(), test::kTinyTokens - 1);
  const std::string sizes = "the token 'ab' has the id 264, but the model has embeddings for the ids 0 to 263";
  EXPECT_THAT(evaluate(3, text_), HasSubstr(sizes));
  EXPECT_THAT(failure(3, {"generate", "--model", model().string(), "--prompt", "ab"}), HasSubstr(sizes));
  const std::string fitting = folder_.write("fitting.txt", "b a b\n").string();  // Without that token.
  EXPECT_EQ(run_program({"evaluate", "--model", model().string(), "--perplexity", fitting}).exit_code, 0);
  std::filesystem::remove(model() / "tokenizer.json");
  EXPECT_THAT(evaluate(3, text_), HasSubstr("no tokenizer"));
}

TEST_F(WrongInput, Values) {
  EXPECT_THAT(evaluate(2, text_, {"--stride", "9", "--context", "8"}), HasSubstr("stride"));
  EXPECT_THAT(evaluate(2, text_, {"--dtype", "flaot64"}), StartsWith("--dtype: no 'flaot64'; did you mean 'float64'?"));
  const std::vector<std::string> generate = {"generate", "--model", model().string(), "--prompt", "ab"};
  const auto with = [&](std::vector<std::string> more) {
    more.insert(more.begin(), generate.begin(), generate.end());
    return failure(2, more);
  };
  EXPECT_THAT(with({"--path", "absorb"}), StartsWith("--path: no 'absorb'; did you mean 'absorbed'?"));
  EXPECT_THAT(with({"--top-p", "1.5"}), HasSubstr("top_p: 1.5 is outside"));
  EXPECT_THAT(with({"--temperature", "-1"}), HasSubstr("temperature: -1"));
  EXPECT_THAT(with({"--new-tokens", "0"}), HasSubstr("--new-tokens = 0: must be at least 1"));
}

TEST_F(WrongInput, OutputThatCannotBeWritten) {
  const std::string output = (text_ / "scores.json").string();
  EXPECT_THAT(failure(3, {"score", "--model", model().string(), "--ids", ids_.string(), "--output", output}),
              HasSubstr(text_.string()));
}

}  // namespace
}  // namespace mla
