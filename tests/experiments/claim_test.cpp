// Claims on cells: one living holder, takeover of dead ones.
#include "experiments/sweep/claim.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <thread>

#include "core/base/fields.h"
#include "core/base/file.h"
#include "tests/support/temporary_folder.h"

namespace mla {
namespace {

using std::chrono::milliseconds;

std::vector<std::string> files_in(const std::filesystem::path& folder) {
  std::vector<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(folder))
    names.push_back(entry.path().filename().string());
  return names;
}

/// A claim by another process, as it would lie in the folder.
void write_claim(const test::TemporaryFolder& folder, const ProcessIdentity& holder) {
  folder.write("claim.1", write_fields(holder).dump());
}

TEST(Claim, IsHeldByOneAndReleasedWithoutTraces) {
  const test::TemporaryFolder folder;
  {
    const auto first = Claim::attempt(folder.path());
    ASSERT_TRUE(first);
    EXPECT_FALSE(Claim::attempt(folder.path()));
    EXPECT_EQ(living_holder(folder.path())->pid, ::getpid());
    EXPECT_FALSE(first->lost());
  }
  EXPECT_TRUE(files_in(folder.path()).empty());
  EXPECT_FALSE(living_holder(folder.path()));
  EXPECT_TRUE(Claim::attempt(folder.path()));
}

TEST(Claim, OfADeadProcessIsTakenOver) {
  const test::TemporaryFolder folder;
  const pid_t child = ::fork();
  if (child == 0) {
    auto claim = Claim::attempt(folder.path());
    ::_exit(claim ? 0 : 1);  // without destructors, as kill -9 would end it
  }
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  ASSERT_EQ(WEXITSTATUS(status), 0);
  EXPECT_THAT(files_in(folder.path()), testing::ElementsAre("claim.1"));
  EXPECT_FALSE(living_holder(folder.path()));
  {
    const auto claim = Claim::attempt(folder.path());
    ASSERT_TRUE(claim);
    EXPECT_THAT(files_in(folder.path()), testing::UnorderedElementsAre("claim.1", "claim.2"));
    EXPECT_FALSE(Claim::attempt(folder.path()));
  }
  EXPECT_TRUE(files_in(folder.path()).empty());
}

TEST(Claim, OfAReusedPidIsTakenOver) {
  const test::TemporaryFolder folder;
  ProcessIdentity other = this_process();
  other.started -= 1;
  write_claim(folder, other);
  EXPECT_TRUE(Claim::attempt(folder.path()));
}

TEST(Claim, OfAnEarlierBootIsTakenOver) {
  const test::TemporaryFolder folder;
  ProcessIdentity other = this_process();
  other.boot = "another";
  write_claim(folder, other);
  EXPECT_TRUE(Claim::attempt(folder.path()));
}

TEST(Claim, OfAnotherHostStandsUntilItsHeartStops) {
  const test::TemporaryFolder folder;
  ProcessIdentity other = this_process();
  other.host = "another";
  write_claim(folder, other);
  EXPECT_FALSE(Claim::attempt(folder.path()));
  EXPECT_TRUE(living_holder(folder.path()));
  const timespec old[2] = {{.tv_sec = ::time(nullptr) - 100, .tv_nsec = 0},
                           {.tv_sec = ::time(nullptr) - 100, .tv_nsec = 0}};
  ASSERT_EQ(::utimensat(AT_FDCWD, (folder / "claim.1").c_str(), old, 0), 0);
  EXPECT_FALSE(living_holder(folder.path()));
  EXPECT_TRUE(Claim::attempt(folder.path()));
}

TEST(Claim, ThatCannotBeReadIsJudgedByItsAge) {
  const test::TemporaryFolder folder;
  folder.write("claim.1", "");
  EXPECT_FALSE(Claim::attempt(folder.path()));
  EXPECT_TRUE(Claim::attempt(folder.path(), {.stale = milliseconds(0)}));
}

TEST(Claim, HeartBeats) {
  const test::TemporaryFolder folder;
  const auto claim = Claim::attempt(folder.path(), {.heartbeat = milliseconds(5)});
  const auto before = std::filesystem::last_write_time(folder / "claim.1");
  for (int i = 0; i < 400 && std::filesystem::last_write_time(folder / "claim.1") == before; ++i) {
    std::this_thread::sleep_for(milliseconds(5));
  }
  EXPECT_GT(std::filesystem::last_write_time(folder / "claim.1"), before);
}

// A process that slept while another took its cell over must notice, and must not take the other's claim away.
TEST(Claim, IsLostToASuccessor) {
  const test::TemporaryFolder folder;
  auto sleeper = Claim::attempt(folder.path());
  folder.write("claim.2", write_fields(this_process()).dump());
  EXPECT_TRUE(sleeper->lost());
  sleeper.reset();
  EXPECT_THAT(files_in(folder.path()), testing::UnorderedElementsAre("claim.1", "claim.2"));
}

TEST(Claim, GoesToOneOfManyAtOnce) {
  for (int round = 0; round < 20; ++round) {
    const test::TemporaryFolder folder;
    ProcessIdentity dead = this_process();
    dead.started -= 1;
    write_claim(folder, dead);
    std::vector<std::unique_ptr<Claim>> claims(8);
    {
      std::vector<std::jthread> threads;
      for (auto& claim : claims) threads.emplace_back([&] { claim = Claim::attempt(folder.path()); });
    }
    EXPECT_EQ(std::count_if(claims.begin(), claims.end(), [](const auto& claim) { return claim != nullptr; }), 1);
  }
}

// Holders tidy the folder, and with it the unfinished claims of others who are on their way.
TEST(Claim, TidyingHoldersDisturbNobody) {
  const test::TemporaryFolder folder;
  std::atomic<int> taken = 0, failed = 0;
  std::vector<std::jthread> threads;
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back([&] {
      for (int turn = 0; turn < 1000; ++turn) {
        try {
          if (const auto claim = Claim::attempt(folder.path())) {
            remove_leftovers(folder.path());
            ++taken;
          }
          file_system_time(folder.path());
        } catch (const std::exception&) {
          ++failed;
        }
      }
    });
  }
  threads.clear();
  EXPECT_GT(taken, 0);
  EXPECT_EQ(failed, 0);
  EXPECT_TRUE(files_in(folder.path()).empty());
}

}  // namespace
}  // namespace mla
