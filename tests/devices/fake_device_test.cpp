// What the fake device promises to the tests that use it.
#include "tests/devices/fake_device.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cstdlib>

#include "core/base/error.h"
#include "core/ops/kernels.h"
#include "tests/support/errors.h"

namespace mla {
namespace {

using test::device_counts;
using test::kFakeDevice;

/// What is computed there is compared with the host's, by the same operations.
[[maybe_unused]] const bool kernels_off = [] { return ::setenv("MLA_KERNELS", "off", 1) == 0 && !kernels_are_on(); }();

TEST(FakeDevice, ItsMemoryIsOutOfTheHostsReach) {
  testing::GTEST_FLAG(death_test_style) = "threadsafe";
  const at::Tensor there = at::ones({3}).to(kFakeDevice);
  EXPECT_DEATH(std::exit(there.const_data_ptr<float>()[1] == 1 ? 0 : 1), "");
  EXPECT_TRUE(at::equal(there.to(at::kCPU), at::ones({3})));
}

TEST(FakeDevice, FreshMemoryHoldsNoNumbers) {
  const std::int64_t before = test::fake_device_bytes();
  const at::Tensor fresh = at::empty({2, 5}, at::TensorOptions(kFakeDevice));
  EXPECT_EQ(test::fake_device_bytes(), before + 64);
  EXPECT_TRUE(fresh.to(at::kCPU).isnan().all().item<bool>());
  EXPECT_TRUE(at::empty({1}, fresh.options().dtype(at::kBFloat16)).to(at::kCPU).isnan().item<bool>());
}

TEST(FakeDevice, ViewsShareMemoryAndResultsDoNot) {
  const at::Tensor x = at::arange(12, at::kFloat).view({3, 4}), there = x.to(kFakeDevice);
  there.narrow(0, 1, 1).select(0, 0).fill_(7);
  there.t()[3].mul_(2);
  x.narrow(0, 1, 1).fill_(7);
  x.t()[3].mul_(2);
  EXPECT_TRUE(at::equal(there.to(at::kCPU), x));
  EXPECT_TRUE(at::equal(there.matmul(there.t()).to(at::kCPU), x.matmul(x.t())));
  at::Tensor larger = at::empty({0}, there.options());
  at::add_out(larger, there, there);
  EXPECT_TRUE(at::equal(larger.to(at::kCPU), x + x));
  const std::vector<at::Tensor> halves = there.chunk(2, 1);
  EXPECT_TRUE(
      at::equal(at::cat({halves[1], halves[0]}, 1).to(at::kCPU), at::cat({x.narrow(1, 2, 2), x.narrow(1, 0, 2)}, 1)));
}

TEST(FakeDevice, GradientsAreMadeThere) {
  const at::Tensor x = at::linspace(-1, 1, 6), here = x.clone().requires_grad_(true),
                   there = x.to(kFakeDevice).requires_grad_(true);
  (here.exp() * here.sin()).sum().backward();
  (there.exp() * there.sin()).sum().backward();
  EXPECT_EQ(there.grad().device(), kFakeDevice);
  EXPECT_TRUE(at::equal(there.grad().to(at::kCPU), here.grad()));
}

TEST(FakeDevice, CountsWhatItIsWaitedForAndWhatIsCopied) {
  const auto counted = [](const std::function<void()>& work) {
    const test::DeviceCounts before = device_counts();
    work();
    return device_counts() - before;
  };
  const at::Tensor x = at::ones({4}), there = x.to(kFakeDevice);
  const test::DeviceCounts none = counted([&] { (there + 1).sum().mul_(2); });
  EXPECT_GE(none.operations, 3);
  EXPECT_EQ(none.waits + none.copies_to_host + none.copies_to_device, 0);
  EXPECT_EQ(counted([&] { x.to(kFakeDevice); }).copies_to_device, 1);
  EXPECT_EQ(counted([&] { x.to(kFakeDevice); }).waits, 1);
  EXPECT_EQ(counted([&] { x.to(at::device(kFakeDevice), /*non_blocking=*/true); }).waits, 0);
  EXPECT_EQ(counted([&] { there.to(at::kCPU); }).copies_to_host, 1);
  EXPECT_EQ(counted([&] { there.to(at::kCPU); }).waits, 1);
  EXPECT_EQ(counted([&] { there.sum().item<float>(); }).waits, 1);
  EXPECT_EQ(counted([&] { at::equal(there, there); }).waits, 1);
  EXPECT_EQ(counted([&] { there.nonzero(); }).waits, 1);
  EXPECT_GE(counted([&] { there.index({there > 0}); }).waits, 1);
}

TEST(FakeDevice, WhatStandsOnTheHostIsRefused) {
  const at::Tensor x = at::ones({4}), there = x.to(kFakeDevice);
  EXPECT_ANY_THROW(there + x);
  EXPECT_ANY_THROW(there.index_select(0, at::zeros({1}, at::kLong)));
  EXPECT_TRUE(at::equal((there + at::scalar_tensor(2.0F)).to(at::kCPU), x + 2));
}

TEST(FakeDevice, IsChosenByItsName) {
  EXPECT_EQ(parse_device("fake", "device"), kFakeDevice);
  EXPECT_EQ(test::message_of<ConfigError>([] { parse_device("fakes", "device"); }),
            "device: no 'fakes'; known: cpu, cuda");
}

}  // namespace
}  // namespace mla
