// What is said of memory before training is what training takes.
#include "experiments/sweep/memory_estimate.h"

#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <numeric>
#include <thread>

#include "core/device/counted_memory.h"
#include "core/model/initialize.h"
#include "core/train/batches.h"
#include "tests/support/attention_models.h"
#include "tests/support/errors.h"
#include "tests/support/run_program.h"
#include "tests/support/tiny_model_folder.h"

namespace mla {
namespace {

using testing::HasSubstr;

constexpr double kTenPercent = 0.1;
constexpr std::int64_t kRowTokens = 96, kRowsAPass = 4;

/// Large enough that what is small everywhere does not decide.
ModelSpec mid_spec(const std::string& tiny) {
  UniformModel model = test::tiny_model(tiny);
  model.model.vocabulary = 3000;
  model.model.hidden = 192;
  model.model.rope_dim = 32;
  model.model.max_positions = 256;
  model.heads.heads = 6;
  model.heads.kv_heads = tiny == "gqa" ? 2 : 6;
  model.heads.head_dim = 32;
  model.feed_forward.width = 512;
  model.layers = 4;
  return model.spec();
}

ModelSpec with_latent(ModelSpec spec) {
  const auto pass = Registry<Pass>::instance().make(
      Json::parse(R"({"name": "mha2mla", "rope": {"name": "high", "pairs": 4}, "low_rank": {"name": "joint_svd",
                      "d_kv": 16}})"),
      "pass");
  return pass->plan(spec);
}

TrainOptions options_of(std::int64_t accumulation, bool checkpointed) {
  TrainOptions options;
  options.steps = 2;
  options.batch_rows = kRowsAPass;
  options.accumulation = accumulation;
  options.sequence_length = kRowTokens;
  options.checkpoint_activations = checkpointed;
  return options;
}

std::vector<std::vector<std::int32_t>> training_rows() {
  std::vector<std::vector<std::int32_t>> rows(8);
  for (std::size_t i = 0; i < rows.size(); ++i) {
    for (std::int64_t t = 0; t < kRowTokens; ++t) rows[i].push_back(static_cast<std::int32_t>((7 * t + 13) % 2999));
  }
  return rows;
}

/// One of several processes, of which the others are not there: nothing comes from them, and their weights are small.
class OneOfSeveral final : public Collective {
 public:
  OneOfSeveral(std::int64_t rank, std::int64_t size) : rank_(rank), size_(size) {}
  std::int64_t rank() const override { return rank_; }
  std::int64_t size() const override { return size_; }
  std::int64_t local_size() const override { return size_; }
  void sum_in_place(const at::Tensor&) override {}
  void broadcast(const at::Tensor&) override {}
  void sum_parts(const at::Tensor& values, const std::vector<std::int64_t>& counts, const at::Tensor& own) override {
    if (values.nbytes() >= kLongMessage) std::this_thread::sleep_for(kItTakes);
    own.copy_(values.narrow(0, before(counts), own.numel()));
  }
  void share_parts(const at::Tensor& values, const std::vector<std::int64_t>& counts) override {
    const std::int64_t begin = before(counts), end = begin + counts[static_cast<std::size_t>(rank_)];
    values.narrow(0, 0, begin).fill_(0.01);
    values.narrow(0, end, values.numel() - end).fill_(0.01);
  }
  GroupFailure settle(int exit_code, bool) override { return {rank_, exit_code, true}; }

 private:
  // So that something is under way while the pass goes on.
  static constexpr std::size_t kLongMessage = std::size_t{1} << 20;
  static constexpr std::chrono::milliseconds kItTakes{30};

  std::int64_t before(const std::vector<std::int64_t>& counts) const {
    return std::accumulate(counts.begin(), counts.begin() + rank_, std::int64_t{0});
  }
  std::int64_t rank_, size_;
};

/// Bytes that training held at once, the model included.
std::int64_t measured_peak(const ModelSpec& spec, const TrainOptions& options, Products products = Products::kFloat32,
                           Collective& processes = single_process()) {
  const auto rows = training_rows();
  const CountedMemory memory;
  Decoder decoder = initialize_decoder(spec, 1);
  decoder.products = products;
  RowBatches batches(rows);
  train(decoder, batches, options, {.processes = &processes});
  return memory.peak();
}

TEST(MemoryEstimate, IsWhatTrainingTakes) {
  for (const ModelSpec& spec :
       {mid_spec("gqa"), mid_spec("mha"), with_latent(mid_spec("mha")), with_latent(mid_spec("gqa"))}) {
    for (const bool checkpointed : {false, true}) {
      for (const std::int64_t accumulation : {1, 2}) {
        SCOPED_TRACE(cat(spec.attention(0).kind(), spec.tied_embeddings ? ", tied" : "",
                         checkpointed ? ", checkpointed" : "", ", accumulation ", accumulation));
        const TrainOptions options = options_of(accumulation, checkpointed);
        const auto there = static_cast<double>(measured_peak(spec, options));
        const MemoryEstimate estimate = estimate_training(spec, options, kRowTokens, 1, 0);
        EXPECT_NEAR(static_cast<double>(estimate.total()), there, kTenPercent * there) << to_json(estimate).dump();
      }
    }
  }
}

TEST(MemoryEstimate, OfProductsInBFloat16HasActivationsOfHalfTheSize) {
  for (const ModelSpec& spec : {mid_spec("gqa"), with_latent(mid_spec("mha"))}) {
    for (const bool checkpointed : {false, true}) {
      SCOPED_TRACE(cat(spec.attention(0).kind(), checkpointed ? ", checkpointed" : ""));
      const TrainOptions options = options_of(2, checkpointed);
      const auto there = static_cast<double>(measured_peak(spec, options, Products::kBFloat16));
      const MemoryEstimate estimate = estimate_training(spec, options, kRowTokens, 1, 0, Products::kBFloat16);
      EXPECT_NEAR(static_cast<double>(estimate.total()), there, kTenPercent * there) << to_json(estimate).dump();
      EXPECT_LT(there, (checkpointed ? 1.05 : 0.9) * static_cast<double>(measured_peak(spec, options)));
    }
  }
}

TEST(MemoryEstimate, IsWhatOneOfSeveralProcessesTakes) {
  for (const ModelSpec& spec : {mid_spec("gqa"), mid_spec("mha")}) {
    for (const auto& [name, shard] : enum_names(Shard())) {
      for (const bool overlap : {true, false}) {
        for (const std::int64_t accumulation : {1, 4}) {
          SCOPED_TRACE(cat(spec.tied_embeddings ? "tied, " : "", name, overlap ? ", overlap" : "", ", accumulation ",
                           accumulation));
          TrainOptions options = options_of(accumulation, false);
          options.shard = shard;
          options.overlap = overlap;
          OneOfSeveral first(0, 2), last(1, 2);
          std::int64_t peak = measured_peak(spec, options, Products::kFloat32, last);
          // Of layers' weights one has more than the other.
          if (shard == Shard::kWeights) peak = std::max(peak, measured_peak(spec, options, Products::kFloat32, first));
          const auto there = static_cast<double>(peak);
          const MemoryEstimate estimate = estimate_training(spec, options, kRowTokens, 2, 0);
          EXPECT_NEAR(static_cast<double>(estimate.total()), there, kTenPercent * there) << to_json(estimate).dump();
        }
      }
    }
  }
}

TEST(MemoryEstimate, OfSomeParametersIsSmaller) {
  const ModelSpec spec = mid_spec("gqa");
  TrainOptions options = options_of(1, true);
  options.trainable = "attention";
  const auto there = static_cast<double>(measured_peak(spec, options));
  const MemoryEstimate estimate = estimate_training(spec, options, kRowTokens, 1, 0);
  EXPECT_NEAR(static_cast<double>(estimate.total()), there, kTenPercent * there) << to_json(estimate).dump();
}

TEST(MemoryEstimate, OfAdaptersIsWhatTheyTake) {
  for (const ModelSpec& spec : {mid_spec("gqa"), with_latent(mid_spec("mha"))}) {
    for (const char* maps : {"all", "attention"}) {
      for (const bool checkpointed : {false, true}) {
        SCOPED_TRACE(cat(spec.attention(0).kind(), ", ", maps, checkpointed ? ", checkpointed" : ""));
        TrainOptions options = options_of(2, checkpointed);
        options.lora = LoraOptions{.rank = 4, .maps = maps};
        const auto there = static_cast<double>(measured_peak(spec, options));
        const MemoryEstimate estimate = estimate_training(spec, options, kRowTokens, 1, 0);
        EXPECT_NEAR(static_cast<double>(estimate.total()), there, kTenPercent * there) << to_json(estimate).dump();
      }
    }
  }
}

std::int64_t item(const MemoryEstimate& estimate, const std::string& name) {
  for (const auto& [one, bytes] : estimate.items) {
    if (one == name) return bytes;
  }
  ADD_FAILURE() << name;
  return 0;
}

TEST(MemoryEstimate, FallsWithProcessesAsShardsSay) {
  const ModelSpec spec = mid_spec("mha");
  TrainOptions options = options_of(4, false);  // four passes of one process, two of each of two
  const std::int64_t parameters = 4 * count_parameters(spec).total();
  const auto of = [&](Shard shard, std::int64_t ranks) {
    options.shard = shard;
    return estimate_training(spec, options, kRowTokens, ranks, 0);
  };
  EXPECT_EQ(item(of(Shard::kNone, 4), "optimizer states"), 2 * parameters);
  EXPECT_EQ(item(of(Shard::kOptimizer, 4), "optimizer states"), parameters / 2);
  EXPECT_EQ(item(of(Shard::kOptimizer, 1), "optimizer states"), 2 * parameters);
  EXPECT_LT(of(Shard::kGradients, 2).total(), of(Shard::kOptimizer, 2).total());
  EXPECT_LT(of(Shard::kOptimizer, 2).total(), of(Shard::kNone, 2).total());
  // What is in layers falls to a part, one layer that is put together and, where exchanges overlap, the next one.
  const auto weights = [&](std::int64_t ranks) { return item(of(Shard::kWeights, ranks), "weights"); };
  const std::int64_t layer = 4 * (4 * 192 * 192 + 3 * 192 * 512 + 2 * 192);
  EXPECT_EQ(weights(1), parameters);
  EXPECT_EQ(weights(4), parameters - 4 * layer + parameters / 4 + 2 * layer) << "whose part has layers alone";
  const std::int64_t besides = parameters / 2 - 4 * 3000 * 192;  // the embedding in one of two parts
  EXPECT_EQ(weights(2), parameters - 4 * layer + besides + 2 * layer);
  options.overlap = false;
  EXPECT_EQ(weights(4), parameters - 4 * layer + parameters / 4 + layer);
  EXPECT_EQ(weights(2), parameters - 4 * layer + besides + layer);
  options.overlap = true;
  EXPECT_LT(of(Shard::kWeights, 4).total(), of(Shard::kGradients, 4).total());
  EXPECT_LT(item(of(Shard::kNone, 8), "activations"), item(of(Shard::kNone, 1), "activations"));
  EXPECT_THAT(test::message_of<ConfigError>([&] { of(Shard::kNone, 17); }),
              HasSubstr("16 rows a step cannot be shared by 17 processes"));
}

TEST(CheckMemory, TellsEveryPhaseByItem) {
  const test::TemporaryFolder folder;
  test::write_tiny_inputs(folder);
  const auto config = folder.write_config("e.json", R"({
    "model": {"path": "@/model"},
    "calibration": {"files": ["@/text.txt"], "documents": {"separator": "###"}},
    "compress": [{"name": "mha2mla", "rope": {"name": "two_norm", "pairs": 1},
                  "low_rank": {"name": "joint_svd", "d_kv": 3}}],
    "train": {"steps": 5, "batch_rows": 4, "sequence_length": 24,
              "data": {"files": ["@/text.txt"], "documents": {"separator": "###"}}}})");
  const auto result = test::run_program({"check", config.string(), "--memory", "--ranks", "1,4", "--json"});
  ASSERT_EQ(result.exit_code, 0) << result.err;
  const Json memory = result.json()["memory"];
  ASSERT_EQ(memory.size(), 4u);
  EXPECT_EQ(memory[0]["phase"], "calibration");
  EXPECT_EQ(memory[3]["ranks"], 4);
  std::int64_t sum = 0;
  for (const auto& [name, bytes] : memory[1]["bytes"].items()) sum += bytes.get<std::int64_t>();
  EXPECT_EQ(memory[1]["total"], sum);
  const std::string text = test::run_program({"check", config.string(), "--memory", "--ranks", "1,4"}).out;
  EXPECT_THAT(text, HasSubstr("optimizer states"));
  EXPECT_THAT(text, HasSubstr("4 processes"));
  for (const char* wrong : {"0", "two", "1,,2", "-1"}) {
    const auto refused = test::run_program({"check", config.string(), "--memory", "--ranks", wrong});
    EXPECT_EQ(refused.exit_code, 2);
    EXPECT_THAT(refused.err, HasSubstr("--ranks "));
  }
  EXPECT_THAT(test::run_program({"check", config.string(), "--ranks", "2"}).err, HasSubstr("--memory"));
}

TEST(CheckMemory, TellsWhatACacheHolds) {
  const test::TemporaryFolder folder;
  test::write_tiny_inputs(folder);
  const auto cache_bytes = [&](const char* codec) {
    const Json changes = parse_json(cat(R"({"train": null, "cache": {"codec": )", codec,
                                        R"(, "context": 32, "prompt": 8, "batch": 2, "residual": 8}})"),
                                    "changes");
    const auto config = folder.write_config("e.json", test::tiny_experiment(changes).dump());
    const auto result = test::run_program({"check", config.string(), "--memory", "--json"});
    EXPECT_EQ(result.exit_code, 0) << result.err;
    const Json memory = result.json()["memory"];
    EXPECT_EQ(memory.size(), 1u) << memory.dump();
    EXPECT_EQ(memory[0]["phase"], "cache");
    return memory[0]["bytes"]["cache"].get<std::int64_t>();
  };
  // Two layers with two KV heads, of each a rotated pair and two latent elements.
  constexpr std::int64_t kElements = 2 * 2 * (2 + 2);
  EXPECT_EQ(cache_bytes("null"), 2 * 32 * kElements * 4);
  EXPECT_LT(cache_bytes(R"({"name": "rtn", "bits": 4})"), 2 * 32 * kElements * 4);
}

}  // namespace
}  // namespace mla
