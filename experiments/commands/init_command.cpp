#include <system_error>

#include "core/base/file.h"
#include "core/base/shell.h"
#include "core/base/yaml.h"
#include "core/model/checkpoint.h"
#include "experiments/cli/command.h"
#include "experiments/cli/table.h"
#include "experiments/config/commented_json.h"
#include "experiments/config/starter_config.h"
#include "experiments/data/text_split.h"
#include "experiments/model/model_files.h"
#include "experiments/plan/plan.h"

namespace mla {
namespace {

namespace fs = std::filesystem;

/// Removes what init wrote, unless it was all right.
class Written {
 public:
  explicit Written(std::vector<fs::path> paths) : paths_(std::move(paths)) {}
  ~Written() {
    std::error_code ignored;
    for (const fs::path& path : paths_) fs::remove_all(path, ignored);
  }
  Written(const Written&) = delete;
  Written& operator=(const Written&) = delete;
  void keep() { paths_.clear(); }

 private:
  std::vector<fs::path> paths_;
};

/// Writes a config that runs, and the parts of the text that it reads.
class Init final : public Command {
 public:
  void declare(OptionList& options) override {
    options.argument("model", model_, "MODEL", "a Hugging Face folder, a GGUF or a llama2.c .bin file");
    options.require(
        "data", data_, "FILE",
        "your text: plain, .jsonl or .json, also compressed; cut into parts to calibrate, train and evaluate on");
    options.add("output,o", output_, "CONFIG",
                "the config, .yaml or .json; without it, the model's name with .yaml, here");
    options.add("tokenizer", tokenizer_, "PATH", "a tokenizer file or folder; without it, the one beside the model");
    options.add("separator", documents_.separator, "TEXT",
                "text between documents, for example '<|endoftext|>'; without it a text file is cut into pieces");
    options.add("field", documents_.jsonl_field, "NAME", "the field of each JSON object that holds the text");
  }

  ExitCode run(Console& console) override {
    const fs::path config = output_.value_or(model_stem() + ".yaml");
    if (!is_yaml(config) && config.extension() != ".json")
      throw ConfigError(cat("--output ", config.string(), ": a config's name ends in .yaml, .yml or .json"));
    const fs::path folder = fs::path(config).replace_extension(".data");
    for (const fs::path& path : {config, folder}) {
      if (fs::exists(fs::symlink_status(path)))
        throw ConfigError(cat(path.string(), ": is there already, and stays; remove it, or name another --output"));
    }
    const ModelSpec spec = load_spec(model_);
    starter_sizes(spec, model_.string());  // refuses what cannot be converted before anything is written
    load_model_tokenizer(model_, tokenizer_, spec);
    Written written({config, folder});
    const TextSplit split = split_text(data_, documents_, folder);
    const std::string text = starter_config(
        spec, {model_, tokenizer_.value_or(""), split.calibration.file, split.train.file, split.evaluation.file});
    write_file_atomically(config, is_yaml(config) ? text : commented_json(text));
    const std::size_t cells = plan_experiment(config, {}).cells.size();
    written.keep();
    tell(config, split, cells, console);
    return ExitCode::kDone;
  }

 private:
  std::string model_stem() const {
    const fs::path model = model_.has_filename() ? model_ : model_.parent_path();
    const std::string name =
        fs::is_directory(model) ? fs::weakly_canonical(model).filename().string() : model.stem().string();
    return name;
  }

  static void tell(const fs::path& config, const TextSplit& split, std::size_t cells, Console& console) {
    Json parts = Json::object();
    for (const auto& [name, part] : {std::pair{"calibration", &split.calibration}, std::pair{"train", &split.train},
                                     std::pair{"evaluation", &split.evaluation}}) {
      console.text() << part->file.string() << ": " << grouped(part->documents) << " documents, "
                     << grouped(part->bytes) << " bytes\n";
      parts[name] = {{"file", part->file.string()}, {"documents", part->documents}, {"bytes", part->bytes}};
    }
    if (split.repeated > 0)
      console.text() << grouped(split.repeated) << " documents are not evaluated on: they stand in another part, too\n";
    const std::string next = "mlaforge run " + shell_quoted(config.string());
    console.text() << config.string() << ": " << cells
                   << " cells; change it as you like, and check it by: mlaforge check " << shell_quoted(config.string())
                   << "\nnext: " << next << "\n";
    console.report(
        {{"config", config.string()}, {"data", parts}, {"repeated", split.repeated}, {"cells", cells}, {"next", next}});
  }

  fs::path model_, data_;
  std::optional<fs::path> output_, tokenizer_;
  DocumentOptions documents_;
};

const CommandRegistration<Init> kInit("init", "a first config for your model and your text, with comments",
                                      {"mlaforge init data/toy_gqa --data text.txt --output mine.yaml",
                                       "mlaforge init MODEL.gguf --data corpus.jsonl.gz --field content"});

}  // namespace
}  // namespace mla
