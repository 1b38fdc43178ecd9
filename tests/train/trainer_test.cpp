// The training loop as a whole, on tiny models.
#include "core/train/trainer.h"

#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "core/base/error.h"
#include "core/base/fields.h"
#include "tests/support/errors.h"
#include "tests/support/tiny_models.h"

namespace mla {
namespace {

constexpr double kTrainerRounding = 1e-10;  // of losses in float64 after a few updates

std::vector<std::vector<std::int32_t>> random_rows(const std::vector<std::int64_t>& lengths) {
  std::vector<std::vector<std::int32_t>> rows;
  for (std::size_t i = 0; i < lengths.size(); ++i) {
    const at::Tensor ids = test::random_ids(test::tiny_spec("gqa"), 1, lengths[i], 100 + i);
    rows.emplace_back(ids.const_data_ptr<std::int64_t>(), ids.const_data_ptr<std::int64_t>() + lengths[i]);
  }
  return rows;
}

TrainOptions short_run(std::int64_t steps) {
  TrainOptions options;
  options.steps = steps;
  options.batch_rows = 4;
  options.learning_rate = 1e-2;
  options.schedule.warmup_steps = 0;
  options.schedule.decay_steps = 0;
  return options;
}

TEST(Train, OverfitsOneBatch) {
  Decoder decoder = test::tiny_decoder(test::tiny_spec("gqa"), at::kFloat);
  RowBatches source(random_rows({17, 12, 17, 9}));
  const TrainingReport report = train(decoder, source, short_run(120));
  EXPECT_EQ(report.status, TrainingStatus::kComplete) << report.message;
  ASSERT_EQ(report.loss.size(), 120U);
  EXPECT_GT(report.loss.front(), std::log(50.0));  // a random model knows nothing
  EXPECT_LT(report.loss.back(), 0.1);
  EXPECT_GT(report.tokens_per_second(), 0);
}

TEST(Train, ReportsEverySeries) {
  Decoder decoder = test::tiny_decoder(test::tiny_spec("gqa"));
  RowBatches source(random_rows({17, 12, 17, 9}));
  TrainOptions options = short_run(5);
  options.schedule.warmup_steps = 2;
  const TrainingReport report = train(decoder, source, options);
  EXPECT_EQ(report.step, std::vector<std::int64_t>({0, 1, 2, 3, 4}));
  EXPECT_EQ(report.tokens, std::vector<std::int64_t>({51, 102, 153, 204, 255}));
  EXPECT_EQ(report.learning_rate, std::vector<double>({0.005, 0.01, 0.01, 0.01, 0.01}));
  EXPECT_EQ(report.gradient_norm.size(), 5U);
}

TEST(Train, GradientNormIsThatOfTheMeanLoss) {
  Decoder decoder = test::tiny_decoder(test::tiny_spec("mha")), copy = decoder.clone();
  const std::vector<std::vector<std::int32_t>> rows = random_rows({15, 15, 15, 15});
  RowBatches source(rows), same(rows);
  const TrainingReport report = train(decoder, source, short_run(1));
  std::vector<at::Tensor> parameters;
  copy.visit_parameters(
      [&](const std::string&, at::Tensor& tensor) { parameters.push_back(tensor.requires_grad_(true)); });
  const Batch batch = same.next(4);
  const at::Tensor loss = at::cross_entropy_loss(copy.forward(batch.ids).flatten(0, 1), batch.targets.flatten());
  loss.backward();
  double squares = 0;
  for (const at::Tensor& parameter : parameters) squares += parameter.grad().square().sum().item<double>();
  EXPECT_NEAR(report.loss[0], loss.item<double>(), kTrainerRounding);
  EXPECT_NEAR(report.gradient_norm[0], std::sqrt(squares), kTrainerRounding);
}

TEST(Train, SameSeedSameLossesBitForBit) {
  const auto run = [](std::uint64_t seed) {
    Decoder decoder = test::tiny_decoder(test::tiny_spec("gqa"), at::kFloat);
    PackedBatches source(random_rows({200, 150, 90}), 12, seed);
    return train(decoder, source, short_run(8)).loss;
  };
  EXPECT_EQ(run(1), run(1));
  EXPECT_NE(run(1), run(2));
}

// Rows of unequal length: a mean of the passes' means would differ.
TEST(Train, AccumulationEqualsALargerBatch) {
  const auto run = [](std::int64_t rows, std::int64_t accumulation) {
    Decoder decoder = test::tiny_decoder(test::tiny_spec("gqa"));
    RowBatches source(random_rows({17, 3, 12, 25, 4, 9, 30}));
    TrainOptions options = short_run(6);
    options.batch_rows = rows;
    options.accumulation = accumulation;
    return train(decoder, source, options).loss;
  };
  const std::vector<double> whole = run(4, 1);
  EXPECT_THAT(run(1, 4), testing::Pointwise(testing::DoubleNear(kTrainerRounding), whole));
  EXPECT_THAT(run(2, 2), testing::Pointwise(testing::DoubleNear(kTrainerRounding), whole));
}

TEST(Train, TrainsOnlyWhatWasSelectedAndReleasesIt) {
  Decoder decoder = test::tiny_decoder(test::tiny_spec("gqa")), before = decoder.clone();
  RowBatches source(random_rows({17, 12}));
  TrainOptions options = short_run(3);
  options.trainable = "attention";
  train(decoder, source, options);
  std::vector<at::Tensor> old;
  before.visit_parameters([&](const std::string&, at::Tensor& tensor) { old.push_back(tensor); });
  std::size_t i = 0;
  decoder.visit_parameters([&](const std::string& name, at::Tensor& tensor) {
    EXPECT_EQ(tensor.equal(old.at(i++)), name.find("self_attn.") == std::string::npos) << name;
    EXPECT_FALSE(tensor.requires_grad());
    EXPECT_FALSE(tensor.grad().defined());
  });
}

TEST(Train, AnAbsurdLearningRateIsADivergedRunOfAFiniteModel) {
  Decoder decoder = test::tiny_decoder(test::tiny_spec("gqa"), at::kFloat);
  RowBatches source(random_rows({17, 12, 17, 9}));
  TrainOptions options = short_run(50);
  options.learning_rate = 100;
  const TrainingReport report = train(decoder, source, options);
  EXPECT_EQ(report.status, TrainingStatus::kDiverged);
  EXPECT_FALSE(report.message.empty());
  EXPECT_LT(report.loss.size(), 50U);
  decoder.visit_parameters(
      [](const std::string& name, at::Tensor& tensor) { EXPECT_TRUE(tensor.isfinite().all().item<bool>()) << name; });
}

TEST(Train, ALossFarAboveTheFirstDiverges) {
  const auto run = [](double factor) {
    Decoder decoder = test::tiny_decoder(test::tiny_spec("gqa"));
    RowBatches source(random_rows({17, 12, 17, 9}));
    TrainOptions options = short_run(6);
    options.learning_rate = 1;
    options.divergence_factor = factor;
    return train(decoder, source, options);
  };
  const TrainingReport free = run(0), stopped = run(1.5);
  ASSERT_EQ(free.status, TrainingStatus::kComplete);
  std::size_t first_above = 0;
  while (free.loss.at(first_above) <= 1.5 * free.loss.front()) ++first_above;
  EXPECT_EQ(stopped.status, TrainingStatus::kDiverged);
  EXPECT_THAT(stopped.message, testing::HasSubstr("more than 1.5 times the first"));
  EXPECT_EQ(stopped.loss.size(), first_above + 1);
}

// Its loss begins at 0, where any step away is an infinite multiple.
TEST(Train, DistillationFromItselfDoesNotDiverge) {
  Decoder decoder = test::tiny_decoder(test::tiny_spec("gqa"));
  const Decoder teacher = decoder.clone();
  RowBatches source(random_rows({17, 12, 17, 9}));
  TrainOptions options = short_run(6);
  options.loss.cross_entropy = 0;
  options.loss.distillation = 1;
  TrainingSurroundings surroundings;
  surroundings.teacher = &teacher;
  EXPECT_EQ(train(decoder, source, options, surroundings).status, TrainingStatus::kComplete);
}

TEST(Train, ALossThatIsNotFiniteDivergesWhateverTheFactor) {
  Decoder decoder = test::tiny_decoder(test::tiny_spec("gqa"), at::kFloat);
  decoder.final_norm[0] = std::nan("");
  RowBatches source(random_rows({17, 12}));
  TrainOptions options = short_run(5);
  options.divergence_factor = 0;
  const TrainingReport report = train(decoder, source, options);
  EXPECT_EQ(report.status, TrainingStatus::kDiverged);
  EXPECT_EQ(report.message, "step 0: the loss is not finite");
  EXPECT_EQ(report.loss.size(), 1U);
}

class StopAfter : public TrainingObserver {
 public:
  explicit StopAfter(std::int64_t step) : last_(step) {}
  bool after_step(const TrainingStep& step, const TrainingRun&) override {
    losses.push_back(step.loss);
    return step.step < last_;
  }
  std::vector<double> losses;

 private:
  std::int64_t last_;
};

TEST(Train, AnObserverSeesEveryStepAndMayEndTheRun) {
  Decoder decoder = test::tiny_decoder(test::tiny_spec("gqa"));
  RowBatches source(random_rows({17, 12}));
  StopAfter observer(2);
  const TrainingReport report = train(decoder, source, short_run(10), {.observer = &observer});
  EXPECT_EQ(report.status, TrainingStatus::kInterrupted);
  EXPECT_EQ(report.message, "stopped after step 2");
  EXPECT_EQ(report.loss.size(), 3U);
  EXPECT_EQ(observer.losses, report.loss);
}

/// Keeps a copy of the run's state after one step.
class KeepState : public TrainingObserver {
 public:
  explicit KeepState(std::int64_t step) : step_(step) {}
  bool after_step(const TrainingStep& step, const TrainingRun& run) override {
    if (step.step == step_) {
      kept = run.state();
      for (auto& [name, tensor] : kept.tensors) tensor = tensor.clone();
    }
    return true;
  }
  TrainingState kept;

 private:
  std::int64_t step_;
};

TEST(Train, GoesOnFromAStateBitForBit) {
  const Decoder source_model = test::tiny_decoder(test::tiny_spec("gqa"), at::kFloat);
  const auto rows = random_rows({200, 150, 90});
  KeepState observer(4);
  Decoder whole = source_model.clone(), continued = source_model.clone();
  PackedBatches batches(rows, 12, 3), again(rows, 12, 3);
  const TrainingReport report = train(whole, batches, short_run(11), {.observer = &observer});
  const TrainingReport rest = train(continued, again, short_run(11), {.start = &observer.kept});
  EXPECT_EQ(rest.loss, report.loss);
  EXPECT_EQ(rest.gradient_norm, report.gradient_norm);
  EXPECT_EQ(rest.tokens, report.tokens);
  std::vector<at::Tensor> parameters;
  whole.visit_parameters([&](const std::string&, at::Tensor& tensor) { parameters.push_back(tensor); });
  std::size_t i = 0;
  continued.visit_parameters(
      [&](const std::string& name, at::Tensor& tensor) { EXPECT_TRUE(tensor.equal(parameters.at(i++))) << name; });
}

TEST(Train, RefusesAStateOfAnotherModel) {
  Decoder first = test::tiny_decoder(test::tiny_spec("gqa")), second = test::tiny_decoder(test::tiny_spec("mha"));
  RowBatches source(random_rows({17, 12}));
  KeepState observer(1);
  train(first, source, short_run(2), {.observer = &observer});
  EXPECT_THAT(test::message_of<DataError>([&] { train(second, source, short_run(4), {.start = &observer.kept}); }),
              testing::HasSubstr("training state: model.layers.0.self_attn.k_proj.weight"));
}

TEST(TrainOptions, ReadsNestedFieldsAndRefusesImpossibleOnes) {
  TrainOptions options;
  read_fields(Json{{"steps", 100}, {"optimizer", {{"beta2", 0.99}}}, {"schedule", {{"shape", "linear"}}}}, "train",
              options);
  EXPECT_EQ(options.optimizer.beta2, 0.99);
  EXPECT_EQ(options.schedule.shape, ScheduleShape::kLinear);
  const auto message = [](auto change) {
    TrainOptions bad;
    change(bad);
    return test::message_of<ConfigError>([&] { bad.validate("train"); });
  };
  EXPECT_EQ(message([](TrainOptions&) {}), "no error");
  EXPECT_EQ(message([](TrainOptions& o) { o.steps = 0; }), "train.steps: 0 is less than 1");
  EXPECT_EQ(message([](TrainOptions& o) { o.accumulation = -1; }), "train.accumulation: -1 is less than 1");
  EXPECT_EQ(message([](TrainOptions& o) { o.learning_rate = -1; }), "train.learning_rate: -1 is not a number >= 0");
  EXPECT_EQ(message([](TrainOptions& o) { o.schedule.warmup_steps = 400; }),
            "train.schedule: warm-up (400 steps) and decay (30 steps) do not fit into 300 steps");
}

}  // namespace
}  // namespace mla
