// The command line under hostile files: whole commands in this process, which may end with 0, 2 or 3 and one line.
#include <cstdlib>

#include "core/base/config.h"
#include "experiments/config/pretrain_config.h"
#include "tests/fuzz/support/input_files.h"
#include "tests/fuzz/support/target.h"
#include "tests/support/run_program.h"
#include "tests/support/tiny_model_folder.h"

namespace mla::fuzz {
namespace {

/// A folder with a tiny model, texts and items, which configs name as ${MLA_FUZZ}.
const std::filesystem::path& whole_inputs() {
  static const test::TemporaryFolder folder;
  static const std::filesystem::path path = [] {
    test::write_tiny_inputs(folder);
    folder.write("items.jsonl", "{\"context\":\"ab\",\"choices\":[\" a\",\" b\"],\"answer\":1}\n");
    folder.write("ids.json", R"({"ids": [[1, 2, 3]]})");
    ::setenv("MLA_FUZZ", folder.path().c_str(), 1);
    return folder.path();
  }();
  return path;
}

/// Refusals come back as the exceptions that they were, so that all targets count alike.
void run_command(const std::vector<std::string>& arguments) {
  whole_inputs();
  const test::ProgramResult result = test::run_program(arguments);
  if (result.exit_code == 0) return;
  promise(result.exit_code == 2 || result.exit_code == 3,
          cat("exit code ", result.exit_code, ": ", result.err.substr(0, 500)));
  promise(result.err.find('\n') == result.err.size() - 1, "an error of several lines: " + result.err.substr(0, 500));
  throw DataError(result.err);
}

const std::vector<std::string>& experiment_words() {
  static const std::vector<std::string> words = {
      "model",     "path",     "tokenizer",    "calibration", "files",
      "documents", "compress", "mha2mla",      "rope",        "name",
      "pairs",     "low_rank", "joint_svd",    "split_svd",   "value_svd",
      "none",      "two_norm", "uniform",      "high",        "low",
      "all",       "explicit", "d_kv",         "train",       "steps",
      "schedule",  "wsd",      "cosine",       "optimizer",   "mixture",
      "weight",    "data",     "evaluate",     "task",        "perplexity",
      "distance",  "recall",   "mean",         "of",          "multiple_choice",
      "longbench", "cache",    "codec",        "rtn",         "kivi",
      "hqq",       "quanto",   "kvquant",      "bits",        "group_size",
      "grid",      "baseline", "skip_invalid", "${MLA_FUZZ}", "buckets",
      "layers",    "quantizer"};
  return words;
}

std::vector<std::string> experiment_seeds() {
  const std::string model = R"("model": {"path": "${MLA_FUZZ}/model"}, "results": "${MLA_FUZZ}/results")";
  const std::string text = R"({"files": ["${MLA_FUZZ}/text.txt"], "documents": {"separator": "###"}})";
  const std::string pass =
      R"({"name": "mha2mla", "rope": {"name": "two_norm", "pairs": 1}, "low_rank": {"name": "joint_svd", "d_kv": 4}})";
  return {
      "{" + model + R"(, "evaluate": [{"task": "perplexity", "data": )" + text + "}]}",
      "{" + model + R"(, "baseline": true, "skip_invalid": true, "calibration": )" + text + R"(, "compress": [)" +
          pass +
          R"(], "train": {"steps": 4, "batch_rows": 2, "packing": "rows", "learning_rate": 1e-3, "schedule": {"shape": "wsd"},
                 "data": )" +
          text + R"(}, "evaluate": [{"task": "multiple_choice", "items": "${MLA_FUZZ}/items.jsonl"},
                 {"task": "distance", "data": )" +
          text + R"(, "buckets": [0, 4]}, {"task": "recall", "recall": {"lengths": [16], "items": 2}},
                 {"task": "mean", "of": ["multiple_choice"]}],
                 "cache": {"codec": {"name": "rtn", "bits": 4}},
                 "grid": {"compress[0].rope.name": ["high", "low"], "train.seed,seed": [[1, 1], [2, 2]]}})",
      "{" + model + R"(, "calibration": )" + text +
          R"(, "compress": [{"name": "mha2mla", "rope": {"name": "explicit", "pairs": [[0]]},
                 "low_rank": {"name": "split_svd", "d_kv": [2, 4]}}], "train": {"steps": 8, "partial_rope_steps": 4,
                 "mixture": [{"weight": 0.5, "data": )" +
          text + R"(}, {"weight": 0.5, "data": )" + text + "}]}}"};
}

void run_experiment(std::string_view input) {
  run_command({"run", input_file("experiment/config.json", input).string(), "--dry-run"});
}

const Registration kExperiment({"command_run", run_experiment, experiment_seeds, experiment_words()});

std::vector<std::string> pretrain_seeds() {
  return {R"({"output": "out", "tokenizer": "${MLA_FUZZ}/model", "config": {"model_type": "llama", "hidden_size": 16,
      "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32, "vocab_size": 265, "max_position_embeddings": 32,
      "rms_norm_eps": 1e-5}, "train": {"steps": 4, "batch_rows": 2, "packing": "packed", "sequence_length": 16,
      "data": {"files": ["${MLA_FUZZ}/text.txt"]}}})"};
}

void run_pretrain(std::string_view input) {
  whole_inputs();
  Json config = resolve_config(input_file("pretrain/config.json", input));
  expand_environment(config);
  PretrainConfig options;
  read_fields(config, "", options);
  options.validate();
}

const Registration kPretrain({"pretrain_config", run_pretrain, pretrain_seeds, experiment_words()});

std::vector<std::string> ids_seeds() { return {R"({"ids": [[1, 2, 3], [4, 5]]})", R"({"ids": [[264, 0]]})"}; }

void run_score(std::string_view input) {
  run_command(
      {"score", "--model", (whole_inputs() / "model").string(), "--ids", input_file("score/ids.json", input).string()});
}

const Registration kScore({"command_score", run_score, ids_seeds, {"ids", "265", "-1"}, 40});

std::vector<std::string> inspect_seeds() { return {read_file(whole_inputs() / "model/config.json")}; }

/// The model's own weights under a config.json that does not fit them.
void run_inspect(std::string_view input) {
  static const std::string weights = read_file(whole_inputs() / "model/model.safetensors");
  input_file("inspect/model.safetensors", weights);
  run_command({"inspect", input_file("inspect/config.json", input).parent_path().string()});
}

const Registration kInspect({"command_inspect",
                             run_inspect,
                             inspect_seeds,
                             {"rope_scaling", "rope_parameters", "rope_type", "yarn", "factor", "head_dim",
                              "num_hidden_layers", "vocab_size"},
                             40});

std::vector<std::string> task_seeds() {
  return {R"({"query":"ab","choices":["a","b"],"gold":1})"
          "\n",
          R"({"goal":"ab","sol1":"a","sol2":"b","label":0})"
          "\n"};
}

/// Items that the tiny model answers.
void run_tasks(std::string_view input) {
  const auto items = input_file("tasks/items.jsonl", input.substr(0, 4000));
  const Json config = {{"evaluate", {{{"task", "multiple_choice"}, {"items", items.string()}, {"max_items", 3}}}}};
  run_command({"evaluate", "--model", (whole_inputs() / "model").string(), "--tasks",
               input_file("tasks/config.json", config.dump()).string()});
}

const Registration kTasks(
    {"command_evaluate_tasks", run_tasks, task_seeds, {"query", "choices", "gold", "context", "label"}, 20});

std::vector<std::string> text_seeds() {
  return {"tab abc ab\n###\ncab", "j{\"text\": \"ab abc\"}\n", "i{\"ids\": [[1, 2, 3]]}"};
}

/// A text's perplexity; the first byte chooses the file's form.
void run_perplexity(std::string_view input) {
  const std::string name = input.starts_with("j") ? "a.jsonl" : input.starts_with("i") ? "a.json" : "a.txt";
  const auto text = input_file("perplexity/" + name, input.substr(input.empty() ? 0 : 1, 4000));
  run_command({"evaluate", "--model", (whole_inputs() / "model").string(), "--perplexity", text.string(), "--separator",
               "###"});
}

const Registration kPerplexity({"command_evaluate_text", run_perplexity, text_seeds, {"###", "text", "ids"}, 20});

}  // namespace
}  // namespace mla::fuzz
