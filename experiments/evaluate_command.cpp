#include <algorithm>

#include "core/base/interrupt.h"
#include "core/base/progress.h"
#include "core/evaluate/perplexity.h"
#include "core/model/checkpoint.h"
#include "experiments/command.h"
#include "experiments/dtype.h"
#include "experiments/evaluation_text.h"
#include "experiments/table.h"

namespace mla {
namespace {

constexpr std::int64_t kLongestDefaultContext = 2048;

/// The flat list of scored tokens cut into the sequences they belong to.
Json nll_rows(const PerplexityResult& result) {
  Json all = Json::array();
  auto next = result.nll.begin();
  for (const std::int64_t count : result.scored_per_sequence) {
    all.push_back(std::vector<double>(next, next + count));
    next += count;
  }
  return all;
}

class Evaluate final : public Command {
 public:
  void declare(OptionList& options) override {
    options.require("model", model_, "MODEL", "a model folder, or a llama2.c .bin file");
    options.require("perplexity", text_.file, "FILE", "text, .jsonl, or {\"ids\": [[…]]} in a .json file");
    options.add_count("context", context_, 2, "tokens of a window; default: the model's context, up to 2048");
    options.add_count("stride", stride_, 1, "tokens from one window to the next; default: context");
    options.add("tokenizer", tokenizer_, "PATH", "tokenizer file or folder; default: in the model's folder");
    options.add("documents", text_.documents.separator, "SEPARATOR",
                "score each part between separators by itself; default: the file is one stream");
    options.flag("normalize-whitespace", text_.documents.normalize_whitespace,
                 "strip lines, make runs of white space one space, drop empty lines");
    options.add_count("limit-documents", text_.limit, 1, "only the first N documents");
    options.add("dtype", dtype_, "TYPE", "number type of the arithmetic: " + dtype_choices());
    options.add("output,o", output_, "FILE", "write the report with every token's NLL to this .json file");
  }

  ExitCode run(Console& console) override {
    const at::ScalarType dtype = parse_dtype(dtype_, "--dtype");
    const Geometry geometry = load_geometry(model_);
    const PerplexityOptions options = perplexity_options(geometry);
    const EvaluationRows text = read_evaluation_rows(text_, model_, tokenizer_, geometry, console.workers());
    const Checkpoint checkpoint = load_checkpoint(model_, {.dtype = dtype});
    const PerplexityResult result = measure(checkpoint.decoder, text, options);
    const Json report = to_json(result, options, text.rows.size());
    if (output_) {
      Json detailed = report;
      detailed["nll"] = nll_rows(result);
      write_json(*output_, detailed, -1);
    }
    print(result, report, console.text());
    console.report(report);
    return ExitCode::kDone;
  }

 private:
  PerplexityOptions perplexity_options(const Geometry& geometry) const {
    PerplexityOptions options;
    options.context = context_.value_or(std::min(geometry.max_positions, kLongestDefaultContext));
    options.stride = stride_.value_or(options.context);
    options.validate("evaluate");
    return options;
  }

  static PerplexityResult measure(const Decoder& decoder, const EvaluationRows& text,
                                  const PerplexityOptions& options) {
    install_interrupt_handler();
    Progress progress("perplexity", text.scorable_tokens(), "tokens");
    return perplexity(decoder, text.rows, options, text.bytes, [&](std::int64_t tokens) {
      check_interrupt();
      progress.advance(tokens);
    });
  }

  Json to_json(const PerplexityResult& result, const PerplexityOptions& options, std::size_t documents) const {
    return {{"perplexity", result.perplexity},
            {"mean_nll", result.mean_nll},
            {"bits_per_byte", result.bits_per_byte ? Json(*result.bits_per_byte) : Json()},
            {"standard_error", result.standard_error},
            {"tokens", result.scored_tokens},
            {"documents", documents},
            {"context", options.context},
            {"stride", *options.stride},
            {"dtype", dtype_},
            {"model", model_.string()},
            {"file", text_.file.string()}};
  }

  static void print(const PerplexityResult& result, const Json& report, std::ostream& out) {
    Table table({"measure", "value", "unit"});
    table.add({"perplexity", rounded(result.perplexity), ""});
    table.add({"mean NLL", rounded(result.mean_nll), "nats/token"});
    table.add({"standard error", rounded(result.standard_error, 3), "nats/token"});
    if (result.bits_per_byte) table.add({"bits per byte", rounded(*result.bits_per_byte), "bits/byte"});
    table.add({"scored", cat(result.scored_tokens), "tokens"});
    for (const char* key : {"documents", "context", "stride"}) table.add({key, report[key].dump(), ""});
    table.print(out);
  }

  std::filesystem::path model_;
  std::optional<std::filesystem::path> tokenizer_, output_;
  EvaluationText text_;
  std::optional<std::int64_t> context_, stride_;
  std::string dtype_ = "float32";
};

const CommandRegistration<Evaluate> kEvaluate(
    "evaluate", "perplexity and bits per byte of a model on a text",
    {"mlaforge evaluate --model ../shared/data/weights/stories260K/stories260K.bin "
     "--perplexity ../shared/data/corpora/tinystories/decoded_test.txt --context 256 --stride 128"});

}  // namespace
}  // namespace mla
