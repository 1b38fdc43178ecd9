// What processes that train together exchange while they compute, and what becomes of it when one of them fails.
#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <atomic>
#include <limits>

#include "core/train/gradient_buckets.h"
#include "core/train/trainer.h"
#include "tests/support/errors.h"
#include "tests/support/tiny_models.h"
#include "tests/train/thread_group.h"

namespace mla {
namespace {

using test::Member;
using test::ThreadGroup;
using testing::HasSubstr;

constexpr double kOverlapRounding = 1e-10;  // of losses in float64 after a few updates
constexpr Shard kAllShards[] = {Shard::kNone, Shard::kOptimizer, Shard::kGradients, Shard::kWeights};
constexpr std::int64_t kLayers = 5;

/// Five layers of more than a bucket each, and an output matrix of its own.
ModelSpec layered_spec() {
  UniformModel model = test::tiny_model("mha");
  model.model.hidden = 64;
  model.feed_forward.width = 160;
  model.layers = kLayers;
  return model.spec();
}

TrainOptions a_run(Shard shard, std::int64_t steps = 3) {
  TrainOptions options;
  options.steps = steps;
  options.batch_rows = 4;
  options.learning_rate = 1e-3;
  options.schedule.warmup_steps = 0;
  options.schedule.decay_steps = 0;
  options.divergence_factor = 0;
  options.shard = shard;
  return options;
}

/// Random rows, of which those whose number `skips` chooses are not scored.
class SomeRows final : public BatchSource {
 public:
  explicit SomeRows(std::function<bool(std::int64_t row)> skips = {}) : skips_(std::move(skips)) {}
  Batch next(std::int64_t rows) override {
    std::vector<at::Tensor> ids, targets;
    for (std::int64_t end = position_ + rows; position_ < end; ++position_) {
      const at::Tensor tokens = test::random_ids(layered_spec(), 1, 13, static_cast<std::uint64_t>(position_ % 7));
      ids.push_back(tokens.narrow(1, 0, 12));
      targets.push_back(tokens.narrow(1, 1, 12));
      if (skips_ && skips_(position_)) targets.back() = at::full_like(targets.back(), kIgnoredTarget);
    }
    const at::Tensor all = at::cat(targets);
    return {at::cat(ids).contiguous(), all, all.ne(kIgnoredTarget).sum().item<std::int64_t>()};
  }

 private:
  std::function<bool(std::int64_t)> skips_;
};

/// The last layer whose gradients a backward pass has begun to give.
class BackwardProgress {
 public:
  void reach(std::int64_t layer) {
    const std::lock_guard lock(mutex_);
    layer_ = layer;
    changed_.notify_all();
  }
  /// Whether a layer before `layer` is reached in that time.
  bool wait_for_one_before(std::int64_t layer, std::chrono::milliseconds patience) {
    std::unique_lock lock(mutex_);
    return changed_.wait_for(lock, patience, [&] { return layer_ < layer; });
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  std::int64_t layer_ = std::numeric_limits<std::int64_t>::max();
};

/// Calls `watch` for each gradient of a layer from the step after `step` on.
class WatchGradients final : public TrainingObserver {
 public:
  using Watch = std::function<void(std::int64_t layer, const std::string& name)>;
  WatchGradients(Decoder& decoder, std::int64_t step, Watch watch)
      : decoder_(decoder), step_(step), watch_(std::move(watch)) {}
  bool after_step(const TrainingStep& step, const TrainingRun& run) override {
    if (step.step != step_) return true;
    decoder_.visit_parameters([&](const std::string& name, at::Tensor& parameter) {
      const auto layer = layer_of(name);
      if (!layer) return;
      parameter.register_hook([watch = watch_, name = name,
                               layer = static_cast<std::int64_t>(*layer)](const at::Tensor&) { watch(layer, name); });
    });
    keep(run);
    return true;
  }

  TrainingState kept;  ///< whole, after that step

 private:
  void keep(const TrainingRun& run) {
    kept = run.state();
    for (auto& [name, tensor] : kept.tensors) tensor = tensor.clone();
    for (const TensorSource& source : kept.gathered) kept.tensors.emplace_back(source.name, source.values().clone());
    kept.gathered.clear();
  }

  Decoder& decoder_;
  std::int64_t step_;
  Watch watch_;
};

/// Holds the first message of gradients, once it is armed, until the backward pass has come to a layer before those
/// whose gradients are in it.
class HoldingMember final : public Member {
 public:
  HoldingMember(ThreadGroup& group, std::int64_t rank, BackwardProgress& progress, std::int64_t layer,
                std::chrono::milliseconds patience)
      : Member(group, rank), progress_(progress), layer_(layer), patience_(patience) {}

  void sum_in_place(const at::Tensor& values) override {
    hold(values);
    Member::sum_in_place(values);
  }

  std::atomic<bool> armed = false, went_on = false, held = false;

 private:
  void hold(const at::Tensor& values) {
    constexpr std::int64_t kMoreThanLosses = 1000;
    if (values.numel() < kMoreThanLosses || !armed.exchange(false)) return;
    held = true;
    went_on = progress_.wait_for_one_before(layer_, patience_);
  }
  BackwardProgress& progress_;
  std::int64_t layer_;
  std::chrono::milliseconds patience_;
};

/// The first layer with gradients in the first bucket of a pass.
std::int64_t first_layer_of_first_bucket(Decoder decoder) {
  const TrainableParameters trained(decoder, "all", "train.trainable");
  const auto buckets = make_buckets(decoder.spec(), bytes_of(trained.named()));
  std::int64_t first = kLayers;
  for (const std::size_t i : buckets.front()) {
    if (const auto layer = layer_of(trained.named()[i].first)) first = std::min<std::int64_t>(first, *layer);
  }
  return first;
}

/// Whether the backward passes of both processes went on while their first bucket was held.
bool goes_on(Shard shard, bool overlap, std::chrono::milliseconds patience) {
  const std::int64_t layer = first_layer_of_first_bucket(test::tiny_decoder(layered_spec()));
  EXPECT_GT(layer, 0);
  TrainOptions options = a_run(shard);
  options.overlap = overlap;
  ThreadGroup group(2);
  std::atomic<int> went_on = 0, held = 0;
  test::as_processes(2, [&](std::int64_t rank) {
    Decoder decoder = test::tiny_decoder(layered_spec());
    BackwardProgress progress;
    HoldingMember member(group, rank, progress, layer, patience);
    WatchGradients watch(decoder, 0, [&](std::int64_t reached, const std::string&) { progress.reach(reached); });
    struct Arm final : TrainingObserver {
      WatchGradients& watch;
      HoldingMember& member;
      Arm(WatchGradients& w, HoldingMember& m) : watch(w), member(m) {}
      bool after_step(const TrainingStep& step, const TrainingRun& run) override {
        const bool on = watch.after_step(step, run);
        member.armed = step.step == 0;
        return on;
      }
    } arm(watch, member);
    SomeRows rows;
    train(decoder, rows, options, {.observer = &arm, .processes = &member});
    went_on += member.went_on ? 1 : 0;
    held += member.held ? 1 : 0;
  });
  EXPECT_EQ(held, 2);
  return went_on == 2;
}

// An ordering, no timing: without overlap the pass would wait for the exchange, and the exchange for the pass.
TEST(Overlap, TheBackwardPassGoesOnWhileGradientsAreUnderWay) {
  for (const Shard shard : kAllShards) {
    SCOPED_TRACE(static_cast<int>(shard));
    EXPECT_TRUE(goes_on(shard, /*overlap=*/true, std::chrono::seconds(30)));
    EXPECT_FALSE(goes_on(shard, /*overlap=*/false, std::chrono::milliseconds(50)));
  }
}

/// Losses of all steps, as `size` processes find them; the same in each of them.
std::vector<double> losses(const TrainOptions& options, std::int64_t size,
                           const std::function<bool(std::int64_t)>& skips, const TrainingState* start = nullptr) {
  ThreadGroup group(size);
  std::vector<std::vector<double>> all(static_cast<std::size_t>(size));
  test::as_processes(size, [&](std::int64_t rank) {
    Decoder decoder = test::tiny_decoder(layered_spec());
    Member member(group, rank);
    SomeRows rows(skips);
    all[static_cast<std::size_t>(rank)] = train(decoder, rows, options, {.start = start, .processes = &member}).loss;
  });
  for (const auto& one : all) EXPECT_EQ(one, all.front());
  return all.front();
}

auto are_near(const std::vector<double>& expected) {
  return testing::Pointwise(testing::DoubleNear(kOverlapRounding), expected);
}

// Many buckets, and a gradient of the output matrix that only some processes, or only some passes, have.
TEST(Overlap, ChangesNoNumberWhereAProcessScoresNothing) {
  using Case = std::array<std::int64_t, 3>;
  for (const auto& [batch_rows, accumulation, period] : {Case{4, 1, 2}, {1, 4, 3}, {1, 5, 2}, {2, 3, 3}}) {
    TrainOptions options = a_run(Shard::kNone);
    options.batch_rows = batch_rows;
    options.accumulation = accumulation;
    const auto skips = [every = period](std::int64_t row) { return row % every != 0; };
    const std::vector<double> alone = losses(options, 1, skips);
    for (const Shard shard : kAllShards) {
      SCOPED_TRACE(cat(batch_rows, " ", accumulation, " ", period, " ", static_cast<int>(shard)));
      options.shard = shard;
      for (const std::int64_t size : {2, 4}) EXPECT_THAT(losses(options, size, skips), are_near(alone));
    }
  }
}

// What nothing depends on stays as it is: it has no gradient in any process, and so does not decay.
TEST(Overlap, LeavesAloneWhatHasNoGradient) {
  TrainOptions options = a_run(Shard::kNone, 2);
  options.loss.cross_entropy = 0;
  options.loss.hidden_state = 1;
  const Decoder teacher = test::tiny_decoder(layered_spec(), at::kDouble, 2);
  for (const Shard shard : kAllShards) {
    options.shard = shard;
    ThreadGroup group(2);
    test::as_processes(2, [&](std::int64_t rank) {
      Decoder decoder = test::tiny_decoder(layered_spec());
      const at::Tensor before = decoder.output.to_dense().clone();
      Member member(group, rank);
      SomeRows rows;
      train(decoder, rows, options, {.teacher = &teacher, .processes = &member});
      EXPECT_TRUE(decoder.output.to_dense().equal(before));
    });
  }
}

constexpr std::int64_t kLastGoodStep = 1, kFailing = 1, kSlow = 0;

/// Three processes, of which one fails in a backward pass while an exchange of its gradients waits for another that has
/// not come yet. Each is given to `after` when it has failed; returns the state after the last good step.
TrainingState fail_amid(const TrainOptions& options,
                        const std::function<void(std::int64_t rank, Decoder& decoder, Member& member)>& after) {
  ThreadGroup group(3);
  TrainingState kept;
  BackwardProgress failing;  // reaches layer 0 when it has failed
  test::as_processes(3, [&](std::int64_t rank) {
    Decoder decoder = test::tiny_decoder(layered_spec());
    Member member(group, rank);
    WatchGradients watch(decoder, kLastGoodStep, [&](std::int64_t layer, const std::string&) {
      if (rank == kSlow && layer == kLayers - 1) failing.wait_for_one_before(1, test::kPatience);
      if (rank != kFailing || layer >= kLayers - 1) return;
      failing.reach(0);
      throw std::runtime_error("no memory is left");
    });
    SomeRows rows;
    std::string message;
    try {
      train(decoder, rows, options, {.observer = &watch, .processes = &member});
    } catch (const PeerFailed& error) {
      message = error.what();
    } catch (const std::runtime_error& error) {
      message = error.what();
    }
    EXPECT_EQ(message, rank == kFailing ? "no memory is left" : "process 1 has failed");
    const GroupFailure failure = member.settle(/*exit_code=*/4, false);
    EXPECT_EQ(failure.rank, kFailing);
    if (rank == 0) kept = watch.kept;
    after(rank, decoder, member);
  });
  return kept;
}

TEST(Overlap, AFailureWhileAnExchangeIsPendingEndsAllInStep) {
  for (const Shard shard : kAllShards) {
    SCOPED_TRACE(static_cast<int>(shard));
    const TrainOptions options = a_run(shard, 4);
    const TrainingState kept = fail_amid(options, [](std::int64_t rank, Decoder&, Member& member) {
      EXPECT_EQ(member.sum(static_cast<double>(rank)), 3);  // they speak of the same thing again
    });
    ASSERT_EQ(kept.report.loss.size(), static_cast<std::size_t>(kLastGoodStep + 1));
    const std::vector<double> expected = losses(a_run(Shard::kNone, 4), 1, {});
    EXPECT_THAT(losses(options, 3, {}, &kept), are_near(expected));
    EXPECT_THAT(losses(options, 2, {}, &kept), are_near(expected));
  }
}

TEST(Overlap, AModelWhoseWeightsAreLostSaysSo) {
  fail_amid(a_run(Shard::kWeights), [](std::int64_t, Decoder& decoder, Member&) {
    const at::Tensor ids = test::random_ids(decoder.spec(), 1, 5);
    const auto says_so = HasSubstr("this model's weights are lost: processes had divided them");
    EXPECT_THAT(test::message_of<std::logic_error>([&] { decoder.forward(ids); }), says_so);
    EXPECT_THAT(test::message_of<std::logic_error>([&] { decoder.clone(); }), says_so);
    EXPECT_THAT(
        test::message_of<std::logic_error>([&] { decoder.visit_parameters([](const std::string&, at::Tensor&) {}); }),
        says_so);
    DecoderCache cache = decoder.make_cache(1);
    EXPECT_THAT(test::message_of<std::logic_error>([&] { decoder.forward_cached(ids, cache); }), says_so);
    SomeRows rows;
    EXPECT_THAT(test::message_of<std::logic_error>([&] { train(decoder, rows, a_run(Shard::kNone)); }), says_so);
  });
}

TEST(Overlap, AModelWhoseWeightsWereWholeIsAsTheLastUpdateLeftIt) {
  for (const Shard shard : {Shard::kNone, Shard::kOptimizer, Shard::kGradients}) {
    std::vector<at::Tensor> left(3);
    const TrainingState kept = fail_amid(a_run(shard), [&](std::int64_t rank, Decoder& decoder, Member&) {
      decoder.visit_parameters([&](const std::string& name, at::Tensor& parameter) {
        if (name == "model.layers.2.mlp.up_proj.weight") left[static_cast<std::size_t>(rank)] = parameter;
      });
    });
    for (const auto& [name, tensor] : kept.tensors) {
      if (name != "parameter.model.layers.2.mlp.up_proj.weight") continue;
      for (const at::Tensor& one : left) EXPECT_TRUE(one.equal(tensor));
    }
  }
}

}  // namespace
}  // namespace mla
