// Encoding speed on wikitext and TinyStories: one long text on one thread, and lines on two.
#include <benchmark/benchmark.h>

#include <cstdlib>
#include <filesystem>

#include "core/base/file.h"
#include "core/text/corpus.h"
#include "core/text/tokenizer.h"

namespace mla {
namespace {

std::filesystem::path data_folder() {
  const char* named = std::getenv("MLA_SHARED");
  return std::filesystem::path(named ? named : "../shared") / "data";
}

void skip_or_run(benchmark::State& state, const char* tokenizer_path, const char* text_path, int threads) {
  const auto tokenizer_file = data_folder() / "tokenizers" / tokenizer_path, text_file = data_folder() / text_path;
  if (!std::filesystem::exists(tokenizer_file) || !std::filesystem::exists(text_file)) {
    return state.SkipWithError("MLA_SHARED does not hold this tokenizer and text");
  }
  const std::string separator = threads == 1 ? "" : "\n";
  const std::vector<std::string> texts = read_documents(text_file, {.separator = separator});
  std::int64_t bytes = 0;
  for (const std::string& text : texts) bytes += static_cast<std::int64_t>(text.size());
  for (auto unused : state) {
    state.PauseTiming();
    const auto fresh = load_tokenizer(tokenizer_file);  // So that no cache remembers the text.
    state.ResumeTiming();
    benchmark::DoNotOptimize(encode_batch(*fresh, texts, {}, threads));
  }
  state.SetBytesProcessed(state.iterations() * bytes);
}

constexpr const char* kWikitext = "corpora/wikitext2/wiki.test.raw";
constexpr const char* kStories = "corpora/tinystories/decoded_test.txt";

#define TOKENIZER_BENCHMARK(name, path)                                                                        \
  BENCHMARK_CAPTURE(skip_or_run, name##_wikitext_1_thread, path, kWikitext, 1)->UseRealTime()->Iterations(5);  \
  BENCHMARK_CAPTURE(skip_or_run, name##_wikitext_2_threads, path, kWikitext, 2)->UseRealTime()->Iterations(5); \
  BENCHMARK_CAPTURE(skip_or_run, name##_stories_1_thread, path, kStories, 1)->UseRealTime()->Iterations(5);    \
  BENCHMARK_CAPTURE(skip_or_run, name##_stories_2_threads, path, kStories, 2)->UseRealTime()->Iterations(5)

TOKENIZER_BENCHMARK(smollm, "smollm");
TOKENIZER_BENCHMARK(gpt2, "gpt2");
TOKENIZER_BENCHMARK(llama2_json, "llama2/tokenizer.json");
TOKENIZER_BENCHMARK(llama2_sentencepiece, "llama2/tokenizer.model");

}  // namespace
}  // namespace mla
