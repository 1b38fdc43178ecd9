#include "core/text/corpus.h"

#include <sstream>

#include "core/base/error.h"
#include "core/base/file.h"
#include "core/base/json.h"
#include "core/text/char_class.h"
#include "core/text/utf8.h"

namespace mla {
namespace {

namespace fs = std::filesystem;
using Texts = std::vector<std::string>;

/// Cuts at every occurrence of `separator`; none when it is empty.
Texts split_at(const std::string& text, const std::string& separator) {
  Texts parts;
  std::size_t begin = 0;
  while (!separator.empty()) {
    const std::size_t end = text.find(separator, begin);
    if (end == std::string::npos) break;
    parts.push_back(text.substr(begin, end - begin));
    begin = end + separator.size();
  }
  parts.push_back(text.substr(begin));
  return parts;
}

bool is_space(char32_t code) { return CharClasses::instance()[code] == CharClass::kSpace; }

/// The words of `line` with one space between them.
std::string single_spaced(std::string_view line) {
  std::string out;
  bool space_waits = false;
  for (std::size_t at = 0; at < line.size();) {
    const CodePoint here = read_utf8(line.data() + at);
    if (is_space(here.value)) {
      space_waits = !out.empty();
    } else {
      if (space_waits) out.push_back(' ');
      space_waits = false;
      out.append(line.substr(at, here.size));
    }
    at += here.size;
  }
  return out;
}

std::string normalize_lines(const std::string& text) {
  std::string out;
  for (const std::string& line : split_at(text, "\n")) {
    const std::string words = single_spaced(line);
    if (words.empty()) continue;
    if (!out.empty()) out.push_back('\n');
    out += words;
  }
  return out;
}

bool is_blank(std::string_view text) {
  for (std::size_t at = 0; at < text.size(); at += utf8_size(text[at])) {
    if (!is_space(read_utf8(text.data() + at).value)) return false;
  }
  return true;
}

Texts read_jsonl(const fs::path& path, const std::string& field) {
  Texts texts;
  std::istringstream lines(read_file(path));
  std::string line;
  for (int number = 1; std::getline(lines, line); ++number) {
    const std::string where = cat(path.string(), ": line ", number);
    if (line.find_first_not_of(" \t\r") == std::string::npos) continue;
    const Json json = parse_json(line, where);
    if (!json.is_object() || !json.contains(field) || !json.at(field).is_string()) {
      throw DataError(cat(where, ": expected an object with a string '", field, "', found ", kind_of(json)));
    }
    texts.push_back(json.at(field).get<std::string>());
  }
  return texts;
}

Texts read_json_array(const fs::path& path) {
  const Json json = read_json(path);
  if (!json.is_array()) throw DataError(cat(path.string(), ": expected an array of strings, found ", kind_of(json)));
  Texts texts;
  for (const Json& item : json) {
    if (!item.is_string()) {
      throw DataError(cat(path.string(), ": item ", texts.size(), ": expected a string, found ", kind_of(item)));
    }
    texts.push_back(item.get<std::string>());
  }
  return texts;
}

Texts read_texts(const fs::path& path, const DocumentOptions& options) {
  if (path.extension() == ".jsonl") return read_jsonl(path, options.jsonl_field);
  if (path.extension() == ".json") return read_json_array(path);
  return {read_file(path)};
}

std::vector<std::int32_t> read_row(const Json& json, const std::string& where) {
  if (!json.is_array()) throw DataError(cat(where, ": expected a list of ids, found ", kind_of(json)));
  std::vector<std::int32_t> row;
  row.reserve(json.size());
  for (const Json& id : json) {
    if (!id.is_number_integer() || id.get<std::int64_t>() < 0 || id.get<std::int64_t>() > INT32_MAX) {
      throw DataError(cat(where, "[", row.size(), "]: expected an id >= 0, found ", id.dump()));
    }
    row.push_back(id.get<std::int32_t>());
  }
  return row;
}

}  // namespace

std::vector<std::string> read_documents(const fs::path& path, const DocumentOptions& options) {
  Texts documents;
  for (const std::string& text : read_texts(path, options)) {
    for (std::string& part : split_at(replace_invalid_utf8(text), options.separator)) {
      std::string document = options.normalize_whitespace ? normalize_lines(part) : std::move(part);
      if (!is_blank(document)) documents.push_back(std::move(document));
    }
  }
  if (documents.empty()) throw DataError(cat(path.string(), ": the corpus is empty"));
  return documents;
}

TokenRows read_token_rows(const fs::path& path) {
  const Json json = read_json(path);
  if (!json.is_object() || !json.contains("ids") || !json.at("ids").is_array()) {
    throw DataError(cat(path.string(), ": expected {\"ids\": [[…], …]}, found ", kind_of(json)));
  }
  TokenRows rows;
  for (const Json& row : json.at("ids")) {
    rows.rows.push_back(read_row(row, cat(path.string(), ": ids[", rows.rows.size(), "]")));
  }
  if (rows.rows.empty()) throw DataError(cat(path.string(), ": the corpus is empty"));
  return rows;
}

TokenRows tokenize_documents(const Tokenizer& tokenizer, const std::vector<std::string>& documents,
                             EncodeOptions options, int threads) {
  TokenRows rows;
  for (const std::string& document : documents) rows.bytes += static_cast<std::int64_t>(document.size());
  rows.rows = encode_batch(tokenizer, documents, options, threads);
  return rows;
}

}  // namespace mla
