// Several processes training one model, played by threads of this one.
#include "core/train/collective.h"

#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>

#include "core/base/error.h"
#include "core/train/trainer.h"
#include "tests/support/errors.h"
#include "tests/support/tiny_models.h"
#include "tests/train/thread_group.h"

namespace mla {
namespace {

constexpr double kCollectiveRounding = 1e-10;  // of losses in float64 after a few updates

using test::Member;
using test::ThreadGroup;

std::vector<std::vector<std::int32_t>> documents() {
  std::vector<std::vector<std::int32_t>> rows;
  for (const std::int64_t length : {40, 7, 65, 23, 90, 12, 33}) {
    const at::Tensor ids =
        test::random_ids(test::tiny_spec("gqa"), 1, length, 100 + static_cast<std::uint64_t>(length));
    rows.emplace_back(ids.const_data_ptr<std::int64_t>(), ids.const_data_ptr<std::int64_t>() + length);
  }
  return rows;
}

TrainOptions short_run(std::int64_t rows, std::int64_t accumulation) {
  TrainOptions options;
  options.steps = 6;
  options.batch_rows = rows;
  options.accumulation = accumulation;
  options.learning_rate = 1e-2;
  options.schedule.warmup_steps = 0;
  options.schedule.decay_steps = 0;
  return options;
}

/// Keeps a whole state after a step, as rank 0 writes it and the others help to.
class KeepWhole final : public TrainingObserver {
 public:
  explicit KeepWhole(std::int64_t step) : step_(step) {}
  bool after_step(const TrainingStep& step, const TrainingRun& run) override {
    if (step.step != step_) return true;
    kept = run.state();
    for (auto& [name, tensor] : kept.tensors) tensor = tensor.clone();
    for (const TensorSource& source : kept.gathered) kept.tensors.emplace_back(source.name, source.values().clone());
    kept.gathered.clear();
    return true;
  }
  TrainingState kept;

 private:
  std::int64_t step_;
};

struct Outcome {
  TrainingReport report;
  std::vector<at::Tensor> parameters;
  int messages = 0;
};

template <class MakeSource>
std::vector<Outcome> train_together(std::int64_t size, const TrainOptions& options, const MakeSource& make_source,
                                    const std::vector<TrainingObserver*>& observers = {},
                                    const TrainingState* start = nullptr) {
  ThreadGroup group(size);
  std::vector<Outcome> outcomes(static_cast<std::size_t>(size));
  test::as_processes(size, [&](std::int64_t rank) {
    Decoder decoder = test::tiny_decoder(test::tiny_spec("gqa"));
    if (rank > 0) decoder.final_norm.mul_(3);  // every rank begins with the parameters of the first
    const auto source = make_source();
    Member member(group, rank);
    Outcome& outcome = outcomes[static_cast<std::size_t>(rank)];
    TrainingObserver* observer = observers.empty() ? nullptr : observers[static_cast<std::size_t>(rank)];
    outcome.report = train(decoder, *source, options, {.observer = observer, .start = start, .processes = &member});
    decoder.visit_parameters([&](const std::string&, at::Tensor& tensor) { outcome.parameters.push_back(tensor); });
    outcome.messages = member.messages;
  });
  return outcomes;
}

std::unique_ptr<BatchSource> rows() { return std::make_unique<RowBatches>(documents()); }
std::unique_ptr<BatchSource> masked_sequences() {
  return std::make_unique<PackedBatches>(std::vector<WeightedTokens>{{std::make_shared<MemoryTokens>(documents())}}, 16,
                                         1, DocumentBoundaries::kMasked);
}

/// To the bit: processes drift apart otherwise.
void expect_equal_parameters(const Outcome& one, const Outcome& other) {
  for (std::size_t i = 0; i < other.parameters.size(); ++i) EXPECT_TRUE(one.parameters[i].equal(other.parameters[i]));
}

// Rows of unequal length, so that the ranks score different numbers of tokens.
TEST(Processes, TogetherEqualOneAlone) {
  for (const auto& [batch_rows, accumulation] : {std::pair{4, 1}, {2, 3}, {1, 5}}) {
    for (const auto& source : {rows, masked_sequences}) {
      const TrainOptions options = short_run(batch_rows, accumulation);
      const Outcome alone = train_together(1, options, source)[0];
      for (const std::int64_t size : {2, 3}) {
        const auto together = train_together(size, options, source);
        for (const Outcome& outcome : together) {
          EXPECT_THAT(outcome.report.loss,
                      testing::Pointwise(testing::DoubleNear(kCollectiveRounding), alone.report.loss));
          EXPECT_THAT(outcome.report.gradient_norm,
                      testing::Pointwise(testing::DoubleNear(kCollectiveRounding), alone.report.gradient_norm));
          EXPECT_EQ(outcome.report.tokens, alone.report.tokens);
          for (std::size_t i = 0; i < alone.parameters.size(); ++i)
            EXPECT_TRUE(at::allclose(outcome.parameters[i], alone.parameters[i], 0, kCollectiveRounding));
          expect_equal_parameters(outcome, together[0]);
        }
      }
    }
  }
}

void expect_the_same(const Outcome& one, const Outcome& alone) {
  EXPECT_THAT(one.report.loss, testing::Pointwise(testing::DoubleNear(kCollectiveRounding), alone.report.loss));
  EXPECT_THAT(one.report.gradient_norm,
              testing::Pointwise(testing::DoubleNear(kCollectiveRounding), alone.report.gradient_norm));
  EXPECT_EQ(one.report.tokens, alone.report.tokens);
  for (std::size_t i = 0; i < alone.parameters.size(); ++i)
    EXPECT_TRUE(at::allclose(one.parameters[i], alone.parameters[i], 0, kCollectiveRounding));
}

// The same messages, but for when they travel.
TEST(Processes, ExchangeTheSameNumbersBesideTheComputationAndInIt) {
  for (const Shard shard : {Shard::kNone, Shard::kOptimizer, Shard::kGradients, Shard::kWeights}) {
    TrainOptions options = short_run(1, 5);
    options.shard = shard;
    const auto beside = train_together(3, options, masked_sequences);
    options.overlap = false;
    const auto within = train_together(3, options, masked_sequences);
    EXPECT_EQ(beside[0].report.loss, within[0].report.loss);
    EXPECT_EQ(beside[0].messages, within[0].messages);
    for (std::size_t rank = 0; rank < 3; ++rank) expect_equal_parameters(beside[rank], within[rank]);
  }
}

constexpr Shard kShards[] = {Shard::kOptimizer, Shard::kGradients, Shard::kWeights};

// Five rows among three processes, two a pass: the third makes one pass, the others wait in its second.
TEST(Shards, ChangeNoNumber) {
  for (const auto& [batch_rows, accumulation] : {std::pair{4, 1}, {2, 3}, {1, 5}, {5, 1}, {2, 4}}) {
    for (const Shard shard : kShards) {
      TrainOptions options = short_run(batch_rows, accumulation);
      options.gradient_clip = 0.5;  // below the norms of this run
      const Outcome alone = train_together(1, options, masked_sequences)[0];
      options.shard = shard;
      for (const std::int64_t size : {2, 3, 4}) {
        const auto together = train_together(size, options, masked_sequences);
        for (const Outcome& outcome : together) {
          expect_the_same(outcome, alone);
          expect_equal_parameters(outcome, together[0]);
        }
      }
    }
  }
}

TEST(Shards, AreEvenToAnElement) {
  const std::vector<std::int64_t> elements = {10, 1, 0, 25, 3};
  const std::int64_t total = 39;
  for (const std::int64_t processes : {1, 2, 3, 7}) {
    std::vector<std::int64_t> held(static_cast<std::size_t>(processes), 0);
    std::int64_t begin = 0;
    for (const std::int64_t count : elements) {
      const auto counts = shard_counts(begin, count, total, processes);
      EXPECT_EQ(std::accumulate(counts.begin(), counts.end(), std::int64_t{0}), count);
      for (std::size_t rank = 0; rank < counts.size(); ++rank) held[rank] += counts[rank];
      begin += count;
    }
    EXPECT_LE(*std::max_element(held.begin(), held.end()), *std::min_element(held.begin(), held.end()) + 1);
  }
}

TEST(Shards, HoldTheirPartOfTheOptimizersStates) {
  ThreadGroup group(3);
  for (std::int64_t rank = 0; rank < 3; ++rank) {
    Decoder decoder = test::tiny_decoder(test::tiny_spec("gqa"));
    Member member(group, rank);
    ExchangeQueue queue(false, 0);
    TrainableParameters trained(decoder, "all", "train.trainable");
    const ShardedAdamW optimizer(decoder.spec(), trained, {}, member, queue, Shard::kOptimizer);
    EXPECT_LE(std::abs(optimizer.state_bytes() - 2 * 8 * decoder.parameter_count() / 3), 2 * 8 + 4);
  }
}

// A state is whole: written by any number of processes, it is read by any other, divided or not.
TEST(Shards, GoOnWithAnotherNumberOfProcesses) {
  TrainOptions options = short_run(2, 3);
  options.steps = 8;
  const Outcome alone = train_together(1, options, masked_sequences)[0];
  for (const Shard shard : kShards) {
    options.shard = shard;
    std::vector<KeepWhole> keepers(3, KeepWhole(3));
    train_together(3, options, masked_sequences, {&keepers[0], &keepers[1], &keepers[2]});
    EXPECT_EQ(keepers[0].kept.report.loss.size(), 4u);
    for (const std::int64_t size : {1, 2, 4}) {
      for (const Outcome& outcome : train_together(size, options, masked_sequences, {}, &keepers[0].kept))
        expect_the_same(outcome, alone);
    }
    options.shard = Shard::kNone;
    expect_the_same(train_together(2, options, masked_sequences, {}, &keepers[0].kept)[1], alone);
  }
}

TEST(Shards, GradientsAreGivenAwayDuringTheBackwardPass) {
  ThreadGroup group(1);
  Member member(group, 0);
  Decoder decoder = test::tiny_decoder(test::tiny_spec("mha"));
  ExchangeQueue queue(true, 0);
  TrainableParameters trained(decoder, "all", "train.trainable");
  ShardedAdamW optimizer(decoder.spec(), trained, {}, member, queue, Shard::kGradients);
  optimizer.begin_step();
  optimizer.begin_pass(/*last=*/false);
  decoder.hidden_states(test::random_ids(decoder.spec(), 2, 9)).sum().backward();
  EXPECT_TRUE(trained.gradients().empty());
  optimizer.end_pass();
  EXPECT_EQ(optimizer.sum_loss(3), 3);
  EXPECT_GT(optimizer.sum_and_clip(0), 0);
}

TEST(Processes, GradientsTravelInOneMessage) {
  const auto outcomes = train_together(2, short_run(4, 1), rows);
  // Parameters of the first; then a step's: scored tokens, loss, gradients, whether to stop.
  EXPECT_EQ(outcomes[0].messages, 1 + 6 * 4);
}

class StopAt final : public TrainingObserver {
 public:
  explicit StopAt(std::int64_t step) : last_(step) {}
  bool after_step(const TrainingStep& step, const TrainingRun&) override { return step.step < last_; }

 private:
  std::int64_t last_;
};

TEST(Processes, AStopOfOneIsAStopOfAllAfterTheSameStep) {
  StopAt never(1000), second(2);
  for (const Outcome& outcome : train_together(3, short_run(4, 1), rows, {&never, &never, &second})) {
    EXPECT_EQ(outcome.report.status, TrainingStatus::kInterrupted);
    EXPECT_EQ(outcome.report.loss.size(), 3u);
  }
}

TEST(Processes, MoreThanTheRowsOfAStepAreRefused) {
  ThreadGroup group(5);
  Member one_of_five(group, 0);
  Decoder decoder = test::tiny_decoder(test::tiny_spec("gqa"));
  RowBatches source(documents());
  EXPECT_EQ(
      test::message_of<ConfigError>([&] { train(decoder, source, short_run(2, 2), {.processes = &one_of_five}); }),
      "train: batch_rows * accumulation = 4 rows a step cannot be shared by 5 processes");
}

TEST(Processes, ATextOfOneIsKnownToAll) {
  ThreadGroup group(2);
  Member first(group, 0), second(group, 1);
  const std::string text = "caf\xC3\xA9: " + std::string(300, 'x');
  std::string seen;
  {
    const std::jthread other([&] { seen = second.text_of(1, text); });
    EXPECT_EQ(first.text_of(1, "another"), text);
  }
  EXPECT_EQ(seen, text);
}

}  // namespace
}  // namespace mla
