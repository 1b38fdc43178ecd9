// Models on the fake device: the same numbers as on the host by LibTorch's operations, no memory touched from outside,
// and no waiting where there is nothing to wait for.
#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "core/base/registry.h"
#include "core/evaluate/cached_perplexity.h"
#include "core/evaluate/generate.h"
#include "core/evaluate/perplexity.h"
#include "core/quantize/codec.h"
#include "core/train/trainer.h"
#include "tests/devices/fake_device.h"
#include "tests/support/attention_models.h"
#include "tests/support/pass_models.h"
#include "tests/support/temporary_folder.h"
#include "tests/support/tiny_models.h"

namespace mla {
namespace {

using test::device_counts;
using test::kFakeDevice;
using test::on_fake_device;

/// Of losses in float32, and of logits for their size. The operations are the host's; where products are put together
/// otherwise (attention of a whole row), sums round otherwise.
constexpr double kSameOnDevice = 1e-5;
/// Of five steps in float64; AdamW divides small gradients by themselves, which makes the most of what was rounded.
constexpr double kSameTraining = 1e-8;

using KindOfModel = std::pair<std::string, std::string>;

std::vector<KindOfModel> models_there() {
  std::vector<KindOfModel> all;
  for (const std::string& attention : Registry<AttentionSpec>::instance().names()) all.emplace_back(attention, "gqa");
  for (const char* tiny : {"biases", "qk_norm", "window", "yarn"}) all.emplace_back("grouped_query", tiny);
  return all;
}

class FakeDeviceModel : public testing::TestWithParam<KindOfModel> {
 protected:
  static Decoder on_host(at::ScalarType type = at::kFloat) {
    const auto& [attention, tiny] = GetParam();
    const bool usual = attention == "grouped_query";
    return test::tiny_decoder(usual ? test::tiny_spec(tiny) : test::spec_with_attention(attention, tiny), type);
  }
  static Decoder there(at::ScalarType type = at::kFloat) {
    Decoder model = on_host(type);
    model.move_to(on_fake_device(type));
    return model;
  }
};

void expect_same(const at::Tensor& there, const at::Tensor& here, const char* what) {
  EXPECT_EQ(there.device(), kFakeDevice) << what;
  const double size = std::max(1.0, here.abs().max().item<double>());
  EXPECT_LE(test::largest_difference(there.to(at::kCPU), here), kSameOnDevice * size) << what;
}

std::vector<std::vector<std::int32_t>> rows_of(const at::Tensor& ids) {
  std::vector<std::vector<std::int32_t>> rows;
  for (std::int64_t row = 0; row < ids.size(0); ++row) {
    const at::Tensor narrow = ids[row].to(at::kInt).contiguous();
    rows.emplace_back(narrow.const_data_ptr<std::int32_t>(), narrow.const_data_ptr<std::int32_t>() + narrow.numel());
  }
  return rows;
}

TEST_P(FakeDeviceModel, GivesTheSameLogits) {
  const at::NoGradGuard no_grad;
  const Decoder here = on_host(), model = there();
  const at::Tensor ids = test::random_ids(here.spec(), 2, 9), ids_there = ids.to(kFakeDevice);
  const test::DeviceCounts before = device_counts();
  const at::Tensor logits = model.forward(ids_there);
  EXPECT_EQ((device_counts() - before).waits, 0);
  expect_same(logits, here.forward(ids), "logits");
}

/// Prompts of different lengths, then single tokens, by each path; what a step costs does not grow.
TEST_P(FakeDeviceModel, DecodesTheSame) {
  const at::NoGradGuard no_grad;
  for (const DecodePath path : {DecodePath::kAuto, DecodePath::kAbsorbed, DecodePath::kExpanded}) {
    Decoder here = on_host(), model = there();
    if (path == DecodePath::kAuto) {
      here.prepare_decode();
      model.prepare_decode();
    }
    const at::Tensor ids = test::random_ids(here.spec(), 2, 12), ids_there = ids.to(kFakeDevice);
    DecoderCache cache = here.make_cache(2), cache_there = model.make_cache(2);
    cache_there.reserve(12);
    const auto feed = [&](std::int64_t begin, std::int64_t length, const std::vector<std::int64_t>& counts) {
      expect_same(model.forward_cached(ids_there.narrow(1, begin, length), cache_there, path, counts),
                  here.forward_cached(ids.narrow(1, begin, length), cache, path, counts), "cached logits");
    };
    feed(0, 5, {});
    feed(5, 3, {3, 1});
    feed(8, 1, {});
    EXPECT_EQ(cache_there.bytes(), cache.bytes());
  }
}

/// Tokens are chosen where they are needed: a step neither waits nor copies.
TEST_P(FakeDeviceModel, DecodingNeverWaits) {
  const at::NoGradGuard no_grad;
  Decoder here = on_host(), model = there();
  model.prepare_decode();
  const at::Tensor prompt = test::random_ids(here.spec(), 2, 4), prompt_there = prompt.to(kFakeDevice);
  const auto counted = [&](std::int64_t count) {
    const test::DeviceCounts before = device_counts();
    const at::Tensor tokens = greedy_continue(model, prompt_there, count);
    const test::DeviceCounts after = device_counts() - before;
    EXPECT_TRUE(at::equal(tokens.to(at::kCPU), greedy_continue(here, prompt, count)));
    return after;
  };
  const test::DeviceCounts few = counted(3), more = counted(9);
  EXPECT_EQ(few.waits, 0);
  EXPECT_EQ(more.waits, 0);
  EXPECT_EQ(more.copies_to_device, few.copies_to_device) << "of tables, once";
}

std::vector<std::vector<std::int32_t>> training_rows(const ModelSpec& spec) {
  return rows_of(test::random_ids(spec, 8, 13, 3));
}

TrainOptions five_steps() {
  TrainOptions options;
  options.steps = 5;
  options.batch_rows = 2;
  options.accumulation = 2;
  options.learning_rate = 1e-2;
  options.schedule.warmup_steps = 0;
  options.schedule.decay_steps = 0;
  return options;
}

TEST_P(FakeDeviceModel, TrainsTheSame) {
  for (const bool checkpointed : {false, true}) {
    Decoder here = on_host(at::kDouble), model = there(at::kDouble);
    RowBatches source(training_rows(here.spec())), same(training_rows(here.spec()));
    TrainOptions options = five_steps();
    options.checkpoint_activations = checkpointed;
    const TrainingReport wanted = train(here, source, options), found = train(model, same, options);
    ASSERT_EQ(found.loss.size(), 5U) << found.message;
    for (std::size_t i = 0; i < 5; ++i) EXPECT_NEAR(found.loss[i], wanted.loss[i], kSameTraining);
    EXPECT_LT(found.loss.back(), found.loss.front());
    const at::NoGradGuard no_grad;
    const at::Tensor ids = test::random_ids(here.spec(), 1, 8);
    EXPECT_LT(test::largest_difference(model.forward(ids.to(kFakeDevice)).to(at::kCPU), here.forward(ids)),
              kSameTraining);
  }
}

std::string name_there(const testing::TestParamInfo<KindOfModel>& test) {
  return test.param.first + "_" + test.param.second;
}
INSTANTIATE_TEST_SUITE_P(Kinds, FakeDeviceModel, testing::ValuesIn(models_there()), name_there);

/// A step reads its loss and its gradient's norm, which decide whether it is made; nothing else is waited for, however
/// many passes and tokens it has.
TEST(FakeDeviceTraining, WaitsOnceAStepAndNotInItsPasses) {
  const auto counted = [](std::int64_t steps, std::int64_t accumulation, std::int64_t vocabulary) {
    ModelSpec spec = test::tiny_spec("gqa");
    spec.vocabulary = vocabulary;
    Decoder model = test::tiny_decoder(spec, at::kFloat);
    model.move_to(on_fake_device());
    RowBatches source(training_rows(test::tiny_spec("gqa")));
    TrainOptions options = five_steps();
    options.steps = steps;
    options.accumulation = accumulation;
    const test::DeviceCounts before = device_counts();
    EXPECT_EQ(train(model, source, options).loss.size(), static_cast<std::size_t>(steps));
    return device_counts() - before;
  };
  const test::DeviceCounts one = counted(1, 1, 50), three = counted(3, 1, 50), longer = counted(3, 4, 50);
  EXPECT_EQ(three.waits - one.waits, 2 * 2);
  EXPECT_EQ(longer.waits, three.waits);
  const std::int64_t copies_of_a_pass = (longer.copies_to_device - three.copies_to_device) / (3 * 3);
  EXPECT_EQ(copies_of_a_pass, 5) << "ids, what is scored and its targets, rotations' cosines and sines";
  EXPECT_EQ(longer.copies_to_host, three.copies_to_host);
}

/// Float32 weights, losses, norms and sums; products of bfloat16 matrices by the device's own units. Noise is how much
/// the loss of a step is above or below that of the one before.
TEST(FakeDeviceTraining, ProductsOfBFloat16LearnTheSame) {
  ModelSpec spec = test::tiny_spec("gqa");
  spec.vocabulary = 300;
  spec.hidden = 64;
  spec.layers.resize(1);
  spec.layers.front().feed_forward.width = 160;
  const auto course = [&](Products products) {
    Decoder model = test::tiny_decoder(spec, at::kFloat);
    model.move_to(Placement::in(at::kFloat, kFakeDevice, products));
    RowBatches source(rows_of(test::random_ids(spec, 48, 33, 3)));
    TrainOptions options = five_steps();
    options.steps = 200;
    options.batch_rows = 32;
    options.accumulation = 1;
    options.learning_rate = 1e-3;
    const TrainingReport report = train(model, source, options);
    EXPECT_EQ(report.loss.size(), 200U) << report.message;
    return report.loss;
  };
  const std::vector<double> wanted = course(Products::kFloat32);
  const std::int64_t before = device_counts().wide_products;
  const std::vector<double> found = course(Products::kBFloat16);
  EXPECT_GT(device_counts().wide_products, before + 200);
  EXPECT_LT(wanted.back(), 0.9 * wanted.front());
  double difference = 0, noise = 0;
  for (std::size_t i = 1; i < 200; ++i) {
    difference += std::abs(found[i] - wanted[i]) / 199;
    noise += std::abs(wanted[i] - wanted[i - 1]) / 199;
  }
  EXPECT_GT(difference, 0);
  EXPECT_LT(difference, noise);
}

TEST(FakeDeviceTraining, AdaptersAndTeachers) {
  const ModelSpec spec = test::tiny_spec("gqa");
  for (const bool lora : {false, true}) {
    Decoder here = test::tiny_decoder(spec, at::kFloat), model = here.clone();
    Decoder teacher = test::tiny_decoder(spec, at::kFloat, 9), teacher_there = teacher.clone();
    model.move_to(on_fake_device());
    teacher_there.move_to(on_fake_device());
    TrainOptions options = five_steps();
    options.loss.distillation = 0.5;
    options.loss.hidden_state = 0.5;
    if (lora) options.lora = LoraOptions{};
    RowBatches source(training_rows(spec)), same(training_rows(spec));
    const TrainingReport wanted = train(here, source, options, {.teacher = &teacher}),
                         found = train(model, same, options, {.teacher = &teacher_there});
    for (std::size_t i = 0; i < 5; ++i)
      EXPECT_NEAR(found.loss[i], wanted.loss[i], kSameOnDevice * (1 + wanted.loss[i]));
  }
}

/// The states of a run on one device are those of a run on another.
TEST(FakeDeviceTraining, GoesOnFromAStateOfTheHost) {
  struct Keep final : TrainingObserver {
    bool after_step(const TrainingStep& step, const TrainingRun& run) override {
      if (step.step != 2) return true;
      state = run.state();
      for (auto& [name, tensor] : state.tensors) tensor = tensor.clone();
      return false;
    }
    TrainingState state;
  };
  const ModelSpec spec = test::tiny_spec("gqa");
  Keep keep;
  Decoder here = test::tiny_decoder(spec, at::kFloat), whole = here.clone(), model = here.clone();
  model.move_to(on_fake_device());
  RowBatches first(training_rows(spec)), second(training_rows(spec)), third(training_rows(spec));
  train(here, first, five_steps(), {.observer = &keep});
  const TrainingReport found = train(model, second, five_steps(), {.start = &keep.state}),
                       wanted = train(whole, third, five_steps());
  ASSERT_EQ(found.loss.size(), 5U);
  EXPECT_NEAR(found.loss.back(), wanted.loss.back(), kSameOnDevice * wanted.loss.back());
}

TEST(FakeDeviceEvaluation, PerplexityAndGenerationAreTheSame) {
  const Decoder here = test::tiny_decoder(test::tiny_spec("gqa"), at::kFloat);
  Decoder model = here.clone();
  model.move_to(on_fake_device());
  const auto rows = rows_of(test::random_ids(here.spec(), 2, 40));
  PerplexityOptions options;
  options.context = 16;
  options.stride = 8;
  EXPECT_NEAR(perplexity(model, rows, options).mean_nll, perplexity(here, rows, options).mean_nll, kSameOnDevice);
  std::vector<std::vector<std::int64_t>> prompts = {{3, 1, 4}, {1, 5, 9, 2, 6}, {7}};
  for (const double temperature : {0.0, 0.8}) {
    GenerateOptions generation;
    generation.count = 6;
    generation.temperature = temperature;
    generation.repetition_penalty = 1.1;
    const GenerateReport wanted = generate(here, prompts, generation), found = generate(model, prompts, generation);
    for (std::size_t i = 0; i < prompts.size(); ++i) EXPECT_EQ(found.sequences[i].tokens, wanted.sequences[i].tokens);
  }
}

TEST(FakeDeviceEvaluation, QuantizedCachesHoldTheSameCodes) {
  const Decoder here = test::tiny_decoder(test::tiny_spec("gqa"), at::kFloat);
  Decoder model = here.clone();
  model.move_to(on_fake_device());
  const auto rows = rows_of(test::random_ids(here.spec(), 2, 64));
  for (const char* name : {"rtn", "hqq", "kivi", "quanto"}) {
    SCOPED_TRACE(name);
    Json config = {{"name", name}, {"bits", 4}};
    if (std::string(name) == "kivi") config["group_size"] = 8;
    const std::shared_ptr<const Codec> codec = Registry<Codec>::instance().make(config, "codec");
    const CacheFormat format = [&](std::int64_t, const StreamShape& stream) -> StreamStorage {
      return {codec->for_stream(stream.name, nullptr), {}};
    };
    const CachedPerplexityOptions options{.context = 32, .prompt = 8, .batch = 2};
    const CachedPerplexityResult wanted = cached_perplexity(here, rows, options, format),
                                 found = cached_perplexity(model, rows, options, format);
    EXPECT_NEAR(found.mean_nll, wanted.mean_nll, 1e-4) << "a code near a boundary may be another one";
    EXPECT_EQ(found.bytes, wanted.bytes);
  }
}

/// Every kind of conversion, of weights that stand there, measured there.
TEST(FakeDeviceConversions, GiveTheSameModels) {
  const Json high = {{"name", "high"}, {"pairs", 2}};
  const std::vector<Json> passes = {
      {{"name", "mha2mla"},
       {"rope", {{"name", "two_norm"}, {"pairs", 2}}},
       {"low_rank", {{"name", "joint_svd"}, {"d_kv", 4}}}},
      {{"name", "mha2mla"}, {"rope", high}, {"low_rank", {{"name", "split_svd"}, {"d_kv", 4}}}},
      {{"name", "mha2mla"}, {"rope", high}, {"low_rank", {{"name", "joint_svd"}, {"d_kv", 4}, {"metric", "outputs"}}}},
      {{"name", "partial_rope"}, {"rope", {{"name", "rorope"}}}},
      {{"name", "transmla"}, {"cached", 24}},
      {{"name", "mkla"}, {"cached", 24}, {"attention_rows", 2}, {"error_rows", 2}},
      {{"name", "palu"}, {"cached", 24}},
      {{"name", "lorc"}},
      {{"name", "mfa"}},
      {{"name", "share_attention"}, {"layers", {1}}},
      {{"name", "merge_layers"}, {"drop", {1}}},
      {{"name", "refit_output"}},
      {{"name", "quantize_weights"}},
      {{"name", "kv_heads"}, {"kv_heads", 1}},
      {{"name", "mfa"}, {"width", 12}},
      {{"name", "mfa_kr"}},
      {{"name", "kq_svd"}, {"cached", 24}},
      {{"name", "care"}, {"cached", 24}},
      {{"name", "svd_llm"}, {"cached", 24}},
      {{"name", "elitekv"}, {"pairs", 2}, {"cached", 20}},
      {{"name", "asvd"}, {"cached", 24}},
      {{"name", "mka"}},
      {{"name", "saap"}},
      {{"name", "x_ecomla"}, {"cached", 24}},
      {{"name", "billm"}}};
  const Decoder here = test::tiny_decoder(test::tiny_spec("gqa"));
  Decoder source = here.clone();
  source.move_to(on_fake_device(at::kDouble));
  const TokenRowList rows = test::random_rows(here.spec(), 6, 24);
  const at::Tensor ids = test::random_ids(here.spec(), 2, 9);
  const at::NoGradGuard no_grad;
  for (const Json& pass : passes) {
    SCOPED_TRACE(pass.dump());
    try {
      const Decoder wanted = test::after_pass(here, pass, rows), found = test::after_pass(source, pass, rows);
      EXPECT_EQ(found.device(), kFakeDevice);
      EXPECT_LT(test::largest_difference(found.forward(ids.to(kFakeDevice)).to(at::kCPU), wanted.forward(ids)), 1e-6);
    } catch (const std::exception& error) {  // all that fail are told of
      ADD_FAILURE() << error.what();
    }
  }
}

TEST(FakeDeviceFiles, ModelsAreLoadedThereAndSavedFromThere) {
  const test::TemporaryFolder folder;
  save_checkpoint(test::tiny_checkpoint("gqa", at::kFloat), folder / "first");
  Checkpoint loaded = load_checkpoint(folder / "first", {.placement = on_fake_device()});
  EXPECT_EQ(loaded.decoder.device(), kFakeDevice);
  save_checkpoint(loaded, folder / "second");
  const Decoder here = load_checkpoint(folder / "first", {}).decoder,
                again = load_checkpoint(folder / "second", {}).decoder;
  const at::Tensor ids = test::random_ids(here.spec(), 1, 6);
  EXPECT_TRUE(at::equal(again.forward(ids), here.forward(ids)));
}

}  // namespace
}  // namespace mla
