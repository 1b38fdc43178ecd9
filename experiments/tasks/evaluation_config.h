// One entry of a config's list "evaluate".
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "core/base/identity.h"
#include "core/base/json.h"
#include "core/evaluate/perplexity.h"
#include "core/text/benchmark_prompt.h"
#include "experiments/data/token_data.h"

namespace mla {

class EvaluationTask;

/// The options that one task has and no other, which stand in a config under the task's name. Held as JSON, complete:
/// only the task's own file knows their struct.
class OwnTaskOptions {
 public:
  using Reader = std::function<Json(const Json& json, const std::string& path)>;
  /// By task: all options, those that `json` does not name at their defaults; throws as read_fields() does.
  static std::map<std::string, Reader>& readers();
  /// Those of every task that has some, at their defaults.
  static std::vector<OwnTaskOptions> of_all_tasks();

  const std::string& task() const { return task_; }
  const Json& write() const { return values_; }
  void read(const Json& json, const std::string& path) { values_ = readers().at(task_)(json, path); }
  Json schema() const;  ///< see core/base/field_schema.h
  /// Those that differ from their defaults.
  Json identity() const;

 private:
  OwnTaskOptions(std::string task, Json values) : task_(std::move(task)), values_(std::move(values)) {}
  std::string task_;
  Json values_;
};

// Field lists read, and identify, own options by these, found as overloads of what other fields go through.
inline void read_value(const Json& json, const std::string& path, OwnTaskOptions& options) { options.read(json, path); }
inline Json value_identity(const OwnTaskOptions& options) { return options.identity(); }

/// One evaluation; `task` decides what is measured, and which of the other fields count.
struct EvaluationConfig {
  std::string task = "perplexity";
  std::string name;
  DataOptions data;
  std::string items;
  std::string form = "auto";
  PromptOptions prompt;
  bool chat = false;
  std::string system;
  bool greedy = false;
  std::vector<std::string> of;
  std::int64_t max_items = 0;
  bool spread = false;
  std::vector<std::string> stages;
  std::optional<std::vector<std::int64_t>> buckets;
  std::vector<OwnTaskOptions> own = OwnTaskOptions::of_all_tasks();
  PerplexityOptions options;

  static constexpr std::array kLeftOut = {LeftOut{"items", "the hash of each file's content stands for it"}};
  template <class Self, class Visitor>
  static void fields(Self& self, Visitor& visit) {
    visit("task", self.task, "what is measured: a name that `mlaforge list task` shows");
    visit("name", self.name, "the name under which scores are recorded; empty: the task's");
    visit("data", self.data, "text to evaluate on");
    visit("items", self.items,
          "a benchmark's file or folder (.jsonl, .csv, also .gz); longbench: a file of one task, or a folder of "
          "TASK.jsonl");
    visit("form", self.form, "of the file's rows: auto, or a name that `mlaforge list` shows");
    visit("prompt", self.prompt, "how questions are put");
    visit("chat", self.chat,
          "ask by the model's chat template (ChatML, Llama 2, Llama 3, Mistral, Zephyr): the question as a user's, the "
          "answer as the assistant's");
    visit("system", self.system, "with chat: the system message; empty: the template's own, if it has one");
    visit("greedy", self.greedy,
          "tell also how often greedy decoding writes the right choice; always told where there is only one");
    visit("of", self.of, "names of earlier evaluations whose scores are averaged");
    visit("max_items", self.max_items, "only the first items, of each file that is a task of its own; 0: all");
    visit("spread", self.spread,
          "multiple choice: max_items at even steps over all items of all files, instead of the first ones");
    visit("stages", self.stages,
          "only the models of these stages: source, converted, fine_tuned, or an earlier one such as converted_1; "
          "empty: all");
    visit("buckets", self.buckets,
          "besides, by how many tokens stand before; first positions of buckets, [] for powers of two and the model's "
          "positions, null: not");
    for (auto& one : self.own) visit(one.task().c_str(), one, "what this task alone has");
    PerplexityOptions::fields(self.options, visit);
  }

  /// The name under which scores are recorded.
  const std::string& label() const { return name.empty() ? task : name; }
  /// Whether the model of this stage is asked.
  bool is_asked_at(const std::string& stage) const;
  /// What does it, with its own options. Throws ConfigError naming `path` for a task that there is not, and for own
  /// options that make no sense.
  std::unique_ptr<EvaluationTask> make_task(const std::string& path) const;
  /// Of a valid config.
  std::unique_ptr<EvaluationTask> make_task() const;
  /// The files it reads.
  std::vector<std::string> files() const;
  void validate(const std::string& path) const;
};

}  // namespace mla
