// mlaforge bench on a model that takes no time.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/base/numerics_version.h"
#include "core/base/statistics.h"
#include "core/store/record.h"
#include "tests/support/run_program.h"

namespace mla {
namespace {

using test::run_program;

Json small_config(const test::TemporaryFolder& folder) {
  return {{"name", "small"},
          {"results", (folder / "results").string()},
          {"geometry",
           {{"model_type", "llama"},
            {"vocab_size", 50},
            {"hidden_size", 32},
            {"intermediate_size", 48},
            {"num_hidden_layers", 2},
            {"num_attention_heads", 4},
            {"num_key_value_heads", 2},
            {"head_dim", 8},
            {"max_position_embeddings", 64},
            {"rms_norm_eps", 1e-6},
            {"rope_theta", 10000},
            {"tie_word_embeddings", true}}},
          {"models",
           {{{"name", "source"}},
            {{"name", "latent"},
             {"compress",
              {{{"name", "mha2mla"},
                {"rope", {{"name", "high"}, {"pairs", 1}}},
                {"low_rank", {{"name", "joint_svd"}, {"d_kv", 4}}}}}}}}},
          {"sweeps",
           {{{"batch", {1, 2}},
             {"context", {9}},
             {"new_tokens", {4}},
             {"cache",
              {Json::object(), {{"codec", {{"name", "rtn"}, {"bits", 4}, {"group_size", 4}}}, {"residual", 0}}}}}}},
          {"warm_up", 1},
          {"repeats", 2}};
}

TEST(Bench, MeasuresEveryCellAndRecordsIt) {
  const test::TemporaryFolder folder;
  const Json config = small_config(folder);
  const auto result = run_program({"bench", folder.write("bench.json", config.dump()).string(), "--json"});
  ASSERT_EQ(result.exit_code, 0) << result.err;
  const Json report = result.json();
  ASSERT_EQ(report["cells"].size(), 8);
  EXPECT_GT(report["bytes_per_second"].get<double>(), 0);
  for (const Json& cell : report["cells"]) {
    const std::int64_t batch = cell["batch"], tokens = batch * (9 + 3);
    EXPECT_EQ(cell["cached_tokens"], tokens);
    EXPECT_EQ(cell["cache_bytes"], cell["predicted_cache_bytes"]);
    const bool latent = cell["model"] == "latent", plain = cell["cache"]["codec"].is_null();
    const std::int64_t elements = latent ? 2 * (2 * 2 + 2 * 4) : 64;
    if (plain) {
      EXPECT_EQ(cell["cache_bytes"], tokens * elements * 4);
    }
    if (!plain) {
      EXPECT_LT(cell["cache_bytes"].get<std::int64_t>(), tokens * elements * 4);
    }
    for (const char* key : {"first_ms", "token_ms", "tokens_per_second", "peak_bytes", "step_bytes", "step_operations",
                            "bandwidth_share", "compute_share", "prefill_compute_share"}) {
      EXPECT_GT(cell[key].get<double>(), 0) << key;
    }
    const RunRecord record =
        read_record(folder / "results" / "small" /
                    ("model=" + cell["model"].get<std::string>() + "," + cell["cell"].get<std::string>() + ".h5"));
    EXPECT_EQ(record.overrides["batch"], batch);
    EXPECT_EQ(record.provenance.numerics_version, kNumericsVersion);
    EXPECT_EQ(record.provenance.device, "cpu");
    for (const char* library : {"libtorch", "hdf5", "openmp", "libtorch_instruction_set", "kernels_instruction_set"}) {
      const std::string version = record.provenance.libraries.value(library, "");
      EXPECT_TRUE(!version.empty() && version != "none") << library;
    }
    ASSERT_EQ(record.cache.size(), 1);
    EXPECT_EQ(record.cache[0].counted_bytes, cell["cache_bytes"]);
    EXPECT_EQ(record.cache[0].predicted_bytes, cell["cache_bytes"]);
    for (const ScoreRecord& score : record.evaluation) {
      EXPECT_EQ(score.stage, latent ? "converted" : "source");
      if (score.metric == "time_per_token") {
        EXPECT_EQ(score.per_sample.size(), 2 * 3);
        EXPECT_EQ(score.group_sizes, (std::vector<std::int64_t>{3, 3})) << "steps of one run depend on each other";
        ASSERT_TRUE(score.spread && score.standard_error);
        EXPECT_NEAR(*score.standard_error, grouped_quantile(score.per_sample, score.group_sizes, 0.5).standard_error,
                    1e-12);
      }
      if (score.metric == "time_to_first_token") {
        EXPECT_EQ(score.per_sample.size(), 2);
      }
    }
  }
}

TEST(Bench, OptionsTakeTheConfigsPlace) {
  const test::TemporaryFolder folder;
  Json config = small_config(folder);
  config["prefill"] = false;
  const auto result = run_program({"bench",        folder.write("bench.json", config.dump()).string(),
                                   "--batch",      "3",
                                   "--context",    "5,7",
                                   "--new-tokens", "2",
                                   "--path",       "expanded",
                                   "--repeats",    "1",
                                   "--warm-up",    "0",
                                   "--cache",      "plain",
                                   "--cache",      R"({"codec": {"name": "quanto", "bits": 4, "group_size": 4}})",
                                   "--set",        "models=[{\"name\": \"source\"}]"});
  ASSERT_EQ(result.exit_code, 0) << result.err;
  EXPECT_THAT(result.out, testing::HasSubstr("batch=3,context=7,new_tokens=2,path=expanded,cache=plain"));
  EXPECT_THAT(result.out, testing::HasSubstr("batch=3,context=7,new_tokens=2,path=expanded,cache=quanto4"));
}

/// Rows for passes that measure data.
Json small_rows() {
  Json rows = Json::array();
  for (int row = 0; row < 4; ++row) {
    Json ids = Json::array();
    for (int i = 0; i < 24; ++i) ids.push_back((7 * i + 11 * row + i * i) % 50);
    rows.push_back(ids);
  }
  return {{"ids", rows}};
}

TEST(Bench, MethodsThatMeasureDataAreConvertedFirst) {
  const test::TemporaryFolder folder;
  Json config = small_config(folder);
  config["calibration"] = folder.write("rows.json", small_rows().dump()).string();
  config["models"] = {
      {{"name", "mkla"}, {"compress", {{{"name", "mkla"}, {"cached", 16}}}}},
      {{"name", "saap"}, {"compress", {{{"name", "saap"}, {"heads", 0.5}, {"channels", 0.25}}}}},
      {{"name", "billm"}, {"compress", {{{"name", "billm"}}}}},
      {{"name", "kv_heads"}, {"compress", {{{"name", "kv_heads"}, {"kv_heads", 1}, {"keys", "unrotated"}}}}},
      {{"name", "chain"},
       {"compress",
        {{{"name", "transmla"}, {"cached", 12}, {"collapse", 1}, {"fold", 1}}, {{"name", "refit_output"}}}}}};
  config["sweeps"] = {{{"batch", {2}}, {"context", {9}}, {"new_tokens", {4}}}};
  const auto result =
      run_program({"bench", folder.write("bench.json", config.dump()).string(), "--calibration-rows", "3", "--json"});
  ASSERT_EQ(result.exit_code, 0) << result.err;
  const Json report = result.json();
  std::map<std::string, Json> by_model;
  for (const Json& cell : report["cells"]) {
    by_model[cell["model"]] = cell;
    EXPECT_EQ(cell["cache_bytes"], cell["predicted_cache_bytes"]) << cell["model"];
    EXPECT_EQ(cell["weight_bytes"], cell["predicted_weight_bytes"]) << cell["model"];
    EXPECT_GT(cell["token_ms"].get<double>(), 0) << cell["model"];
  }
  ASSERT_EQ(by_model.size(), 5u);
  const std::int64_t tokens = 2 * (9 + 3), layers = 2, bytes = 4;
  EXPECT_EQ(by_model["mkla"]["cache_bytes"], tokens * layers * 16 * bytes);
  EXPECT_EQ(by_model["saap"]["cache_bytes"], tokens * layers * 16 * bytes) << "half of the KV heads";
  EXPECT_EQ(by_model["billm"]["cache_bytes"], tokens * layers * 32 * bytes) << "weights alone";
  EXPECT_EQ(by_model["kv_heads"]["cache_bytes"], tokens * layers * 16 * bytes);
  EXPECT_EQ(by_model["chain"]["cache_bytes"], tokens * layers * 12 * bytes);
  EXPECT_LT(by_model["billm"]["weight_bytes"], by_model["saap"]["weight_bytes"]);
  const RunRecord record =
      read_record(folder / "results" / "small" / "model=mkla,batch=2,context=9,new_tokens=4,path=auto,cache=plain.h5");
  EXPECT_EQ(record.provenance.data_hashes.count("calibration"), 1u);
}

TEST(Bench, RefusesWhatCannotBe) {
  const test::TemporaryFolder folder;
  const auto error = [&](const char* pointer, const Json& value, std::vector<std::string> more = {}) {
    Json config = small_config(folder);
    config[Json::json_pointer(pointer)] = value;
    more.insert(more.begin(), {"bench", folder.write("bench.json", config.dump()).string()});
    const auto result = run_program(more);
    EXPECT_EQ(result.exit_code, 2) << result.err;
    return result.err;
  };
  EXPECT_THAT(error("/sweeps/0/batch", {0}), testing::HasSubstr("sweeps[0].batch[0]: 0 is less than 1"));
  EXPECT_THAT(error("/sweeps/0/batch", Json::array()), testing::HasSubstr("sweeps[0].batch: an empty list"));
  EXPECT_THAT(error("/sweeps/0/context", {70}), testing::HasSubstr("are more than the model's context of 64"));
  EXPECT_THAT(error("/sweeps/0/cache", {{{"codec", {{"name", "hqqq"}}}}}), testing::HasSubstr("did you mean 'hqq'?"));
  EXPECT_THAT(error("/sweeps/0/cache", {{{"codec", {{"name", "rtn"}, {"bits", 4}, {"group_size", 5}}}}}),
              testing::HasSubstr("group_size"));
  EXPECT_THAT(error("/sweeps/0/path", {"fast"}), testing::HasSubstr("sweeps[0].path[0]: no 'fast'"));
  EXPECT_THAT(error("/model", "somewhere"), testing::HasSubstr("model, geometry: name one of the two"));
  EXPECT_THAT(error("/repeats", 0), testing::HasSubstr("repeats: 0 is less than 1"));
  EXPECT_THAT(error("/calibration_rows", 0), testing::HasSubstr("calibration_rows: 0 is less than 1"));
  EXPECT_THAT(error("/models/1/compress", {{{"name", "mkla"}, {"cached", 16}}}),
              testing::HasSubstr("models[1].compress[0]: mkla measures the model on data; name a text file"));
  EXPECT_THAT(
      error("/models/1/compress", {{{"name", "saap"}}}, {"--calibration", folder.write("a.txt", "text").string()}),
      testing::HasSubstr("a model of random weights has no tokenizer"));
  EXPECT_THAT(error("/warm_up", 0, {"--batch", "1,,2"}),
              testing::HasSubstr("--batch 1,,2: expected a whole number from 1 on, or several"));
}

}  // namespace
}  // namespace mla
