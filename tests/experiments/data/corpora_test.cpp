// What commands do with texts that are packed or no text, with ids that the model does not have, and with caches that
// it cannot keep: the same numbers, or one line.
#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/model/safetensors.h"
#include "core/store/record.h"
#include "core/text/shard_writer.h"
#include "core/text/tokenizer.h"
#include "tests/support/packed_bytes.h"
#include "tests/support/run_program.h"
#include "tests/support/shared_data.h"
#include "tests/support/tiny_model_folder.h"

namespace mla {
namespace {

using test::run_program;
using testing::AllOf;
using testing::HasSubstr;

constexpr const char* kOutside = "outside the model's vocabulary, 0..264";

class Corpora : public testing::Test {
 protected:
  void SetUp() override { test::write_tiny_inputs(folder_); }

  std::string model() const { return (folder_ / "model").string(); }
  test::ProgramResult evaluate(const std::filesystem::path& file, std::vector<std::string> more = {}) const {
    more.insert(more.begin(),
                {"evaluate", "--model", model(), "--perplexity", file.string(), "--context", "32", "--json"});
    return run_program(more);
  }
  double perplexity(const std::filesystem::path& file, std::vector<std::string> more = {}) const {
    const auto result = evaluate(file, std::move(more));
    EXPECT_EQ(result.exit_code, 0) << result.err;
    return result.exit_code == 0 ? result.json()["perplexity"].get<double>() : 0;
  }
  static void expect_refused(const test::ProgramResult& result, int exit_code,
                             const testing::Matcher<std::string>& what) {
    EXPECT_EQ(result.exit_code, exit_code) << result.err;
    EXPECT_THAT(result.err, what);
    if (exit_code > 1) {
      EXPECT_EQ(result.out, "");
    }
  }
  /// A run that trains on `data`.
  test::ProgramResult train(const Json& data, const Json& more = Json::object()) const {
    Json train = {{"steps", 2}, {"batch_rows", 2}, {"sequence_length", 4}, {"learning_rate", 0.01}, {"data", data}};
    train.update(more);
    if (train.contains("mixture")) train.erase("data");
    Json config = {{"results", (folder_ / "results").string()}, {"train", train}, {"evaluate", Json::array()}};
    config["model"]["path"] = model();
    auto result =
        run_program({"run", folder_.write("train.json", config.dump()).string(), "--force", "--quiet", "--json"});
    if (result.exit_code == 1) result.err = result.out;  // a cell's message stands in the report, and in the log
    return result;
  }
  static Json data_of(const std::filesystem::path& file) {
    Json data;
    data["files"] = Json::array({file.string()});
    return data;
  }

  test::TemporaryFolder folder_;
};

TEST_F(Corpora, PackedTextGivesTheNumbersOfPlainText) {
  const std::string lines = "{\"text\": \"ab abc ab cab\"}\n{\"text\": \"ba abc\"}\n";
  const double plain = perplexity(folder_.write("plain.jsonl", lines));
  EXPECT_EQ(perplexity(folder_.write("same.jsonl.gz", test::gzip(lines))), plain);
  EXPECT_EQ(perplexity(folder_.write("same.json.gz", test::gzip(lines))), plain);
  EXPECT_EQ(perplexity(folder_.write("same.jsonl.zst", test::zstd(lines))), plain);
  EXPECT_EQ(perplexity(folder_.write("same.jsonl.xz", test::xz(lines))), plain);
  EXPECT_EQ(perplexity(folder_.write("lines.json", lines)), plain);
  EXPECT_EQ(perplexity(folder_.write("objects.json", R"([{"text": "ab abc ab cab"}, {"text": "ba abc"}])")), plain);
  EXPECT_EQ(perplexity(folder_.write("other.jsonl", R"({"body": "ab abc ab cab"}
{"body": "ba abc"})"),
                       {"--field", "body"}),
            plain);
  const auto skipping = evaluate(folder_.write("bad.jsonl", lines + "{\"text\": null}\n{\"te"), {"--skip-bad-lines"});
  ASSERT_EQ(skipping.exit_code, 0) << skipping.err;
  EXPECT_EQ(skipping.json()["perplexity"], plain);
  EXPECT_EQ(skipping.json()["skipped_lines"], 2);
}

TEST_F(Corpora, EveryCommandRefusesWhatIsNoText) {
  const std::string parquet = folder_.write("made_up.parquet", "PAR1" + std::string(50, '\0')).string();
  const auto refused = AllOf(HasSubstr("made_up.parquet: a Parquet file, not UTF-8 text"), HasSubstr("JSON lines"));
  const std::string output = (folder_ / "out").string();
  expect_refused(evaluate(parquet), 3, refused);
  expect_refused(train(data_of(parquet)), 1, refused);
  for (const std::vector<std::string>& command : std::vector<std::vector<std::string>>{
           {"convert", "--model", model(), "--output", output, "--pairs", "1", "--d-kv", "4", "--calibration", parquet},
           {"pack", "--tokenizer", model(), "--output", output + ".mlat", parquet},
           {"distance", "--model", model(), "--source", model(), "--text", parquet},
           {"distance", "--model", model(), "--source", model(), "--items", parquet},
           {"tokenize", "--tokenizer", model(), "--input", parquet},
           {"requests", parquet, "--tokenizer", model()},
           {"generate", "--model", model(), "--prompt", "a", "--new-tokens", "4", "--cache", "kvquant4", "--calibration",
            parquet},
           {"score-predictions", "--task", "narrativeqa", parquet}}) {
    expect_refused(run_program(command), 3, refused);
  }
}

TEST_F(Corpora, CompressedTrainingTextGivesTheSameModel) {
  std::string text;
  for (int i = 0; i < 200; ++i) text += "ab abc ab cab ba\n";
  const auto loss = [&](const std::filesystem::path& file) {
    const auto result = train(data_of(file));
    EXPECT_EQ(result.exit_code, 0) << result.err;
    return read_record(result.json()["cells"][0]["record"].get<std::string>()).training.loss;
  };
  EXPECT_EQ(loss(folder_.write("plain.txt", text)), loss(folder_.write("packed.txt.gz", test::gzip(text))));
}

TEST_F(Corpora, IdsOutsideTheVocabularyAreErrorsWhereverTheyEnter) {
  const std::string ids = folder_.write("ids.json", R"({"ids": [[1, 2, 3, 4, 5, 6], [1, 2, 999999999]]})").string();
  const auto named = AllOf(HasSubstr("ids.json: ids[1][2] = 999999999: "), HasSubstr(kOutside));
  for (const char* packing : {"packed", "rows", "shuffled_rows"}) {
    expect_refused(train(data_of(ids), {{"packing", packing}}), 1, named);
  }
  expect_refused(train(data_of(ids), {{"document_boundaries", "masked"}}), 1, named);
  Json mixture, source;
  source["weight"] = 1;
  source["data"] = data_of(ids);
  mixture["mixture"] = Json::array({source});
  expect_refused(train({}, mixture), 1, named);
  expect_refused(evaluate(ids), 3, named);
  expect_refused(evaluate(ids, {"--cache", "rtn4"}), 3, named);
  expect_refused(evaluate(folder_ / "text.txt", {"--cache", "kvquant4", "--calibration", ids}), 3, named);
  for (const std::vector<std::string>& command :
       std::vector<std::vector<std::string>>{{"score", "--model", model(), "--ids", ids},
                                             {"distance", "--model", model(), "--source", model(), "--text", ids},
                                             {"convert", "--model", model(), "--output", (folder_ / "out").string(),
                                              "--pairs", "1", "--d-kv", "4", "--calibration", ids}}) {
    expect_refused(run_program(command), 3, named);
  }
  expect_refused(evaluate(folder_.write("negative.json", R"({"ids": [[1, -2]]})")), 3,
                 HasSubstr("ids[0][1]: expected an id"));
}

TEST_F(Corpora, IdsOfTensorsAreNotCutToFit) {
  const auto file = folder_ / "rows.safetensors";
  Json data_x = data_of(file);
  data_x["tensors"] = "x";
  const auto refused = [&](std::int64_t id, const std::string& what) {
    write_safetensors(file,
                      {{"x_ids", at::tensor(std::vector<std::int64_t>{1, 2, 3, 4, 5, id}, at::kLong).view({1, 6})}});
    expect_refused(train(data_x), 1, HasSubstr(what));
  };
  refused((std::int64_t{1} << 32) + 5, "rows.safetensors: x_ids[0][5] = 4294967301: expected an id");
  refused(-1, "x_ids[0][5] = -1: expected an id");
  refused(265, std::string("rows.safetensors: x_ids[0][5] = 265: ") + kOutside);
  write_safetensors(file, {{"x_ids", at::tensor(std::vector<std::int64_t>{1, 2, 3, 4, 5, -1}, at::kLong).view({1, 6})},
                           {"x_len", at::tensor(std::vector<std::int64_t>{5}, at::kLong)}});
  EXPECT_EQ(train(data_x).exit_code, 0);  // padding is no token
}

TEST_F(Corpora, ShardsOfATokenizerWithMoreIdsAreSearched) {
  const auto tokenizer = load_tokenizer(model());
  const auto file = folder_ / "wide.mlat";
  ShardWriter writer(file, 400, tokenizer->content_hash());
  writer.add(std::vector<std::int32_t>{1, 2, 3, 4, 5, 6}, 6);
  writer.add(std::vector<std::int32_t>{1, 300}, 2);
  writer.finish();
  const std::string what = std::string("wide.mlat: document 1, token 1: id 300 is ") + kOutside;
  expect_refused(train(data_of(file)), 1, HasSubstr(what));
  expect_refused(evaluate(file), 3, HasSubstr(what));
}

TEST_F(Corpora, CachesThatAModelCannotKeepAreRefusedBeforeItIsRead) {
  std::filesystem::remove(folder_ / "model/model.safetensors");  // reading it would be another error
  const auto generate = [&](const std::string& cache) {
    return run_program({"generate", "--model", model(), "--prompt", "ab", "--new-tokens", "4", "--cache", cache});
  };
  expect_refused(generate("kvquant4"), 2,
                 HasSubstr("--cache: kvquant4 needs a calibration on text; name it with --calibration"));
  expect_refused(generate("kivi2"), 2, AllOf(HasSubstr("layer 0, value"), HasSubstr("sizes that do: ")));
  expect_refused(evaluate(folder_ / "text.txt", {"--cache", "kvquant4"}), 2, HasSubstr("--calibration is missing"));
  expect_refused(evaluate(folder_ / "text.txt", {"--cache", "kivi2"}), 2,
                 AllOf(HasSubstr("--cache: layer 0, value"), HasSubstr("sizes that do: ")));
  const auto bench = [&](const std::string& cache) {
    return run_program({"bench", "--model", model(), "--context", "8", "--new-tokens", "4", "--cache", cache});
  };
  expect_refused(bench("kvquant4"), 2, HasSubstr("cache: kvquant4 needs a calibration"));
  expect_refused(bench("kivi2"), 2, HasSubstr("sizes that do: "));
  Json config = {{"results", (folder_ / "results").string()}, {"evaluate", Json::array()}};
  config["model"]["path"] = model();
  config["cache"]["codec"]["name"] = "kivi";
  expect_refused(run_program({"check", folder_.write("cached.json", config.dump()).string()}), 2,
                 HasSubstr("cache: layer 0, value: "));
}

TEST_F(Corpora, KvQuantDecodesWhereItIsCalibrated) {
  const std::string text = (folder_ / "text.txt").string();
  const auto generated =
      run_program({"generate", "--model", model(), "--prompt", "ab", "--new-tokens", "4", "--cache",
                   R"({"codec": {"name": "kvquant", "bits": 4}, "residual": 0})", "--calibration", text, "--json"});
  EXPECT_EQ(generated.exit_code, 0) << generated.err;
  const auto config = folder_.write(
      "bench.json", Json{{"model", model()}, {"results", (folder_ / "results").string()}, {"repeats", 1}}.dump());
  const auto measured = run_program({"bench", config.string(), "--context", "8", "--new-tokens", "4", "--cache",
                                     "kvquant4", "--calibration", text, "--json"});
  EXPECT_EQ(measured.exit_code, 0) << measured.err;
}

TEST_F(Corpora, TheCasesOfTheSharedFolderAreRight) {
  const std::string cases = "data/cases", weights = "data/weights/tinystories-656k";
  MLA_NEEDS_SHARED(cases);
  MLA_NEEDS_SHARED(weights);
  const auto file = [&](const std::string& name) { return test::shared_folder() / cases / name; };
  const auto run = [&](const std::string& name) {
    return run_program({"evaluate", "--model", (test::shared_folder() / weights).string(), "--perplexity",
                        file(name).string(), "--context", "64", "--json"});
  };
  const std::string packed = "14-compressed-or-binary-corpora-read-as-text/", fields = "15-jsonl-messages/";
  const auto plain = run(packed + "plain.jsonl"), same = run(packed + "same.jsonl.gz");
  ASSERT_EQ(plain.exit_code, 0) << plain.err;
  ASSERT_EQ(same.exit_code, 0) << same.err;
  EXPECT_EQ(same.json()["perplexity"], plain.json()["perplexity"]);
  EXPECT_EQ(run(fields + "lines.json").exit_code, 0);
  EXPECT_EQ(run(fields + "objects.json").exit_code, 0);
  expect_refused(run(fields + "null.jsonl"), 3, AllOf(HasSubstr("found null there"), HasSubstr("--skip-bad-lines")));
  expect_refused(run(fields + "other_field.jsonl"), 3, AllOf(HasSubstr("content"), HasSubstr("jsonl_field")));
}

}  // namespace
}  // namespace mla
