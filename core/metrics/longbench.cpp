// Prompts and lengths of the tasks are LongBench's own (github.com/THUDM/LongBench, MIT), letter for letter: a model's
// score is that of its answer to exactly this text.
#include "core/metrics/longbench.h"

#include <algorithm>

#include "core/base/error.h"
#include "core/base/suggest.h"

namespace mla {
namespace {

std::vector<LongBenchTask> make_tasks() {
  const auto by = [](const char* name) { return Json{{"name", name}}; };
  const Json chinese_retrieval = {{"name", "retrieval"}, {"before", "段落"}};
  return {
      {"narrativeqa",
       "You are given a story, which can be either a novel or a movie script, and a question. Answer the "
       "question asconcisely as you can, using a single phrase if possible. Do not provide any explanation.\n\n"
       "Story: {context}\n\n"
       "Now, answer the question based on the story asconcisely as you can, using a single phrase if possible. "
       "Do not provide any explanation.\n\nQuestion: {input}\n\nAnswer:",
       128, by("qa_f1"), false, true},
      {"qasper",
       "You are given a scientific article and a question. Answer the question as concisely as you can, using a "
       "single phrase or sentence if possible. If the question cannot be answered based on the information in "
       "the article, write \"unanswerable\". If the question is a yes/no question, answer \"yes\", \"no\", or "
       "\"unanswerable\". Do not provide any explanation.\n\nArticle: {context}\n\n"
       " Answer the question based on the above article as concisely as you can, using a single phrase or "
       "sentence if possible. If the question cannot be answered based on the information in the article, write "
       "\"unanswerable\". If the question is a yes/no question, answer \"yes\", \"no\", or \"unanswerable\". Do "
       "not provide any explanation.\n\nQuestion: {input}\n\nAnswer:",
       128, by("qa_f1"), false, true},
      {"multifieldqa_en",
       "Read the following text and answer briefly.\n\n{context}\n\n"
       "Now, answer the following question based on the above text, only give me the answer and do not output "
       "any other words.\n\nQuestion: {input}\nAnswer:",
       64, by("qa_f1"), false, true},
      {"multifieldqa_zh",
       "阅读以下文字并用中文简短回答：\n\n{context}"
       "\n\n现在请基于上面的文章回答下面的问题，只告诉我答案，不要输出任何其他字词。\n\n问题：{input}\n回答：",
       64, by("qa_f1_zh"), false, false},
      {"hotpotqa",
       "Answer the question based on the given passages. Only give me the answer and do not output any other "
       "words.\n\nThe following are given passages.\n{context}\n\n"
       "Answer the question based on the given passages. Only give me the answer and do not output any other "
       "words.\n\nQuestion: {input}\nAnswer:",
       32, by("qa_f1"), false, true},
      {"2wikimqa",
       "Answer the question based on the given passages. Only give me the answer and do not output any other "
       "words.\n\nThe following are given passages.\n{context}\n\n"
       "Answer the question based on the given passages. Only give me the answer and do not output any other "
       "words.\n\nQuestion: {input}\nAnswer:",
       32, by("qa_f1"), false, true},
      {"musique",
       "Answer the question based on the given passages. Only give me the answer and do not output any other "
       "words.\n\nThe following are given passages.\n{context}\n\n"
       "Answer the question based on the given passages. Only give me the answer and do not output any other "
       "words.\n\nQuestion: {input}\nAnswer:",
       32, by("qa_f1"), false, true},
      {"dureader",
       "请基于给定的文章回答下述问题。\n\n文章：{context}\n\n请基于上述文章回答下面的问题。\n\n问题：{input}\n回答：",
       128, by("rouge_l_zh"), false, false},
      {"gov_report",
       "You are given a report by a government agency. Write a one-page summary of the report.\n\nReport:\n"
       "{context}\n\nNow, write a one-page summary of the report.\n\nSummary:",
       512, by("rouge_l"), false, true},
      {"qmsum",
       "You are given a meeting transcript and a query containing a question or instruction. Answer the query in "
       "one or more sentences.\n\nTranscript:\n{context}\n\n"
       "Now, answer the query based on the above meeting transcript in one or more sentences.\n\nQuery: {input}\n"
       "Answer:",
       512, by("rouge_l"), false, true},
      {"multi_news",
       "You are given several news passages. Write a one-page summary of all news. \n\nNews:\n{context}\n\n"
       "Now, write a one-page summary of all the news.\n\nSummary:",
       512, by("rouge_l"), false, true},
      {"vcsum", "下面有一段会议记录，请你阅读后，写一段总结，总结会议的内容。\n会议记录：\n{context}\n\n会议总结：",
       512, by("rouge_l_zh"), false, false},
      {"trec",
       "Please determine the type of the question below. Here are some examples of questions.\n\n{context}\n"
       "{input}",
       64, by("classification"), true, true},
      {"triviaqa",
       "Answer the question based on the given passage. Only give me the answer and do not output any other "
       "words. The following are some examples.\n\n{context}\n\n{input}",
       32, by("qa_f1"), true, true},
      {"samsum",
       "Summarize the dialogue into a few short sentences. The following are some examples.\n\n{context}\n\n"
       "{input}",
       128, by("rouge_l"), true, true},
      {"lsht", "请判断给定新闻的类别，下面是一些例子。\n\n{context}\n{input}", 64, by("classification"), true, false},
      {"passage_count",
       "There are some paragraphs below sourced from Wikipedia. Some of them may be duplicates. Please carefully "
       "read these paragraphs and determine how many unique paragraphs there are after removing duplicates. In "
       "other words, how many non-repeating paragraphs are there in total?\n\n{context}\n\n"
       "Please enter the final count of unique paragraphs after removing duplicates. The output format should "
       "only contain the number, such as 1, 2, 3, and so on.\n\nThe final answer is: ",
       32, by("count"), false, true},
      {"passage_retrieval_en",
       "Here are 30 paragraphs from Wikipedia, along with an abstract. Please determine which paragraph the "
       "abstract is from.\n\n{context}\n\nThe following is an abstract.\n\n{input}\n\n"
       "Please enter the number of the paragraph that the abstract is from. The answer format must be like "
       "\"Paragraph 1\", \"Paragraph 2\", etc.\n\nThe answer is: ",
       32, by("retrieval"), false, true},
      {"passage_retrieval_zh",
       "以下是若干段落文字，以及其中一个段落的摘要。请确定给定的摘要出自哪一段。\n\n{context}\n\n下面是一个摘要\n\n{"
       "input}\n\n"
       "请输入摘要所属段落的编号。答案格式必须是\"段落1\"，\"段落2\"等格式\n\n答案是：",
       32, chinese_retrieval, false, false},
      {"lcc", "Please complete the code given below. \n{context}Next line of code:\n", 64, by("code_similarity"), false,
       true},
      {"repobench-p", "Please complete the code given below. \n{context}{input}Next line of code:\n", 64,
       by("code_similarity"), false, true},
  };
}

/// `text` with the value of each field in place of its name in braces. What a value holds is not looked through.
std::string filled(const std::string& text, const std::vector<std::pair<std::string, const std::string*>>& fields) {
  std::string out;
  for (std::size_t at = 0; at < text.size();) {
    const auto field = std::find_if(fields.begin(), fields.end(), [&](const auto& known) {
      return text.compare(at, known.first.size(), known.first) == 0;
    });
    if (field == fields.end()) {
      out += text[at++];
    } else {
      out += *field->second;
      at += field->first.size();
    }
  }
  return out;
}

}  // namespace

const std::vector<LongBenchTask>& longbench_tasks() {
  static const std::vector<LongBenchTask> tasks = make_tasks();
  return tasks;
}

const LongBenchTask& longbench_task(const std::string& name, const std::string& path) {
  std::vector<std::string> names;
  for (const LongBenchTask& task : longbench_tasks()) {
    if (task.name == name) return task;
    names.push_back(task.name);
  }
  throw ConfigError(cat(path, ": ", unknown_name(name, names)));
}

std::string longbench_prompt(const LongBenchTask& task, const std::string& context, const std::string& input) {
  return filled(task.prompt, {{"{context}", &context}, {"{input}", &input}});
}

}  // namespace mla
