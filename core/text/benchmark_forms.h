// How rows of each form of benchmark file are read.
#pragma once

#include <string>
#include <vector>

#include "core/base/json.h"
#include "core/text/benchmark_question.h"

namespace mla {

/// A form of one question a row: what its rows have, and how a question is made of one. `read` gets the row's place for
/// its errors; checks that all forms share are made after it.
struct RowForm {
  std::string name, description;
  std::vector<std::string> keys;  ///< the row must have these; '|' parts alternatives of one
  BenchmarkQuestion (*read)(const Json& row, const std::string& where);
};

/// Forms in which evaluation programs keep benchmarks: ready-made queries and choices.
const std::vector<RowForm>& prepared_forms();
/// Forms in which the benchmarks' authors publish them.
const std::vector<RowForm>& original_forms();

/// Fields of a row. Throw DataError "<where>: <key>: expected …" for one that is missing or of another kind.
std::string text_of(const Json& row, const char* key, const std::string& where);
std::vector<std::string> texts_of(const Json& row, const char* key, const std::string& where);
/// A whole number, also one written as text, plus `offset`.
std::int64_t index_of(const Json& row, const char* key, const std::string& where, std::int64_t offset = 0);

/// `query` without "Question: " or "Goal: " in front and without "\nAnswer:" or a line break after it.
std::string bare_question(const std::string& query);

}  // namespace mla
