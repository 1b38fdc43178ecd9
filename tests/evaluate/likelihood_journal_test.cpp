// An evaluation that goes on where an earlier one was stopped.
#include "core/evaluate/likelihood_journal.h"

#include <gtest/gtest.h>

#include "core/base/error.h"
#include "core/base/file.h"
#include "tests/support/temporary_folder.h"
#include "tests/support/tiny_models.h"

namespace mla {
namespace {

class Journal : public testing::Test {
 protected:
  void SetUp() override {
    options_.batch_tokens = 24;
    options_.greedy = true;
    for (int i = 0; i < 20; ++i) {
      ContinuationGroup group;
      for (int choice = 0; choice < 3; ++choice) {
        Continuation one;
        for (int t = 0; t < 4 + i % 5 + choice; ++t) one.tokens.push_back((7 * i + 3 * t + (t > 3 ? choice : 0)) % 50);
        one.context = 3;
        group.push_back(one);
      }
      groups_.push_back(group);
    }
  }

  /// Stops after so many batches, as Ctrl-C does.
  void run_for(int batches) {
    LikelihoodJournal journal(file_, "key");
    LikelihoodOptions options = options_;
    options.journal = &journal;
    options.computed = [&](std::int64_t) {
      if (--batches == 0) throw Interrupted("stopped");
    };
    EXPECT_THROW(log_likelihoods(decoder_, groups_, options), Interrupted);
  }

  LikelihoodResult finish(const std::string& key, std::int64_t& restored) {
    LikelihoodJournal journal(file_, key);
    LikelihoodOptions options = options_;
    options.journal = &journal;
    LikelihoodResult result = log_likelihoods(decoder_, groups_, options);
    restored = journal.restored();
    return result;
  }

  test::TemporaryFolder folder_;
  std::filesystem::path file_ = folder_ / "task.journal";
  Decoder decoder_ = test::tiny_decoder(test::tiny_spec("gqa"), at::kFloat);
  std::vector<ContinuationGroup> groups_;
  LikelihoodOptions options_;
};

TEST_F(Journal, GoesOnToTheSameNumbersBitForBit) {
  const LikelihoodResult whole = log_likelihoods(decoder_, groups_, options_);
  run_for(4);
  std::int64_t restored = 0;
  const LikelihoodResult result = finish("key", restored);
  EXPECT_EQ(restored, 4);
  EXPECT_EQ(result.sum, whole.sum);
  EXPECT_EQ(result.greedy, whole.greedy);
}

TEST_F(Journal, ATornLineIsDoneAgain) {
  run_for(4);
  const std::string text = read_file(file_);
  write_file_atomically(file_, text.substr(0, text.size() - 5));
  std::int64_t restored = 0;
  EXPECT_EQ(finish("key", restored).sum, log_likelihoods(decoder_, groups_, options_).sum);
  EXPECT_EQ(restored, 3);
}

TEST_F(Journal, AnotherKeyBeginsAnew) {
  run_for(4);
  std::int64_t restored = 0;
  finish("other", restored);
  EXPECT_EQ(restored, 0);
  EXPECT_NE(requests_key(groups_, options_), requests_key({groups_.front()}, options_));
}

TEST_F(Journal, CountsTheTokensThatAreComputed) {
  std::int64_t tokens = 0;
  LikelihoodOptions options = options_;
  options.computed = [&](std::int64_t count) { tokens += count; };
  log_likelihoods(decoder_, groups_, options);
  EXPECT_EQ(tokens, tokens_to_compute(decoder_, groups_, options));
  EXPECT_GT(tokens, 0);
}

TEST_F(Journal, TellsWhatIsLeftAndWhatWasTakenOver) {
  run_for(2);
  LikelihoodJournal journal(file_, "key");
  EXPECT_EQ(journal.kept(), 2);
  LikelihoodOptions options = options_;
  options.journal = &journal;
  std::int64_t computed = 0, taken_over = 0;
  options.computed = [&](std::int64_t count) { computed += count; };
  options.taken_over = [&](std::int64_t count) { taken_over += count; };
  const std::int64_t left = tokens_to_compute(decoder_, groups_, options, journal.kept());
  log_likelihoods(decoder_, groups_, options);
  EXPECT_EQ(computed, left);
  EXPECT_EQ(computed + taken_over, tokens_to_compute(decoder_, groups_, options));
  EXPECT_GT(taken_over, 0);
}

}  // namespace
}  // namespace mla
