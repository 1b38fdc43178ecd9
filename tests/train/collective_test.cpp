// Several processes training one model, played by threads of this one.
#include "core/train/collective.h"

#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <barrier>
#include <mutex>
#include <thread>

#include "core/base/error.h"
#include "core/train/trainer.h"
#include "tests/support/errors.h"
#include "tests/support/tiny_models.h"

namespace mla {
namespace {

constexpr double kCollectiveRounding = 1e-10;  // of losses in float64 after a few updates

/// What the members of a group share.
struct Table {
  explicit Table(std::ptrdiff_t size) : meet(size) {}
  std::barrier<> meet;
  std::mutex mutex;
  at::Tensor total;
};

class Member final : public Collective {
 public:
  Member(Table& table, std::int64_t rank, std::int64_t size) : table_(table), rank_(rank), size_(size) {}
  std::int64_t rank() const override { return rank_; }
  std::int64_t size() const override { return size_; }
  std::int64_t local_size() const override { return size_; }
  void sum_in_place(const at::Tensor& values) override {
    ++messages;
    share([&] { table_.total = table_.total.defined() ? table_.total + values : values.clone(); }, values);
  }
  void broadcast(const at::Tensor& values) override {
    share(
        [&] {
          if (first()) table_.total = values.clone();
        },
        values);
  }
  GroupFailure settle(int exit_code, bool) override { return {rank_, exit_code, true}; }

  int messages = 0;

 private:
  template <class Put>
  void share(const Put& put, const at::Tensor& values) {
    {
      const std::lock_guard lock(table_.mutex);
      put();
    }
    table_.meet.arrive_and_wait();
    values.copy_(table_.total);
    table_.meet.arrive_and_wait();
    if (first()) table_.total.reset();
    table_.meet.arrive_and_wait();
  }

  Table& table_;
  std::int64_t rank_, size_;
};

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

struct Outcome {
  TrainingReport report;
  std::vector<at::Tensor> parameters;
  int messages = 0;
};

template <class MakeSource>
std::vector<Outcome> train_together(std::int64_t size, const TrainOptions& options, const MakeSource& make_source,
                                    const std::vector<TrainingObserver*>& observers = {}) {
  Table table(size);
  std::vector<Outcome> outcomes(static_cast<std::size_t>(size));
  const auto work = [&](std::size_t rank) {
    Decoder decoder = test::tiny_decoder(test::tiny_spec("gqa"));
    if (rank > 0) decoder.final_norm.mul_(3);  // every rank begins with the parameters of the first
    const auto source = make_source();
    Member member(table, static_cast<std::int64_t>(rank), size);
    Outcome& outcome = outcomes[rank];
    outcome.report = train(decoder, *source, options,
                           {.observer = observers.empty() ? nullptr : observers[rank], .processes = &member});
    decoder.visit_parameters([&](const std::string&, at::Tensor& tensor) { outcome.parameters.push_back(tensor); });
    outcome.messages = member.messages;
  };
  std::vector<std::jthread> threads;
  for (std::size_t rank = 1; rank < outcomes.size(); ++rank) threads.emplace_back(work, rank);
  work(0);
  threads.clear();
  return outcomes;
}

std::unique_ptr<BatchSource> rows() { return std::make_unique<RowBatches>(documents()); }
std::unique_ptr<BatchSource> masked_sequences() {
  return std::make_unique<PackedBatches>(std::vector<WeightedTokens>{{std::make_shared<MemoryTokens>(documents())}}, 16,
                                         1, DocumentBoundaries::kMasked);
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
          for (std::size_t i = 0; i < alone.parameters.size(); ++i) {
            EXPECT_TRUE(at::allclose(outcome.parameters[i], alone.parameters[i], 0, kCollectiveRounding));
            EXPECT_TRUE(outcome.parameters[i].equal(together[0].parameters[i])) << "ranks drift apart";
          }
        }
      }
    }
  }
}

TEST(Processes, GradientsTravelInOneMessage) {
  const auto outcomes = train_together(2, short_run(4, 1), rows);
  EXPECT_EQ(outcomes[0].messages, 6 * 4);  // a step's: scored tokens, loss, gradients, whether to stop
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
  Table table(1);
  Member one_of_five(table, 0, 5);
  Decoder decoder = test::tiny_decoder(test::tiny_spec("gqa"));
  RowBatches source(documents());
  EXPECT_EQ(
      test::message_of<ConfigError>([&] { train(decoder, source, short_run(2, 2), {.processes = &one_of_five}); }),
      "train: batch_rows * accumulation = 4 rows a step cannot be shared by 5 processes");
}

TEST(Processes, ATextOfOneIsKnownToAll) {
  Table table(2);
  Member first(table, 0, 2), second(table, 1, 2);
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
