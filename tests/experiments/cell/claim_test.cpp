// Claims on cells: one living holder, takeover of dead ones.
#include "experiments/cell/claim.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <thread>

#include "core/base/fields.h"
#include "core/base/file.h"
#include "tests/support/temporary_folder.h"

namespace {
std::atomic<int> link_answer = 0;  // what link(2) fails with after it has done its work; 0: it tells the truth
}

/// Instead of the C library's.
extern "C" int link(const char* from, const char* to) noexcept {
  const int result = ::linkat(AT_FDCWD, from, AT_FDCWD, to, 0);
  if (result != 0 || link_answer == 0) return result;
  errno = link_answer;
  return -1;
}

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

/// Makes the claim in `folder` as old as one whose holder has died.
void stop_heart(const test::TemporaryFolder& folder) {
  const timespec old[2] = {{.tv_sec = ::time(nullptr) - 100, .tv_nsec = 0},
                           {.tv_sec = ::time(nullptr) - 100, .tv_nsec = 0}};
  ASSERT_EQ(::utimensat(AT_FDCWD, (folder / "claim.1").c_str(), old, 0), 0);
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

// Containers and cloned machines share host names, and containers boots: what is alive elsewhere looks like this.
TEST(Claim, OfAnotherHostBootOrPidNamespaceStandsUntilItsHeartStops) {
  for (std::string ProcessIdentity::*part :
       {&ProcessIdentity::host, &ProcessIdentity::boot, &ProcessIdentity::pid_namespace}) {
    const test::TemporaryFolder folder;
    ProcessIdentity other = this_process();
    other.*part = "another";
    other.pid = 999999999;  // no process here
    write_claim(folder, other);
    EXPECT_FALSE(Claim::attempt(folder.path()));
    EXPECT_TRUE(living_holder(folder.path()));
    stop_heart(folder);
    EXPECT_FALSE(living_holder(folder.path()));
    EXPECT_TRUE(Claim::attempt(folder.path()));
  }
}

// Where nobody asks how a process ended (containers often have no such process), its pid stays in use.
TEST(Claim, OfAProcessThatEndedAndWasNotWaitedForIsTakenOver) {
  const test::TemporaryFolder folder;
  const pid_t child = ::fork();
  if (child == 0) {
    auto claim = Claim::attempt(folder.path());
    ::_exit(claim ? 0 : 1);
  }
  siginfo_t ended{};
  ASSERT_EQ(::waitid(P_PID, static_cast<id_t>(child), &ended, WEXITED | WNOWAIT), 0);
  EXPECT_FALSE(living_holder(folder.path()));
  EXPECT_TRUE(Claim::attempt(folder.path()));
  ::waitpid(child, nullptr, 0);
}

// A watcher may be another user, who must not write to see who is at work.
TEST(Claim, IsSeenByThoseWhoMayOnlyRead) {
  if (::geteuid() != 0) GTEST_SKIP() << "only root can become another user";
  const test::TemporaryFolder folder;
  ProcessIdentity other = this_process();
  other.host = "another";
  write_claim(folder, other);
  const auto seen_by_another_user = [&] {
    const pid_t child = ::fork();
    if (child == 0) {
      constexpr uid_t kNobody = 65534;
      if (::setgid(kNobody) != 0 || ::setuid(kNobody) != 0 || ::access(folder.path().c_str(), W_OK) == 0) ::_exit(2);
      ::_exit(living_holder(folder.path()) ? 1 : 0);
    }
    int status = 0;
    ::waitpid(child, &status, 0);
    return WEXITSTATUS(status);
  };
  EXPECT_EQ(seen_by_another_user(), 1);
  stop_heart(folder);
  EXPECT_EQ(seen_by_another_user(), 0);
}

// Over NFS the answer to link(2) may be lost; the question is asked again, and EEXIST is the answer to that.
TEST(Claim, IsMadeWhereALinkIsReportedAsFailedThoughItWasDone) {
  const test::TemporaryFolder folder;
  link_answer = EEXIST;
  const auto claim = Claim::attempt(folder.path());
  link_answer = 0;
  ASSERT_TRUE(claim);
  EXPECT_THAT(files_in(folder.path()), testing::ElementsAre("claim.1"));
  EXPECT_FALSE(claim->lost());
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

// The successor may be done before the sleeper wakes, and claims begin at 1 again.
TEST(Claim, IsLostToASuccessorThatIsDoneAndToTheNext) {
  const test::TemporaryFolder folder;
  const auto sleeper = Claim::attempt(folder.path());
  std::filesystem::remove(folder / "claim.1");
  EXPECT_TRUE(sleeper->lost());
  ProcessIdentity next = this_process();
  next.pid += 1;
  write_claim(folder, next);
  EXPECT_TRUE(sleeper->lost());
  write_claim(folder, this_process());
  EXPECT_FALSE(sleeper->lost());
}

TEST(Claim, KnowsOfItsLossAfterAHeartbeat) {
  const test::TemporaryFolder folder;
  const auto sleeper = Claim::attempt(folder.path(), {.heartbeat = milliseconds(5)});
  std::this_thread::sleep_for(milliseconds(30));
  EXPECT_FALSE(sleeper->known_lost());
  folder.write("claim.2", write_fields(this_process()).dump());
  for (int i = 0; i < 400 && !sleeper->known_lost(); ++i) std::this_thread::sleep_for(milliseconds(5));
  EXPECT_TRUE(sleeper->known_lost());
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
