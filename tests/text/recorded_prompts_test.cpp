// Prompts made of the benchmarks' own rows, held to those that other programs have recorded.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/base/json.h"
#include "core/text/benchmark_prompt.h"
#include "core/text/json_lines.h"
#include "tests/support/shared_data.h"
#include "tests/support/temporary_folder.h"

namespace mla {
namespace {

constexpr const char* kOlmes = "data/benchmarks/olmes";

/// The rows behind recorded requests, one a document, as the benchmark's authors publish them.
std::string rows_of(const std::filesystem::path& requests) {
  std::string lines;
  Json last;
  read_json_lines(requests, [&](const Json& row, const std::string&) {
    if (row["doc"] != last) lines += row["doc"].dump() + "\n";
    last = row["doc"];
    return true;
  });
  return lines;
}

TEST(RecordedPrompts, WinograndeAsksForTheRestAfterEachOption) {
  MLA_NEEDS_SHARED(kOlmes);
  const test::TemporaryFolder folder;
  for (const char* set : {"rc_0shot", "val_rc_5shot"}) {
    const auto requests = test::shared_folder() / kOlmes / "winogrande" / set / "requests.jsonl.gz";
    const auto recorded = make_items(read_benchmark(requests).questions, {}, {}, "");
    const auto rows = folder.write("rows.jsonl", rows_of(requests));
    const auto made = make_items(read_benchmark(rows, "winogrande_partial").questions, {}, {}, "");
    ASSERT_EQ(made.size(), 1267u);
    ASSERT_EQ(made.size(), recorded.size());
    for (std::size_t i = 0; i < made.size(); ++i) {
      EXPECT_EQ(made[i].choices, recorded[i].choices) << i;
      EXPECT_EQ(made[i].answer, recorded[i].answer) << i;
      for (const std::size_t choice : {0, 1})  // behind the examples, where there are such
        EXPECT_TRUE(recorded[i].contexts.at(choice).ends_with(made[i].contexts.at(choice))) << i;
    }
  }
}

TEST(RecordedPrompts, SolvedProblemsStandBeforeEachProblem) {
  MLA_NEEDS_SHARED(kOlmes);
  const auto requests = test::shared_folder() / kOlmes / "gsm8k/gold_bpb_5shot/requests.jsonl.gz";
  PromptOptions options;
  options.context = "Question: {question}\nAnswer:";
  options.choice = " {solution}";
  options.few_shot = 8;
  std::vector<BenchmarkQuestion> examples;
  std::size_t prompts = 0;
  read_json_lines(requests, [&](const Json& row, const std::string& where) {
    const std::string recorded = row["request"]["context"];
    std::string problem = row["doc"]["question"];
    // The examples of the first prompt are those of all.
    for (std::size_t at = 0, end; examples.size() < 8 && (end = recorded.find("\n\n", at)) != std::string::npos;
         at = end + 2) {
      const std::size_t cut = recorded.find("\nAnswer: ", at);
      BenchmarkQuestion& example = examples.emplace_back();
      example.question = recorded.substr(at + 10, cut - at - 10);
      example.fields["solution"] = recorded.substr(cut + 9, end - cut - 9);
      example.choices = {example.fields["solution"]};
    }
    BenchmarkQuestion asked;
    asked.question = problem;
    asked.fields["solution"] = "";
    asked.choices = {""};
    EXPECT_EQ(make_items({asked}, examples, options, "prompt").front().context, recorded) << where;
    ++prompts;
    return true;
  });
  EXPECT_EQ(prompts, 1319u);
}

}  // namespace
}  // namespace mla
