#include "core/base/interrupt.h"
#include "core/base/progress.h"
#include "core/model/checkpoint.h"
#include "experiments/cli/command.h"
#include "experiments/model/placement_options.h"
#include "experiments/tasks/scoring.h"

namespace mla {
namespace {

class Score final : public Command {
 public:
  void declare(OptionList& options) override {
    options.require("model", model_, "MODEL", "a model folder, a GGUF or a llama2.c .bin file");
    options.require("ids", ids_, "FILE",
                    "{\"ids\": [[…], …], \"last\": 4, \"greedy_tokens\": 16}; the last two are optional");
    options.add("output,o", output_, "FILE",
                "{\"nll\": [[…]], \"last_logits\": [[[…]]], \"greedy\": [[…]]} goes here; -: standard output");
    model_options_.declare(options);
  }

  ExitCode run(Console& console) override {
    const LoadOptions loading = model_options_.loading();
    const ScoreRequest request = read_score_request(ids_.string(), load_spec(model_).vocabulary);
    const Checkpoint checkpoint = load_checkpoint(model_, loading);
    const ScoreResult result = score(checkpoint.decoder, request);
    const Json json = {{"nll", result.nll}, {"last_logits", result.last_logits}, {"greedy", result.greedy}};
    if (output_ == "-") {
      console.print(json);
      return ExitCode::kDone;
    }
    write_json(output_, json, -1);
    console.text() << request.ids.size() << " rows scored in " << model_options_.dtype << " arithmetic: " << output_
                   << '\n';
    console.report({{"output", output_},
                    {"rows", request.ids.size()},
                    {"dtype", model_options_.dtype},
                    {"products", model_options_.used_products()}});
    return ExitCode::kDone;
  }

 private:
  static ScoreResult score(const Decoder& decoder, const ScoreRequest& request) {
    install_interrupt_handler();
    Progress progress("score", static_cast<std::int64_t>(request.ids.size()), "rows");
    return score_rows(decoder, request, [&](std::int64_t rows) {
      check_interrupt();
      progress.advance(rows);
    });
  }

  std::filesystem::path model_, ids_;
  std::string output_ = "-";
  PlacementOptions model_options_{.dtype = "float64"};
};

const CommandRegistration<Score> kScore(
    "score", "per-token likelihoods, last logits and greedy continuations of given token ids",
    {"mlaforge score --model ../shared/data/weights/stories260K/stories260K.bin --ids ids.json --output scores.json"});

}  // namespace
}  // namespace mla
