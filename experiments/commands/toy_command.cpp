#include <functional>

#include "core/base/file.h"
#include "core/text/toy_stories.h"
#include "experiments/cli/command.h"
#include "experiments/cli/table.h"

namespace mla {
namespace {

/// Between stories; what a config names as `separator`.
constexpr const char* kSeparator = "<|endoftext|>";

/// Writes stories of the toy language, its tokenizer, and questions about stories that are in neither text.
class Toy final : public Command {
 public:
  void declare(OptionList& options) override {
    options.require(
        "output,o", output_, "FOLDER",
        "folder for train.txt, fine_tune.txt, held_out.txt, calibration.txt, tasks/NAME.jsonl and the tokenizer");
    options.add("seed", seed_, "S", "of stories and questions");
    options.add_count("stories", stories_, 1, "stories in train.txt, in the order of lessons");
    options.add_count("fine-tune", fine_tune_, 1, "stories in fine_tune.txt, all of them whole");
    options.add_count("held-out", held_out_, 1,
                      "stories in held_out.txt and in calibration.txt, each from a stream of its own");
    options.add_count("items", items_, 1, "questions of each task, about stories of a stream of their own");
  }

  ExitCode run(Console& console) override {
    write_stories("train", stories_,
                  [this](RandomStream& stream, std::int64_t i) { return toy_lesson(stream, i, stories_); });
    write_stories("fine_tune", fine_tune_, [](RandomStream& stream, std::int64_t) { return toy_story(stream); });
    write_stories("held_out", held_out_, [](RandomStream& stream, std::int64_t) { return toy_story(stream); });
    write_stories("calibration", held_out_, [](RandomStream& stream, std::int64_t) { return toy_story(stream); });
    for (const std::string& task : toy_tasks()) write_items(task);
    write_json(output_ / "tokenizer_config.json", toy_tokenizer_config());
    const Json tokenizer = toy_tokenizer();
    write_json(output_ / "tokenizer.json", tokenizer);  // last: a folder with one is complete
    const std::size_t vocabulary = tokenizer["model"]["vocab"].size() + tokenizer["added_tokens"].size();
    console.report({{"output", output_.string()},
                    {"seed", seed_},
                    {"stories", stories_},
                    {"fine_tune", fine_tune_},
                    {"held_out", held_out_},
                    {"items", items_},
                    {"tasks", toy_tasks()},
                    {"vocabulary", vocabulary}});
    console.text() << grouped(stories_) << " stories to train on, " << grouped(fine_tune_) << " to fine-tune on, "
                   << grouped(held_out_) << " held out, " << toy_tasks().size() << " tasks of " << grouped(items_)
                   << " items, and a tokenizer of " << vocabulary << " tokens, written to " << output_.string() << "\n";
    return ExitCode::kDone;
  }

 private:
  void write_stories(const std::string& name, std::int64_t count,
                     const std::function<std::string(RandomStream&, std::int64_t)>& tell) const {
    RandomStream stream(seed_, "toy." + name);
    std::string text;
    for (std::int64_t i = 0; i < count; ++i)
      text += cat(i > 0 ? cat(kSeparator, "\n") : "", tell(stream, i), kToyEos, "\n");
    write_file_atomically(output_ / (name + ".txt"), text);
  }

  void write_items(const std::string& task) const {
    RandomStream stream(seed_, "toy." + task);
    std::vector<MultipleChoiceItem> items;
    for (std::int64_t i = 0; i < items_; ++i) items.push_back(toy_item(task, stream));
    write_file_atomically(output_ / "tasks" / (task + ".jsonl"), write_multiple_choice_items(items));
  }

  std::filesystem::path output_;
  std::uint64_t seed_ = 0;
  std::int64_t stories_ = 60000, fine_tune_ = 4000, held_out_ = 200, items_ = 200;
};

const CommandRegistration<Toy> kToy("toy", "write stories of a toy language, questions about them, and a tokenizer",
                                    {"mlaforge toy --output results/toy/data"});

}  // namespace
}  // namespace mla
