#include <ATen/ATen.h>

#include <algorithm>

#include "core/base/interrupt.h"
#include "core/gguf/file.h"
#include "core/model/safetensors.h"
#include "core/serve/compare_models.h"
#include "core/serve/served_folder.h"
#include "experiments/cli/command.h"
#include "experiments/cli/table.h"
#include "experiments/data/token_data.h"
#include "experiments/model/dtype.h"
#include "experiments/model/model_files.h"

namespace mla {
namespace {

namespace fs = std::filesystem;

constexpr std::int64_t kComparedTokens = 64, kComparedRows = 2, kGreedyTokens = 64;

/// The largest difference of logits, in their standard deviations, that the rounding of a type explains.
double tolerance_of(at::ScalarType type) {
  return type == at::kFloat || type == at::kDouble ? 5e-5 : type == at::kHalf ? 5e-2 : 0.5;
}

/// The same of what a file holds: blocks of few bits round more than the type that they are read as.
double tolerance_of(const fs::path& file, const Decoder& written) {
  double tolerance = tolerance_of(written.embedding.scalar_type());
  if (!gguf::is_gguf(file)) return tolerance;
  const gguf::File held(file);
  for (const gguf::Tensor& tensor : held.tensors()) {
    const std::size_t bytes_of_32 = 32 * tensor.type->bytes / static_cast<std::size_t>(tensor.type->block);
    const bool narrow = bytes_of_32 < 64 || std::string_view(tensor.type->name) == "BF16";
    tolerance = std::max(tolerance, bytes_of_32 < 32 ? 5 : narrow ? 0.5 : bytes_of_32 < 128 ? 5e-2 : 0);
  }
  return tolerance;
}

/// The model in a folder that `mlaforge export` wrote: the folder itself, or the GGUF file in it.
fs::path model_in(const fs::path& folder) {
  if (!fs::is_directory(folder) || fs::exists(folder / "config.json")) return folder;
  std::vector<fs::path> files;
  for (const auto& entry : fs::directory_iterator(folder)) {
    if (entry.path().extension() == ".gguf") files.push_back(entry.path());
  }
  if (files.size() == 1) return files.front();
  throw DataError(cat(folder.string(), ": expected a config.json, or one GGUF file, found ", files.size(), " of them"));
}

/// Reads what was exported with our own reader and compares it with the model that it was exported from.
class VerifyExport final : public Command {
 public:
  void declare(OptionList& options) override {
    options.argument("export", export_, "DIR", "a folder that `mlaforge export` wrote, or a GGUF file");
    options.require("model", model_, "MODEL", "the model that it was written from");
    options.add("text", text_, "FILE", "compare on this text; default: random tokens");
    options.add("tokens", tokens_, "N",
                "compare on so many tokens (default: 128 in two rows), or on those of a JSON file {\"ids\": [[…]]}");
    options.add("tokenizer", tokenizer_, "PATH", "tokenizer for the text; default: beside the model");
    options.add("tolerance", tolerance_, "X",
                "largest difference of logits, in their standard deviations, that is no failure; default: 5e-5 for "
                "float32, 5e-2 for float16, 0.5 for bfloat16 and blocks of 8 bits, 5 for blocks of fewer");
    options.add("logits", logits_, "FILE",
                "write ids, the model's logits and 64 greedy tokens to this .safetensors file, for tests of engines");
  }

  ExitCode run(Console& console) override {
    install_interrupt_handler();
    const fs::path file = model_in(export_);
    // In float32 thirty layers round by more than what an export changes: 1e-4 on some rows of tokens.
    const Placement as_held{.storage = std::nullopt, .compute = at::kDouble};
    const Checkpoint model = load_checkpoint(model_, {.placement = as_held});
    const Checkpoint written = load_checkpoint(file, {.placement = as_held});
    const at::Tensor ids = rows(model.decoder);
    if (logits_) write_reference(model.decoder, ids);
    const ModelComparison found = compare_models(written.decoder, model.decoder, ids);
    const double tolerance = tolerance_.value_or(tolerance_of(file, written.decoder));
    Json report = to_json(found);
    report["export"] = file.string();
    report["model"] = model_.string();
    report["tolerance"] = tolerance;
    report["engines"] = engines(file, console.text());
    print(found, written.decoder.spec(), console.text());
    console.report(report);
    if (found.largest > tolerance || !(found.rms >= 0))
      throw DataError(cat(file.string(), ": logits differ from those of ", model_.string(), " by ",
                          rounded(found.largest), " standard deviations; expected at most ", tolerance));
    return ExitCode::kDone;
  }

 private:
  at::Tensor rows(const Decoder& decoder) const {
    const std::int64_t longest = decoder.spec().max_positions;
    const std::optional<std::int64_t> count = whole_number();
    if (!text_ && (!tokens_ || count)) {
      const std::int64_t length = std::clamp<std::int64_t>(count.value_or(kComparedTokens), 1, longest);
      const auto generator = at::detail::createCPUGenerator(1);
      return at::randint(0, decoder.spec().vocabulary, {count ? 1 : kComparedRows, length}, generator, at::kLong);
    }
    DataOptions data;
    data.files = {text_ ? text_->string() : *tokens_};
    data.length = std::min(count.value_or(kComparedTokens), longest);
    data.long_documents = "split";
    data.max_rows = 1;
    data.validate(text_ ? "--text" : "--tokens");
    std::unique_ptr<Tokenizer> tokenizer;
    if (!holds_token_ids(data.files.front())) tokenizer = load_model_tokenizer(model_, tokenizer_, decoder.spec());
    const TokenRows found = load_rows(data, tokenizer.get(), decoder.spec().vocabulary, 1);
    return at::tensor(found.rows.front(), at::kLong).unsqueeze(0);
  }

  std::optional<std::int64_t> whole_number() const {
    if (!tokens_ || tokens_->empty() || !std::all_of(tokens_->begin(), tokens_->end(), ::isdigit)) return {};
    return tokens_->size() < 9 ? std::stoll(*tokens_) : throw ConfigError(cat("--tokens ", *tokens_, ": too many"));
  }

  void write_reference(const Decoder& decoder, const at::Tensor& ids) const {
    const c10::InferenceMode guard;
    const at::Tensor start = ids[0].narrow(0, 0, std::min<std::int64_t>(16, ids.size(1)));
    const std::int64_t room = decoder.spec().max_positions - start.numel();
    const at::Tensor greedy = at::tensor(greedy_tokens(decoder, start, std::min(kGreedyTokens, room)), at::kLong);
    write_safetensors(*logits_, {{"ids", ids},
                                 {"logits", decoder.forward(ids).to(at::kFloat)},
                                 {"start", start.contiguous()},
                                 {"greedy", greedy}});
  }

  /// Of a folder that engines load by a class of their own, engine by engine.
  static Json engines(const fs::path& file, std::ostream& out) {
    Json all = Json::array();
    if (!fs::is_directory(file)) return all;
    const ServedFolder folder = open_served_folder(file);
    if (folder.config.value("model_type", Json()) != kDeepSeekType) return all;
    Table table({"engine", "loads", ""});
    for (const EngineVerdict& engine : judge_folder(folder)) {
      all.push_back({{"engine", engine.engine}, {"loads", engine.loads}, {"reason", engine.reason}});
      table.add({engine.engine, engine.loads ? "yes" : "no", engine.reason});
    }
    table.print(out);
    return all;
  }

  static Json to_json(const ModelComparison& found) {
    return {{"tokens", found.tokens},
            {"largest_difference", found.largest},
            {"rms_difference", found.rms},
            {"stepwise_difference", found.stepwise},
            {"same_choice", found.same_choice},
            {"cached_values_per_token", found.cached},
            {"cached_values_per_token_of_model", found.cached_by_model}};
  }

  static void print(const ModelComparison& found, const ModelSpec& spec, std::ostream& out) {
    out << "logits of " << found.tokens << " tokens, in standard deviations: largest difference "
        << rounded(found.largest) << ", rms " << rounded(found.rms) << "; token by token " << rounded(found.stepwise)
        << "; same choice " << rounded(100 * found.same_choice, 4) << " %\n"
        << "cached values per token: " << grouped(found.cached) << " in " << spec.layer_count() << " layers, the model "
        << grouped(found.cached_by_model) << "\n";
  }

  fs::path export_, model_;
  std::optional<fs::path> text_, tokenizer_, logits_;
  std::optional<std::string> tokens_;
  std::optional<double> tolerance_;
};

const CommandRegistration<VerifyExport> kVerifyExport(
    "verify-export", "read an export again and compare logits and cached values with the model it was written from",
    {"mlaforge verify-export OUT --model CONVERTED", "mlaforge verify-export OUT --model CONVERTED --text text.txt"});

}  // namespace
}  // namespace mla
