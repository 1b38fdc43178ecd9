// --device and "device": the same option of every command that loads a model, and what it refuses.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <regex>

#include "core/device/cuda_library.h"
#include "core/store/record.h"
#include "experiments/cell/identity.h"
#include "experiments/cli/command.h"
#include "experiments/plan/plan.h"
#include "tests/support/errors.h"
#include "tests/support/run_program.h"
#include "tests/support/tiny_model_folder.h"

namespace mla {
namespace {

using test::message_of;
using test::run_program;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::StartsWith;

namespace fs = std::filesystem;

constexpr const char* kConversion = R"({"model": {"path": "@/model"}, "device": "mps", "compress": [{"name": "mha2mla",
  "rope": {"name": "high", "pairs": 1}, "low_rank": {"name": "none"}}]})";
constexpr const char* kElsewhere = "nothing is computed there; known: cpu, cuda\n";

/// What is said of GPUs on a machine of tests, which has none: with a LibTorch for processors, or for both.
const std::string kNoGpu =
    R"((libtorch_cuda\.so is not beside the LibTorch in use, in .*: `make setup-cuda` fetches it, )"
    R"(or build with LIBTORCH=/path of a LibTorch with CUDA|no GPU is seen: .*))";

TEST(DeviceNames, AreThoseOfThisProgram) {
  EXPECT_EQ(parse_device("cpu", "device"), at::Device(at::kCPU));
  const auto refused = [](const std::string& name) {
    return message_of<ConfigError>([&] { parse_device(name, "--device"); });
  };
  for (const char* name : {"mps", "xpu:1", "hip", "gpu"})
    EXPECT_EQ(refused(name), cat("--device = ", name, ": nothing is computed there; known: cpu, cuda"));
  EXPECT_EQ(refused("cpus"), "--device: no 'cpus'; did you mean 'cpu'? known: cpu, cuda");
  // PyTorch's meta device has no memory: nothing can be computed there.
  for (const char* name : {"meta", "", "CPU", "cpu:0", "host", "cudax", ":0"}) {
    EXPECT_THAT(refused(name), StartsWith(cat("--device: no '", name, "'; "))) << name;
  }
  for (const char* name : {"cuda:", "cuda:x", "cuda:-1", "cuda:0:0", "cuda:1234"}) {
    EXPECT_EQ(refused(name), cat("--device = ", name, ": expected cuda, or cuda:N with the number of a GPU"));
  }
  const Json listed = run_program({"list", "device", "--json"}).json();
  ASSERT_EQ(listed["device"].size(), known_devices().size());
  EXPECT_EQ(listed["device"][0]["name"], "cpu");
  EXPECT_EQ(listed["device"][1]["name"], "cuda");
  EXPECT_THAT(run_program({"list", "device"}).out, HasSubstr("  cpu: "));
  EXPECT_EQ(device_choices(), "cpu | cuda | cuda:N");
}

TEST(DeviceNames, AGpuThatIsNotThereIsRefusedWithWhatHelps) {
  if (load_cuda_library(libtorch_folder()).empty()) GTEST_SKIP() << "this machine has a GPU";
  for (const std::string name : {"cuda", "cuda:0", "cuda:17"}) {
    EXPECT_THAT(message_of<ConfigError>([&] { parse_device(name, "device"); }),
                testing::MatchesRegex(cat("device = ", name, ": ", kNoGpu)));
  }
}

TEST(CudaLibrary, IsLookedForBesideTheLibTorchInUse) {
  EXPECT_TRUE(fs::exists(libtorch_folder() / "libc10.so"));
  const test::TemporaryFolder folder;
  const fs::path broken = folder.write("libtorch_cuda.so", "no library");
  EXPECT_THAT(load_cuda_library(folder.path()), StartsWith(cat(broken.string(), " cannot be loaded: ")));
  EXPECT_EQ(load_cuda_library(folder.path()).find('\n'), std::string::npos);
}

/// The command that a file of experiments/commands registers; "" of one that registers none.
std::string command_in(const std::string& source) {
  std::smatch match;
  const std::regex registration(R"(CommandRegistration<\w+> \w+\(\s*\"([a-z-]+)\")");
  return std::regex_search(source, match, registration) ? match[1].str() : "";
}

TEST(DeviceNames, EveryCommandThatLoadsAModelTakesOne) {
  std::vector<std::string> found;
  for (const auto& entry : fs::directory_iterator(fs::path(MLA_SOURCE_DIR) / "experiments/commands")) {
    if (entry.path().extension() != ".cpp") continue;
    const std::string source = read_file(entry.path()), name = command_in(source);
    const bool loads =
        std::regex_search(source, std::regex(R"(load_checkpoint\(|Session session|replay_traces\(|BenchModels)"));
    // Exports are read and written on the host, in float64 where they are compared.
    if (name.empty() || name == "export" || name == "verify-export" || !loads) continue;
    found.push_back(name);
    EXPECT_THAT(run_program({name, "--help"}).out, HasSubstr("--device DEVICE")) << name;
  }
  EXPECT_THAT(found, testing::IsSupersetOf({"attribute", "bench", "conformance", "convert", "distance", "evaluate",
                                            "generate", "inspect", "pretrain", "recall", "run", "score", "slurm"}));
}

class DeviceOption : public testing::Test {
 protected:
  void SetUp() override {
    test::write_tiny_inputs(folder_);
    config_ = write(R"("seed": 0)");
  }
  fs::path write(const std::string& more, const char* name = "e.json") const {
    return folder_.write_config(name, cat(R"({"results": "@/results", "model": {"path": "@/model"}, )"
                                          R"("evaluate": [{"task": "perplexity", "context": 32,
        "data": {"files": ["@/text.txt"]}}], )",
                                          more, "}"));
  }
  std::string model() const { return (folder_ / "model").string(); }

  test::TemporaryFolder folder_;
  fs::path config_;
};

TEST_F(DeviceOption, OneThatIsNotThereIsRefusedBeforeAnyWork) {
  const std::string text = (folder_ / "text.txt").string(), output = (folder_ / "out").string();
  const fs::path conversion = folder_.write_config("conversion.json", kConversion);
  const std::vector<std::vector<std::string>> commands = {
      {"evaluate", "--model", model(), "--perplexity", text},
      {"evaluate", "--model", model(), "--tasks", config_.string()},
      {"distance", "--model", model(), "--source", model(), "--text", text},
      {"recall", "--model", model()},
      {"score", "--model", model(), "--ids", "/no/file"},
      {"generate", "--model", model(), "--prompt", "ab"},
      {"inspect", model()},
      {"conformance", "--trace", "/no/file", "--model", model()},
      {"convert", "--model", model(), "--output", output, "--rope", "high", "--d-kv", "4"},
      {"convert", conversion.string(), "--output", output},
      {"bench", "--model", model()},
      {"pretrain", "/no/file"},
      {"run", config_.string()},
      {"check", config_.string()},
      {"show", config_.string()},
      {"attribute", config_.string()},
      {"slurm", config_.string(), "--dry-run"}};
  for (std::vector<std::string> arguments : commands) {
    const std::string who = "mlaforge " + arguments.front() + ": ";
    arguments.insert(arguments.end(), {"--device", "cuda:0"});
    const auto absent = run_program(arguments);
    EXPECT_EQ(absent.exit_code, 2) << who;
    EXPECT_EQ(absent.out, "") << who;
    EXPECT_THAT(absent.err, testing::MatchesRegex(cat(who, "--device = cuda:0: ", kNoGpu, "\n")));
    arguments.back() = "host";
    EXPECT_EQ(run_program(arguments).err, cat(who, "--device: no 'host'; known: cpu, cuda\n"));
  }
  EXPECT_FALSE(fs::exists(folder_ / "results"));
  EXPECT_FALSE(fs::exists(output));
}

TEST_F(DeviceOption, ConfigsSayItToo) {
  const auto refused = [&](const std::string& command, const fs::path& config) {
    const auto result = run_program({command, config.string()});
    EXPECT_EQ(result.exit_code, 2);
    EXPECT_EQ(std::count(result.err.begin(), result.err.end(), '\n'), 1) << result.err;
    return result.err;
  };
  const fs::path cuda = write(R"("device": "cuda")", "cuda.json");
  EXPECT_THAT(refused("run", cuda),
              testing::MatchesRegex(cat("mlaforge run: ", cuda.string(), ": device = cuda: ", kNoGpu, "\n")));
  EXPECT_THAT(refused("check", write(R"("device": "host")", "host.json")), HasSubstr("host.json: device: no 'host'"));
  EXPECT_THAT(refused("check", write(R"("device": 0)", "number.json")),
              HasSubstr("number.json: device: expected a string, found"));
  EXPECT_THAT(refused("check", write(R"("grid": {"device": ["cpu"]})", "grid.json")),
              HasSubstr("grid.json: grid.device: all cells run on one device"));
  const fs::path convert = folder_.write_config("convert.json", kConversion);
  const auto converted = run_program({"convert", convert.string(), "--output", (folder_ / "out").string()});
  EXPECT_EQ(converted.err, cat("mlaforge convert: ", convert.string(), ": device = mps: ", kElsewhere));
  EXPECT_EQ(converted.exit_code, 2);
  const auto bench = folder_.write_config("bench.json", R"({"model": "@/model", "device": "mps"})");
  EXPECT_EQ(refused("bench", bench), cat("mlaforge bench: device = mps: ", kElsewhere));
  const auto pretrain = folder_.write_config(
      "pretrain.json", R"({"output": "@/new", "config": {}, "tokenizer": "@/model/tokenizer.json", "device": "hip"})");
  EXPECT_THAT(refused("pretrain", pretrain), HasSubstr(cat("device = hip: ", kElsewhere)));
  // The command line wins over a config.
  EXPECT_EQ(run_program({"check", cuda.string(), "--device", "cpu"}).exit_code, 0);
  EXPECT_EQ(run_program({"show", cuda.string(), "--device", "cpu", "--json"}).json()["device"], "cpu");
}

TEST_F(DeviceOption, TheUsualOneChangesNoIdentityAndStandsInTheRecord) {
  const auto first = run_program({"run", config_.string(), "--quiet"});
  ASSERT_EQ(first.exit_code, 0) << first.err;
  const fs::path file = plan_experiment(config_, {}).cells.front().record;
  const RunRecord record = read_record(file);
  EXPECT_EQ(record.provenance.device, "cpu");
  EXPECT_FALSE(record.config.contains("device")) << "not written there";
  const auto again = [&](const std::string& script) {
    const auto result = test::run_script("mlaforge run " + script);
    EXPECT_EQ(result.exit_code, 0) << result.err;
    EXPECT_THAT(result.err, HasSubstr("complete already"));
    EXPECT_EQ(read_record(file), record);
  };
  again(config_.string() + " --device cpu");
  ConfigOverrides said;
  said.device = "cpu";
  const auto hash_of_earlier_programs = [&](const ConfigOverrides& overrides) {
    const ExperimentPlan plan = plan_experiment(config_, overrides);
    Session session(plan.cells);
    return identify(plan.cells.front(), session).earlier;
  };
  EXPECT_EQ(hash_of_earlier_programs(said), hash_of_earlier_programs({}));
  EXPECT_NE(hash_of_earlier_programs({}), "");
  again(write(R"("device": "cpu")").string());
}

TEST_F(DeviceOption, NumbersAreTheSameWhenItIsSaid) {
  const auto ids = folder_.write("ids.json", R"({"ids": [[1, 70, 80, 90, 70], [5, 9, 8, 7]], "greedy_tokens": 3})");
  const std::vector<std::string> score = {"score", "--model", model(), "--ids", ids.string()};
  std::vector<std::string> said = score;
  said.insert(said.end(), {"--device", "cpu"});
  EXPECT_EQ(run_program(said).json(), run_program(score).json());
}

}  // namespace
}  // namespace mla
