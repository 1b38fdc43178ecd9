// How a table is written: for terminals, Markdown, CSV, LaTeX and JSON.
#include <fmt/format.h>

#include <algorithm>
#include <functional>

#include "analysis/tables/table.h"
#include "analysis/tables/table_latex.h"
#include "analysis/tables/text_table.h"
#include "core/base/error.h"
#include "core/base/suggest.h"

namespace mla {
namespace {

using Texts = std::vector<std::string>;

/// How many leading texts of a row are keys, and whether text `i` stands on the left.
bool is_left(const Table& table, std::size_t i) {
  if (table.has_paper) {
    if (i == 0) return true;
    --i;
  }
  return i < table.keys.size() && !table.keys[i].number;
}

std::size_t first_value(const Table& table) { return table.keys.size() + 1 + (table.has_paper ? 1 : 0); }

/// The texts of all rows, each best value passed through `emphasize`.
std::vector<Texts> body(const Table& table, const std::function<std::string(const std::string&)>& emphasize) {
  std::vector<Texts> lines;
  for (const TableRow& row : table.rows) {
    Texts texts = row_texts(table, row);
    for (std::size_t i = 0; i < row.values.size(); ++i) {
      std::string& text = texts[first_value(table) + i];
      if (row.values[i] && row.values[i]->best) text = emphasize(text);
    }
    lines.push_back(std::move(texts));
  }
  return lines;
}

void write_terminal(const Table& table, bool bold, std::ostream& out) {
  if (!table.title.empty()) out << table.title << "\n\n";
  std::vector<Texts> lines = body(table, [&](const std::string& text) { return bold ? text : text + "*"; });
  lines.insert(lines.begin(), headings(table));
  std::vector<std::size_t> widths(lines.front().size(), 0);
  for (const Texts& line : lines) {
    for (std::size_t i = 0; i < line.size(); ++i) widths[i] = std::max(widths[i], display_width(line[i]));
  }
  for (std::size_t n = 0; n < lines.size(); ++n) {
    std::string text;
    for (std::size_t i = 0; i < lines[n].size(); ++i) {
      const std::string& word = lines[n][i];
      const std::string padding(widths[i] - display_width(word), ' ');
      const bool best = bold && n > 0 && i >= first_value(table) && table.rows[n - 1].values[i - first_value(table)] &&
                        table.rows[n - 1].values[i - first_value(table)]->best;
      const std::string shown = best ? cat("\033[1m", word, "\033[0m") : word;
      text += cat(i > 0 ? "  " : "", is_left(table, i) ? shown : padding, is_left(table, i) ? padding : shown);
    }
    out << text.substr(0, text.find_last_not_of(' ') + 1) << "\n";
  }
  bool any_best = false;
  for (const TableRow& row : table.rows) {
    for (const auto& value : row.values) any_best = any_best || (value && value->best);
  }
  if (any_best) out << (bold ? "bold: " : "*: ") << "best of the column\n";
  for (const std::string& line : footnotes(table)) out << line << "\n";
}

std::string replaced(const std::string& text, const std::vector<std::pair<char, const char*>>& with) {
  std::string result;
  for (const char c : text) {
    const auto found = std::find_if(with.begin(), with.end(), [&](const auto& pair) { return pair.first == c; });
    if (found == with.end()) {
      result += c;
    } else {
      result += found->second;
    }
  }
  return result;
}

std::string markdown_text(const std::string& text) {
  return replaced(text, {{'|', "\\|"}, {'\n', " "}, {'*', "\\*"}, {'_', "\\_"}, {'<', "&lt;"}});
}

void write_markdown(const Table& table, std::ostream& out) {
  if (!table.title.empty()) out << "**" << markdown_text(table.title) << "**\n\n";
  const Texts heads = headings(table);
  std::string first = "|", second = "|";
  for (std::size_t i = 0; i < heads.size(); ++i) {
    first += cat(" ", markdown_text(heads[i]), " |");
    second += is_left(table, i) ? "---|" : "---:|";
  }
  out << first << "\n" << second << "\n";
  // The texts are escaped one by one, so that the stars of the best stay.
  for (const TableRow& row : table.rows) {
    const Texts texts = row_texts(table, row);
    out << "|";
    for (std::size_t i = 0; i < texts.size(); ++i) {
      const bool best =
          i >= first_value(table) && row.values[i - first_value(table)] && row.values[i - first_value(table)]->best;
      out << " " << (best ? "**" : "") << markdown_text(texts[i]) << (best ? "**" : "") << " |";
    }
    out << "\n";
  }
  for (const std::string& line : footnotes(table)) out << "\n" << markdown_text(line) << "\n";
}

/// Full precision, an empty field where nothing was measured; each value is followed by its error and its runs.
void write_csv(const Table& table, std::ostream& out) {
  Texts heads = {"numbers"};
  for (const TableKey& key : table.keys) heads.push_back(key.name);
  for (const char* name : {"runs", "diverged"}) heads.emplace_back(name);
  for (const TableColumn& column : table.columns) {
    for (const char* tail : {"", "_standard_error", "_runs"}) heads.push_back(column.name + tail);
  }
  const auto write_line = [&](const Texts& texts) {
    for (std::size_t i = 0; i < texts.size(); ++i) out << (i > 0 ? "," : "") << csv_text(texts[i]);
    out << "\n";
  };
  write_line(heads);
  for (const TableRow& row : table.rows) {
    Texts texts = {origin_name(row.origin)};
    for (const Json& key : row.keys)
      texts.push_back(key.is_string() ? key.get<std::string>() : key.is_null() ? "" : key.dump());
    texts.push_back(fmt::format("{}", row.runs));
    texts.push_back(fmt::format("{}", row.diverged));
    for (const auto& value : row.values) {
      texts.push_back(value ? fmt::format("{}", value->mean) : "");
      texts.push_back(value && value->error ? fmt::format("{}", *value->error) : "");
      texts.push_back(value ? fmt::format("{}", value->runs) : "");
    }
    write_line(texts);
  }
}

}  // namespace

const std::vector<std::string>& table_formats() {
  static const std::vector<std::string> formats = {"terminal", "markdown", "csv", "latex", "json"};
  return formats;
}

void write_table(const Table& table, const std::string& format, bool bold, std::ostream& out) {
  if (format == "terminal") return write_terminal(table, bold, out);
  if (format == "markdown") return write_markdown(table, out);
  if (format == "csv") return write_csv(table, out);
  if (format == "latex") return write_latex(table, out);
  if (format != "json") throw ConfigError(cat("--format: ", unknown_name(format, table_formats())));
  out << to_json(table).dump(-1, ' ', false, Json::error_handler_t::replace) << "\n";
}

}  // namespace mla
