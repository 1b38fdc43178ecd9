#include "core/base/error.h"
#include "core/model/safetensors.h"
#include "experiments/cli/command.h"
#include "experiments/cli/table.h"
#include "experiments/conformance/cache_trace.h"
#include "experiments/conformance/codec_cases.h"
#include "experiments/conformance/related_cases.h"
#include "experiments/model/placement_options.h"

namespace mla {
namespace {

/// Codecs, caches and passes against the outputs of the programs that they come from.
class ConformanceCommand final : public Command {
 public:
  void declare(OptionList& options) override {
    options.section(
        "codecs: cases with expected results, as lists of {id, quantizer, input, bits, …, tensors, error}; "
        "other compression methods: {system, cases: [{id, …, tensors}]}");
    options.add("cases", cases_, "FILE", "run each case of this .json");
    options.add("input", input_, "FILE",
                "safetensors: the cases' tensors; default: inputs.safetensors beside them; of other methods: the file "
                "of the same name");
    options.add("output,o", output_, "FILE", "safetensors: each case's tensor after the round trip, codes, scales, …");
    options.section("caches: decoding through a quantized one, as {ids, prompt, runs: {name: {cache, nll}}}");
    options.add("trace", trace_, "FILE", "run each cache of this .json on --model and compare every token's NLL");
    options.add("model", model_, "MODEL",
                "the model of the trace, or of the cases: a folder, a GGUF or a llama2.c .bin file");
    model_options_.declare(options, "number type of the model's arithmetic");
    options.section("both");
    options.add("only", only_, "NAME", "only the case of this id, or the run of this name");
    options.renamed("case", "only");
    options.renamed("run", "only");
    options.renamed("arithmetic", "dtype");
  }

  ExitCode run(Console& console) override {
    if (cases_.has_value() == trace_.has_value()) throw ConfigError("expected one of --cases and --trace");
    if (!cases_) return run_traces(console);
    return holds_related_cases(*cases_) ? run_related(console) : run_cases(console);
  }

 private:
  ExitCode run_cases(Console& console) {
    const CodecCaseFile file = read_codec_cases(*cases_, input_, only_);
    Json reports = Json::array();
    NamedTensors written;
    Table failures({"case", "check", "difference", "limit"});
    std::size_t passed = 0;
    for (const CodecCase& one : file.cases) {
      const CodecCaseResult result = run_codec_case(one, file);
      passed += result.passed ? 1 : 0;
      reports.push_back(result.report);
      if (output_) {
        for (const auto& [part, tensor] : result.tensors) written.emplace_back(one.id + "." + part, tensor);
      }
      if (!result.passed) add_failures(result.report, failures);
    }
    if (output_) write_safetensors(*output_, written);
    if (passed < file.cases.size()) failures.print(console.text());
    console.text() << passed << " of " << file.cases.size() << " cases agree\n";
    console.report({{"passed", passed}, {"cases", file.cases.size()}, {"results", reports}});
    return passed == file.cases.size() ? ExitCode::kDone : ExitCode::kCellsFailed;
  }

  ExitCode run_related(Console& console) {
    if (output_) throw ConfigError("--output: cases of codecs alone have tensors to write");
    const RelatedFile file = read_related_cases(*cases_, input_, model_);
    const std::vector<Json> reports = run_related_cases(file, only_);
    Table table({"case", "checks", "passed"}), failures({"case", "check", "difference", "limit"});
    std::size_t passed = 0;
    for (const Json& report : reports) {
      passed += report["passed"].get<bool>() ? 1 : 0;
      table.add({report["id"], cat(report["checks"].size()), report["passed"].get<bool>() ? "yes" : "no"});
      add_failures(report, failures);
    }
    table.print(console.text());
    if (passed < reports.size()) failures.print(console.text());
    console.text() << passed << " of " << reports.size() << " cases of " << file.system << " agree\n";
    console.report({{"system", file.system}, {"passed", passed}, {"cases", reports.size()}, {"results", reports}});
    return passed == reports.size() ? ExitCode::kDone : ExitCode::kCellsFailed;
  }

  static void add_failures(const Json& report, Table& table) {
    const std::string id = report["id"];
    if (report.contains("refused")) return table.add({id, "refused: " + report["refused"].get<std::string>(), "", ""});
    for (const auto& [what, check] : report["checks"].items()) {
      if (check["passed"].get<bool>()) continue;
      const Json& difference = check["difference"];
      table.add({id, what,
                 difference.is_number() ? rounded(difference.get<double>(), 4) : difference.get<std::string>(),
                 rounded(check["limit"].get<double>(), 4)});
    }
  }

  ExitCode run_traces(Console& console) {
    if (!model_) throw ConfigError("--model is missing: the model of the trace");
    const std::vector<TraceResult> results = replay_traces(*trace_, *model_, only_, model_options_.loading());
    Table table({"run", "mean NLL", "expected", "largest difference", "encoded anew", "passed"});
    Json reports = Json::object();
    bool passed = true;
    for (const TraceResult& result : results) {
      passed = passed && result.passed;
      table.add({result.name, rounded(result.mean_nll_decode, 8), rounded(result.expected_mean, 8),
                 result.refused.empty() ? rounded(result.largest_difference, 3) : "refused",
                 cat(result.requantised.size()), result.passed ? "yes" : "no"});
      reports[result.name] = result.to_json();
    }
    table.print(console.text());
    console.report({{"passed", passed}, {"runs", reports}});
    return passed ? ExitCode::kDone : ExitCode::kCellsFailed;
  }

  std::optional<std::filesystem::path> cases_, input_, output_, trace_, model_;
  std::string only_;
  PlacementOptions model_options_;
};

const CommandRegistration<ConformanceCommand> kConformance(
    "conformance", "hold codecs, caches and passes against the outputs of the programs they come from",
    {"mlaforge conformance --cases ../shared/data/conformance/quantizers/hqq028.json",
     "mlaforge conformance --cases ../shared/data/conformance/related/lorc.json",
     "mlaforge conformance --trace ../shared/data/conformance/quantizers/hfcache_trace.json "
     "--model ../shared/data/weights/tinystories-656k"});

const MovedOptionsRegistration kMovedFromCodec({"codec", {"--cases", "--trace"}, "conformance"});

}  // namespace
}  // namespace mla
