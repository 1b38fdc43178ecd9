// Requests per second of multiple-choice scoring, on the model and items that huggingface_evaluation.py makes in the
// folder that MLA_EVALUATION_FOLDER names, and how far the log-likelihoods are from the ones that it writes there.
#include <benchmark/benchmark.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdlib>
#include <filesystem>

#include "core/base/json.h"
#include "core/evaluate/multiple_choice.h"
#include "core/model/checkpoint.h"
#include "core/text/tokenizer.h"

namespace mla {
namespace {

/// Largest difference from the reference's log-likelihoods, in the order of the requests.
double largest_difference(const std::vector<std::vector<double>>& sums, const std::filesystem::path& reference) {
  const Json expected = read_json(reference);
  double largest = 0;
  std::size_t at = 0;
  for (const auto& group : sums) {
    for (const double sum : group) largest = std::max(largest, std::abs(sum - expected.at(at++).get<double>()));
  }
  return largest;
}

void score(benchmark::State& state, bool share_contexts) {
  const char* folder = std::getenv("MLA_EVALUATION_FOLDER");
  if (!folder) {
    state.SkipWithError("MLA_EVALUATION_FOLDER names no folder; huggingface_evaluation.py makes one");
    return;
  }
  const std::filesystem::path path = folder;
  const Checkpoint model = load_checkpoint(path);
  const auto tokenizer = load_tokenizer(path);
  const MultipleChoiceTask task = make_multiple_choice(read_multiple_choice_items(path / "items.jsonl"), *tokenizer);
  std::int64_t requests = 0;
  for (const ContinuationGroup& group : task.tokens) requests += std::ssize(group);
  LikelihoodOptions options;
  options.share_contexts = share_contexts;
  LikelihoodResult result;
  double seconds = 0;
  for (auto _ : state) {
    const auto start = std::chrono::steady_clock::now();
    result = log_likelihoods(model.decoder, task.tokens, options);
    seconds += std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  }
  state.counters["requests_per_second"] =
      static_cast<double>(requests * static_cast<std::int64_t>(state.iterations())) / seconds;
  const auto reference = path / "reference.json";
  if (std::filesystem::exists(reference))
    state.counters["largest_difference"] = largest_difference(result.sum, reference);
}

BENCHMARK_CAPTURE(score, shared_contexts, true)->Unit(benchmark::kSecond)->UseRealTime()->Iterations(2);
BENCHMARK_CAPTURE(score, single_rows, false)->Unit(benchmark::kSecond)->UseRealTime()->Iterations(1);

}  // namespace
}  // namespace mla
