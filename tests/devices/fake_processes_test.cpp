// Processes that train a model on a device: gradients are made and given away in a thread of the device's, and weights
// that come and go meet it there.
#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/train/trainer.h"
#include "tests/devices/fake_device.h"
#include "tests/support/tiny_models.h"
#include "tests/train/thread_group.h"

namespace mla {
namespace {

constexpr double kSameProcesses = 1e-10;  // of losses in float64

std::vector<std::vector<std::int32_t>> rows_for_processes() {
  const at::Tensor ids = test::random_ids(test::tiny_spec("mha"), 8, 13, 3);
  std::vector<std::vector<std::int32_t>> rows;
  for (std::int64_t i = 0; i < ids.size(0); ++i) {
    const std::int64_t* row = ids.const_data_ptr<std::int64_t>() + i * ids.size(1);
    rows.emplace_back(row, row + ids.size(1));
  }
  return rows;
}

/// The first of them trains on the device where asked: its thread there serves one process, and would wait for itself.
std::vector<double> losses_of_processes(const TrainOptions& options, std::int64_t size, bool on_device) {
  test::ThreadGroup group(size);
  std::vector<std::vector<double>> all(static_cast<std::size_t>(size));
  test::as_processes(size, [&](std::int64_t rank) {
    Decoder model = test::tiny_decoder(test::tiny_spec("mha"));
    if (on_device && rank == 0) model.move_to(test::on_fake_device(at::kDouble));
    test::Member member(group, rank);
    RowBatches source(rows_for_processes());
    all[static_cast<std::size_t>(rank)] = train(model, source, options, {.processes = &member}).loss;
  });
  EXPECT_EQ(all.back(), all.front());
  return all.front();
}

TEST(FakeDeviceProcesses, TrainTheSame) {
  TrainOptions options;
  options.steps = 4;
  options.batch_rows = 1;
  options.accumulation = 3;
  options.learning_rate = 1e-2;
  options.schedule.warmup_steps = options.schedule.decay_steps = 0;
  const std::vector<double> alone = losses_of_processes(options, 1, false);
  ASSERT_EQ(alone.size(), 4U);
  for (const Shard shard : {Shard::kNone, Shard::kOptimizer, Shard::kGradients, Shard::kWeights}) {
    SCOPED_TRACE(static_cast<int>(shard));
    options.shard = shard;
    EXPECT_THAT(losses_of_processes(options, 2, true), testing::Pointwise(testing::DoubleNear(kSameProcesses), alone));
  }
}

}  // namespace
}  // namespace mla
