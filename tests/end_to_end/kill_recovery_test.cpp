// A sweep of two workers and a failing cell whose processes are killed at random moments: nothing that a checkpoint
// held is lost, and the records are those of an undisturbed run. MLA_KILLS (environment) says how often; `make
// kill-test KILLS=200` is the long form.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <cstdlib>
#include <fstream>
#include <iostream>
#include <map>
#include <optional>
#include <thread>

#include "core/base/random.h"
#include "core/store/record.h"
#include "tests/support/results.h"
#include "tests/support/run_program.h"
#include "tests/support/temporary_folder.h"
#include "tests/support/tiny_model_folder.h"

namespace mla {
namespace {

using std::filesystem::path;
using test::run_program;
using test::run_script;

constexpr std::int64_t kSteps = 120;
constexpr int kFewKills = 3;

std::vector<pid_t> children_of(pid_t pid) {
  std::ifstream file("/proc/" + std::to_string(pid) + "/task/" + std::to_string(pid) + "/children");
  std::vector<pid_t> children;
  for (pid_t child = 0; file >> child;) children.push_back(child);
  return children;
}

class KillRecovery : public testing::Test {
 protected:
  void SetUp() override {
    test::write_tiny_inputs(folder_);
    config_ = folder_.write_config(
        "tiny.json", test::tiny_experiment({{"save_model", "@/models"},
                                            {"grid", {{"compress[0].low_rank.d_kv", {2, 3}}, {"train.seed", {1, 2}}}},
                                            {"checkpoint_seconds", 0}})
                         .dump());
    ::prctl(PR_SET_CHILD_SUBREAPER, 1);  // workers whose parent was killed become this process's
    const auto plan = run_script(command("--dry-run --json"));
    ASSERT_EQ(plan.exit_code, 0) << plan.err;
    const Json cells = plan.json()["cells"];
    failing_ = cells.back()["cell"];
    clear();
  }

  /// Nothing but what makes a cell fail after all its training: a file where the folder of its model would be.
  void clear() const {
    std::filesystem::remove_all(results());
    std::filesystem::remove_all(folder_ / "models");
    folder_.write("models/" + failing_, "in the way\n");
  }

  std::string command(const std::string& options = "") const {
    return "mlaforge run " + config_.string() + " --quiet --threads 1 --set train.steps=" + std::to_string(kSteps) +
           " --grid train.partial_rope_steps=0,40 " + options;
  }
  path results() const { return folder_ / "results"; }

  /// The sweep with two workers, in the background.
  pid_t start() const {
    const pid_t pid = ::fork();
    if (pid == 0) {
      ::setenv("PATH", (std::string(MLA_BINARY_DIR ":") + std::getenv("PATH")).c_str(), 1);
      const std::string line = "exec " + command("--jobs 2") + " >/dev/null 2>>" + (folder_ / "log").string();
      ::execl("/bin/bash", "bash", "-c", line.c_str(), nullptr);
      ::_exit(127);
    }
    return pid;
  }

  /// The exit code of a child, or minus the signal that ended it; nothing while it runs.
  static std::optional<int> end_of(pid_t pid) {
    int status = 0;
    if (::waitpid(pid, &status, WNOHANG) != pid) return {};
    return WIFSIGNALED(status) ? -WTERMSIG(status) : WEXITSTATUS(status);
  }

  /// Lets the sweep run and kills some of it, until the sweep has ended one way or the other. Its exit code.
  int one_life(RandomStream& moments, int& kills, int wanted) const {
    const pid_t parent = start();
    std::optional<int> end;
    while (!end) {
      const auto moment = std::chrono::steady_clock::now() + std::chrono::milliseconds(50 + moments.below(2500));
      while (!end && (std::chrono::steady_clock::now() < moment || kills >= wanted)) {
        std::this_thread::sleep_for(std::chrono::milliseconds(5));
        end = end_of(parent);
      }
      if (end) break;
      const std::vector<pid_t> now = children_of(parent);
      std::vector<pid_t> victims = {parent};
      const std::uint64_t choice = moments.below(4);  // the parent, all, or one of the workers
      if (choice == 1) victims.insert(victims.end(), now.begin(), now.end());
      if (choice > 1 && !now.empty()) victims = {now[moments.below(now.size())]};
      for (const pid_t victim : victims) ::kill(victim, SIGKILL);
      ++kills;
    }
    // Workers whose parent has died save and stop.
    while (::waitpid(-1, nullptr, 0) > 0) continue;
    return *end;
  }

  /// Steps that are kept, by cell; that of a cell with a result counts as all of them.
  std::map<std::string, std::int64_t> kept() const {
    const auto status = run_program({"status", results().string(), "--json"});
    std::map<std::string, std::int64_t> steps;
    if (status.exit_code != 0) return steps;  // killed before it had written its plan
    const Json report = status.json();
    for (const Json& cell : report["experiments"][0]["cells"]) {
      EXPECT_NE(cell["state"], "running") << "a dead process is taken for a living one: " << cell.dump();
      EXPECT_NE(cell["state"], "damaged") << cell.dump();
      steps[cell["cell"]] = cell["state"] == "complete" ? kSteps : cell["kept_steps"].get<std::int64_t>();
    }
    return steps;
  }

  test::TemporaryFolder folder_;
  path config_;
  std::string failing_;
};

TEST_F(KillRecovery, NoTrainingIsLostAndRecordsAreThoseOfAnUndisturbedRun) {
  const char* asked = std::getenv("MLA_KILLS");
  const int wanted = asked != nullptr ? std::atoi(asked) : kFewKills;
  const auto whole = run_script(command());
  ASSERT_EQ(whole.exit_code, 1) << whole.err;  // a cell fails
  const auto undisturbed = test::records_in(results() / "tiny");
  ASSERT_EQ(undisturbed.size(), 8u);

  RandomStream moments(11, "kill");
  int kills = 0, lives = 0, sweeps = 0;
  std::int64_t resumed = 0, regained = 0;  // states that a life began with, and the steps in them
  while (kills < wanted) {
    clear();
    std::map<std::string, std::int64_t> before;
    for (int end = -1; end != 1; ++lives) {
      end = one_life(moments, kills, wanted);
      ASSERT_TRUE(end == 1 || end == -SIGKILL) << "exit code " << end << "\n" << read_file(folder_ / "log");
      auto now = kept();
      for (const auto& [cell, steps] : before) ASSERT_GE(now[cell], steps) << cell << ": training was lost";
      before = std::move(now);
      for (const auto& [cell, steps] : before) {
        resumed += steps > 0 && steps < kSteps;
        regained += steps > 0 && steps < kSteps ? steps : 0;
      }
    }
    ++sweeps;
    EXPECT_EQ(test::records_in(results() / "tiny"), undisturbed);
    EXPECT_EQ(std::count_if(before.begin(), before.end(), [](const auto& cell) { return cell.second == kSteps; }), 8);
  }
  std::cout << kills << " kills in " << lives << " lives of " << sweeps << " sweeps; " << resumed
            << " times a state was gone on from, with " << regained << " steps in all\n";

  // What failed goes on from its last step when the way is free.
  std::filesystem::remove(folder_ / "models" / failing_);
  std::string loud = command("--retry-failed");
  loud.erase(loud.find(" --quiet"), std::string(" --quiet").size());
  const auto retried = run_script(loud);
  EXPECT_EQ(retried.exit_code, 0) << retried.err;
  EXPECT_THAT(retried.err, testing::HasSubstr("fine-tune partial RoPE: goes on after 40 of 40 steps"));
  EXPECT_THAT(retried.err, testing::HasSubstr("fine-tune: goes on after 80 of 80 steps"));
  EXPECT_THAT(test::litter(results()), testing::IsEmpty());
}

}  // namespace
}  // namespace mla
