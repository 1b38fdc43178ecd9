#include "core/base/file.h"
#include "core/text/toy_stories.h"
#include "experiments/command.h"
#include "experiments/table.h"

namespace mla {
namespace {

/// Between stories; what a config names as `separator`.
constexpr const char* kSeparator = "<|endoftext|>";

/// Writes stories of the toy language, and its tokenizer.
class Toy final : public Command {
 public:
  void declare(OptionList& options) override {
    options.require("output", output_, "DIR", "folder for train.txt, held_out.txt and the tokenizer");
    options.add("seed", seed_, "S", "of the stories");
    options.add_count("stories", stories_, 1, "stories in train.txt");
    options.add_count("held-out", held_out_, 1, "stories in held_out.txt, drawn from a stream of their own");
  }

  ExitCode run(Console& console) override {
    write_stories("train", stories_);
    write_stories("held_out", held_out_);
    write_json(output_ / "tokenizer_config.json", toy_tokenizer_config());
    const Json tokenizer = toy_tokenizer();
    write_json(output_ / "tokenizer.json", tokenizer);  // last: a folder with one is complete
    const std::size_t vocabulary = tokenizer["model"]["vocab"].size() + tokenizer["added_tokens"].size();
    console.report({{"output", output_.string()},
                    {"seed", seed_},
                    {"stories", stories_},
                    {"held_out", held_out_},
                    {"vocabulary", vocabulary}});
    console.text() << grouped(stories_) << " stories to train on, " << grouped(held_out_)
                   << " held out, and a tokenizer of " << vocabulary << " tokens, written to " << output_.string()
                   << "\n";
    return ExitCode::kDone;
  }

 private:
  void write_stories(const std::string& name, std::int64_t count) const {
    RandomStream stream(seed_, "toy." + name);
    std::string text;
    for (std::int64_t i = 0; i < count; ++i)
      text += cat(i > 0 ? cat(kSeparator, "\n") : "", toy_story(stream), kToyEos, "\n");
    write_file_atomically(output_ / (name + ".txt"), text);
  }

  std::filesystem::path output_;
  std::uint64_t seed_ = 0;
  std::int64_t stories_ = 8000, held_out_ = 200;
};

const CommandRegistration<Toy> kToy("toy", "write stories of a toy language, and a tokenizer made for it",
                                    {"mlaforge toy --output results/demo/data --stories 8000 --held-out 200"});

}  // namespace
}  // namespace mla
