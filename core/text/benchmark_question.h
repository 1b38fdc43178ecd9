// Questions of published benchmarks, read from the forms in which their files go around.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <vector>

namespace mla {

/// One question. What a model is asked is made of it by a prompt (core/text/benchmark_prompt.h).
struct BenchmarkQuestion {
  std::string query;                 ///< the text that the file would have a model continue
  std::string question;              ///< the bare question: without "Question:" in front and "Answer:" after it
  std::vector<std::string> choices;  ///< bare answers; one alone where the answer is to be said rather than chosen
  std::vector<std::string> continuations;  ///< of `query`, letter for letter, where the file gives them; else empty
  std::vector<std::string> contexts;  ///< one per choice instead of `query`, where the file asks which fits; else empty
  std::int64_t answer = 0;            ///< index of the right choice
  std::map<std::string, std::string> fields;  ///< the row's other texts, and "subject" of an MMLU file
  std::vector<double> log_likelihoods;        ///< one per choice, where the file tells what a model gave them
};

/// What a form of file is called, and how its rows look.
struct BenchmarkForm {
  std::string name, description;
};

/// All forms, in the order in which a file's first row is held against them.
const std::vector<BenchmarkForm>& benchmark_forms();

struct BenchmarkFile {
  std::string form;  ///< the one found
  std::vector<BenchmarkQuestion> questions;
};

/// Reads a file of JSON objects (core/text/json_lines.h) or CSV, packed or not, or all .jsonl and .csv files of a
/// folder in order of name. `form`: one of benchmark_forms(); "auto": told from the first row. `limit`: only the first
/// questions; 0: all. Throws DataError naming file and line: for a row that lacks what its form needs, for an answer
/// out of range, an empty choice, a file without questions; ConfigError for a form that there is not.
BenchmarkFile read_benchmark(const std::filesystem::path& path, const std::string& form = "auto",
                             std::int64_t limit = 0);

/// The files that read_benchmark(path) reads. Throws DataError when there are none.
std::vector<std::filesystem::path> benchmark_files(const std::filesystem::path& path);

}  // namespace mla
