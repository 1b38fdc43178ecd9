#include "core/base/file.h"
#include "core/base/suggest.h"
#include "experiments/cli/command.h"
#include "experiments/cli/command_line.h"
#include "experiments/commands/config_kinds.h"
#include "experiments/config/config_schema.h"

namespace mla {
namespace {

/// The first line of a page's section on one kind of config.
const std::vector<std::pair<std::string, std::string>> kTitles = {
    {"experiment", "Experiments (`mlaforge run`)"},
    {"pretrain", "Models trained from nothing (`mlaforge pretrain`)"},
    {"bench", "Benchmarks (`mlaforge bench`)"}};

std::string keys_page() {
  std::string text =
      "# Keys of configs\n\nFiles are JSON with comments, or YAML. `[]` stands for the entries of a list; after a list "
      "or a "
      "key of strategies comes the strategy's name. `mlaforge keys PATTERN` shows some of these, `mlaforge schema` is "
      "for "
      "editors. `stages[]` holds what `compress` and `train` hold, which is not repeated here.\n";
  for (const auto& [kind, title] : kTitles) {
    text += cat("\n## ", title, "\n\n| key | type | default | |\n|---|---|---|---|\n");
    for (const ConfigKey& key : config_keys(schema_of_kind(kind))) {
      if (key.path.starts_with("stages[].")) continue;
      const std::string value = key.default_value.is_null() ? "" : cat("`", key.default_value.dump(), "`");
      text += cat("| `", key.path, "` | ", markdown_cell(key.type), " | ", value, " | ", markdown_cell(key.description),
                  " |\n");
    }
  }
  return text;
}

/// Writes pages about this program that it can write itself.
class Reference final : public Command {
 public:
  void declare(OptionList& options) override {
    options.argument("folder", folder_, "FOLDER", "where the pages go");
    options.add("format", format_, "FORMAT", "markdown (commands, config keys) | man");
  }

  ExitCode run(Console& console) override {
    Json files = Json::array();
    for (const NamedText& page : pages()) {
      write_file_atomically(folder_ / page.name, page.text);
      files.push_back((folder_ / page.name).string());
      console.text() << (folder_ / page.name).string() << "\n";
    }
    console.report({{"files", files}});
    return ExitCode::kDone;
  }

 private:
  std::vector<NamedText> pages() const {
    if (format_ == "man") return man_pages(program_manual());
    if (format_ != "markdown") throw ConfigError(cat("--format: ", unknown_name(format_, {"markdown", "man"})));
    return {{"commands.md", markdown_page(program_manual())}, {"keys.md", keys_page()}};
  }

  std::filesystem::path folder_;
  std::string format_ = "markdown";
};

const CommandRegistration<Reference> kReference("reference", "writes the pages of the reference: commands, config keys",
                                                {"mlaforge reference docs/reference",
                                                 "mlaforge reference ~/.local/share/man/man1 --format man"});

}  // namespace
}  // namespace mla
