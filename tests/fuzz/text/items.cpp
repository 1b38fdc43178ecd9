// Benchmark items, questions with choices, predictions.
#include "core/base/random.h"
#include "core/metrics/prediction_scores.h"
#include "core/text/benchmark_prompt.h"
#include "core/text/benchmark_question.h"
#include "core/text/multiple_choice_item.h"
#include "tests/fuzz/support/input_files.h"
#include "tests/fuzz/support/target.h"

namespace mla::fuzz {
namespace {

/// The first byte chooses the file's form: c for CSV, else JSON lines. A row of each form of file.
std::vector<std::string> benchmark_seeds() {
  std::vector<std::string> seeds;
  for (
      const char* row : {
          R"({"query":"Question: why?\nAnswer:","choices":[" a"," b"],"gold":1})",
          R"({"question":"why?","choices":{"text":["a","b"],"label":["A","B"]},"answerKey":"B","id":"x"})",
          R"({"question":{"stem":"why?","choices":[{"text":"a","label":"A"},{"text":"b","label":"B"}]},"answerKey":"A"})",
          R"({"goal":"to do","sol1":"a","sol2":"b","label":0})",
          R"({"sentence":"the _ fell","option1":"cat","option2":"dog","answer":"1"})",
          R"({"ctx":"he","ctx_a":"he","ctx_b":"","activity_label":"Run","endings":["a","b","c","d"],"label":"2","ind":1})",
          R"({"sentence_good":"a b","sentence_bad":"b a","UID":"x","field":"syntax"})",
          R"({"question":"why?","choices":["a","b","c","d"],"answer":2,"subject":"high_school_physics"})",
          R"({"text":"the cat sat on the mat"})",
          R"({"context":"x","choices":[" a"," b"],"answer":0})",
          R"({"question":"is it?","passage":"it is","answer":true})",
          R"({"doc":{"query":"why","choices":["a","b"],"gold":0},"target":0,"resps":[[[-1.5,false]],[[-2,false]]]})",
      }) {
    seeds.push_back(std::string("j") + row + "\n" + row + "\n");
  }
  seeds.push_back("cwhy?,a,b,c,d,A\n\"a \"\"quoted\"\", one\",1,2,3,4,D\n");
  seeds.push_back("cquestion,A,B,C,D,answer\nwhy?,a,b,c,d,B\n");
  return seeds;
}

void run_benchmark(std::string_view input) {
  const bool csv = input.starts_with("c");
  const auto path = input_file(csv ? "items/items.csv" : "items/items.jsonl", input.substr(input.empty() ? 0 : 1));
  const BenchmarkFile file = read_benchmark(path);
  for (const BenchmarkQuestion& question : file.questions) {
    const auto choices = static_cast<std::int64_t>(question.choices.size());
    promise(question.answer >= 0 && question.answer < std::max<std::int64_t>(choices, 1), "an answer out of range");
  }
  for (const NamedPrompt& prompt : named_prompts()) {
    PromptOptions options;
    options.name = prompt.name;
    try {
      make_items(file.questions, {}, options, "prompt");
    } catch (const ConfigError&) {  // this prompt asks for fields that the rows lack
    }
  }
}

const Registration kBenchmark({"benchmark_items",
                               run_benchmark,
                               benchmark_seeds,
                               {"question", "choices", "answer", "label", "gold", "text", "query", "\"\"", "\r\n",
                                "\x1f\x8b\x08"}});

std::vector<std::string> choice_seeds() {
  return {
      "{\"context\":\"x\",\"choices\":[\" a\",\" "
      "b\"],\"answer\":1}\n\n{\"context\":\"\",\"choices\":[\"a\",\"b\"],\"answer\":0}"};
}

void run_choices(std::string_view input) {
  const auto items = read_multiple_choice_items(input_file("choices/items.jsonl", input));
  promise(read_multiple_choice_items(input_file("choices/again.jsonl", write_multiple_choice_items(items))) == items,
          "items that read otherwise when written");
}

const Registration kChoices({"multiple_choice_items", run_choices, choice_seeds, {"context", "choices", "answer"}});

std::vector<std::string> prediction_seeds() {
  std::string file;
  for (const LongBenchTask& task : longbench_tasks()) {
    const Json row = {{"pred", "\n2 and a b, 中文。"},
                      {"answers", {"2", "a b", "Paragraph 2", "段落2"}},
                      {"all_classes", {"a", "b"}},
                      {"dataset", task.name},
                      {"_id", "x"},
                      {"length", 3}};
    file += row.dump() + "\n";
  }
  return {file, R"({"pred":"a","answers":["a"],"all_classes":null})"};
}

void run_predictions(std::string_view input) {
  std::size_t left = 20;
  for (const Prediction& prediction : read_predictions(input_file("predictions/p.jsonl", input))) {
    if (left-- == 0 || prediction.text.size() > 2000) break;  // some scores take time in proportion to the square
    for (const LongBenchTask& task : longbench_tasks()) {
      if (!prediction.dataset.empty() && task.name != prediction.dataset) continue;
      try {
        const double score = score_prediction(task, prediction);
        promise(score >= 0 && score <= 1, cat("a score of ", score));
      } catch (const DataError&) {  // this task's metric asks for more than the line has
      }
    }
  }
}

const Registration kPredictions({"predictions",
                                 run_predictions,
                                 prediction_seeds,
                                 {"pred", "answers", "all_classes", "Paragraph", "段落", "\\n", "```"},
                                 40});

}  // namespace
}  // namespace mla::fuzz
