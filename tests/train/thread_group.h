// Several processes that train one model, played by threads of this one.
#pragma once

#include <ATen/ATen.h>

#include <chrono>
#include <condition_variable>
#include <exception>
#include <functional>
#include <memory>
#include <mutex>
#include <numeric>
#include <thread>
#include <utility>
#include <vector>

#include "core/base/error.h"
#include "core/train/collective.h"

namespace mla::test {

/// After which a test fails instead of waiting for good.
constexpr std::chrono::seconds kPatience{60};
/// It is waited for in steps: time in which the whole machine stands still counts as one of them at most.
constexpr std::chrono::seconds kStep{1};

/// Where the members of a group meet: each call of all of them is one meeting. Sums are those of ranks in their order,
/// so that they are the same bits every time.
class ThreadGroup {
 public:
  explicit ThreadGroup(std::int64_t size) : size_(size), given_(static_cast<std::size_t>(size)) {}
  std::int64_t size() const { return size_; }

  struct Outcome {
    std::vector<at::Tensor> given;  ///< by rank; undefined of one that has failed
    GroupFailure failure;           ///< with exit code 0: nobody has
  };

  /// What all have given, once all have come. The failure of the lowest rank counts.
  std::shared_ptr<const Outcome> meet(std::int64_t rank, at::Tensor values, int exit_code = 0) {
    std::unique_lock lock(mutex_);
    given_[static_cast<std::size_t>(rank)] = std::move(values);
    if (exit_code != 0 && (failure_.exit_code == 0 || rank < failure_.rank)) failure_ = {rank, exit_code, false};
    if (++here_ == size()) {
      outcome_ = std::make_shared<Outcome>(
          Outcome{std::exchange(given_, std::vector<at::Tensor>(given_.size())), std::exchange(failure_, {})});
      here_ = 0;
      ++meetings_;
      all_here_.notify_all();
      return outcome_;
    }
    const int meeting = meetings_;
    for (auto waited = kStep; waited <= kPatience; waited += kStep) {
      if (all_here_.wait_for(lock, kStep, [&] { return meetings_ != meeting; })) return outcome_;
    }
    throw std::logic_error(cat("process ", rank, " waits for others that do not come to meeting ", meeting));
  }

 private:
  const std::int64_t size_;
  std::mutex mutex_;
  std::condition_variable all_here_;
  std::vector<at::Tensor> given_;
  GroupFailure failure_;
  std::int64_t here_ = 0;
  int meetings_ = 0;
  std::shared_ptr<const Outcome> outcome_;
};

class Member : public Collective {
 public:
  Member(ThreadGroup& group, std::int64_t rank) : group_(group), rank_(rank) {}
  std::int64_t rank() const override { return rank_; }
  std::int64_t size() const override { return group_.size(); }
  std::int64_t local_size() const override { return group_.size(); }

  void sum_in_place(const at::Tensor& values) override {
    const auto all = meet(values);
    at::Tensor sum = all->given.front().clone();
    for (std::size_t rank = 1; rank < all->given.size(); ++rank) sum.add_(all->given[rank]);
    values.copy_(sum);
  }
  void broadcast(const at::Tensor& values) override { values.copy_(meet(values)->given.front()); }
  void sum_parts(const at::Tensor& values, const std::vector<std::int64_t>& counts, const at::Tensor& own) override {
    const at::Tensor all = values.clone();
    sum_in_place(all);
    own.copy_(part(all, counts, rank_).view_as(own));
  }
  void share_parts(const at::Tensor& values, const std::vector<std::int64_t>& counts) override {
    const auto all = meet(values);
    for (std::int64_t rank = 0; rank < size(); ++rank)
      part(values, counts, rank).copy_(part(all->given[static_cast<std::size_t>(rank)], counts, rank));
  }
  GroupFailure settle(int exit_code, bool) override {
    if (known_.exit_code != 0) return std::exchange(known_, {});
    return group_.meet(rank_, {}, exit_code)->failure;
  }

  int messages = 0;

 private:
  std::shared_ptr<const ThreadGroup::Outcome> meet(const at::Tensor& values) {
    ++messages;
    auto outcome = group_.meet(rank_, values.clone());
    known_ = outcome->failure;
    if (known_.exit_code != 0) throw PeerFailed(cat("process ", known_.rank, " has failed"));
    return outcome;
  }
  static at::Tensor part(const at::Tensor& values, const std::vector<std::int64_t>& counts, std::int64_t rank) {
    const auto own = counts.begin() + rank;
    return values.view(-1).narrow(0, std::accumulate(counts.begin(), own, std::int64_t{0}), *own);
  }

  ThreadGroup& group_;
  std::int64_t rank_;
  GroupFailure known_;  ///< that settle() has yet to deal with
};

/// Runs `work(rank)` in as many threads, and throws what the first of them throws that does.
inline void as_processes(std::int64_t size, const std::function<void(std::int64_t rank)>& work) {
  std::mutex mutex;
  std::exception_ptr failure;
  const auto watched = [&](std::int64_t rank) {
    try {
      work(rank);
    } catch (...) {
      const std::lock_guard lock(mutex);
      if (!failure) failure = std::current_exception();
    }
  };
  {
    std::vector<std::jthread> threads;
    for (std::int64_t rank = 1; rank < size; ++rank) threads.emplace_back(watched, rank);
    watched(0);
  }
  if (failure) std::rethrow_exception(failure);
}

}  // namespace mla::test
