#include "analysis/tables/table_latex.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>

#include "core/base/error.h"

namespace mla {
namespace {

using Texts = std::vector<std::string>;

constexpr std::size_t kRowsOfAPage = 30;
constexpr std::size_t kLongWord = 9;  ///< headings of more characters are broken where they can be

constexpr const char* kPreamble =
    "% Needs \\usepackage{graphicx}; \\usepackage{booktabs} gives better rules.\n"
    "\\providecommand{\\toprule}{\\hline}\\providecommand{\\midrule}{\\hline}\\providecommand{\\bottomrule}{\\hline}\n";

const std::map<char, const char*> kSpecial = {{'\\', "\\textbackslash{}"},
                                              {'_', "\\_"},
                                              {'%', "\\%"},
                                              {'&', "\\&"},
                                              {'#', "\\#"},
                                              {'$', "\\$"},
                                              {'{', "\\{"},
                                              {'}', "\\}"},
                                              {'~', "\\textasciitilde{}"},
                                              {'^', "\\textasciicircum{}"},
                                              {'<', "$<$"},
                                              {'>', "$>$"},
                                              {'|', "$|$"},
                                              {'"', "{\\ttfamily\\char34}"},
                                              {'\n', " "},
                                              {'\t', " "},
                                              {'`', "{\\ttfamily\\char96}"}};

const std::map<char32_t, const char*> kSymbols = {{U'±', "$\\pm$"},  {U'…', "\\dots{}"}, {U'×', "$\\times$"},
                                                  {U'≤', "$\\leq$"}, {U'≥', "$\\geq$"},  {U'→', "$\\to$"},
                                                  {U'²', "$^2$"},    {U'·', "$\\cdot$"}, {U'µ', "$\\mu$"},
                                                  {U'–', "--"},      {U'—', "---"},      {U'°', "$^\\circ$"}};

/// Letters of Latin-1 that LaTeX has in its oldest fonts.
bool is_known_letter(char32_t character) {
  const bool foreign = character == U'Ð' || character == U'ð' || character == U'Þ' || character == U'þ';
  return character >= U'À' && character <= U'ÿ' && character != U'÷' && !foreign;
}

/// The character at `at`, which moves behind it; U+FFFD for bytes that are no UTF-8.
char32_t next_character(const std::string& text, std::size_t& at) {
  const auto lead = static_cast<unsigned char>(text[at++]);
  if (lead < 0x80) return lead;
  const std::size_t more = lead >= 0xF0 ? 3 : lead >= 0xE0 ? 2 : lead >= 0xC0 ? 1 : 0;
  if (more == 0 || at + more > text.size()) return U'\uFFFD';
  char32_t character = lead & (0x3FU >> more);
  for (std::size_t i = 0; i < more; ++i) {
    const auto byte = static_cast<unsigned char>(text[at]);
    if ((byte & 0xC0U) != 0x80) return U'\uFFFD';
    character = character << 6U | (byte & 0x3FU);
    ++at;
  }
  return character;
}

/// A number with its error small beside it, and a minus that is as wide as a plus.
std::string value_text(const std::string& text) {
  const std::size_t error = text.find(" ±");
  const std::string value = text.substr(0, error);
  const std::string shown =
      value.size() > 1 && value.front() == '-' ? "$-$" + latex_text(value.substr(1)) : latex_text(value);
  if (error == std::string::npos) return shown;
  return cat(shown, "{\\scriptsize$\\,\\pm$", latex_text(text.substr(error + std::string(" ±").size())), "}");
}

/// "who_has_what %" in lines, one below the other.
std::string heading_text(const std::string& text, bool left) {
  if (display_width(text) <= kLongWord) return latex_text(text);
  Texts lines = {""};
  for (std::size_t begin = 0; begin < text.size();) {
    const std::size_t end = std::min(text.find_first_of("_ ", begin), text.size() - 1);
    const std::string word = text.substr(begin, end + 1 - begin);
    const bool fits = lines.back().size() + word.size() <= kLongWord || word.size() <= 2;
    if (!lines.back().empty() && !fits) lines.emplace_back();
    lines.back() += word;
    begin = end + 1;
  }
  std::string shown;
  for (std::string& line : lines) {
    while (!line.empty() && line.back() == ' ') line.pop_back();
    shown += cat(shown.empty() ? "" : "\\\\", latex_text(line));
  }
  return cat("\\shortstack[", left ? "l" : "r", "]{", shown, "}");
}

/// What a document shows: columns without those keys that all rows share, which go to the caption.
struct Layout {
  std::vector<std::size_t> columns;  ///< of the table's texts
  std::string alignment, shared;
};

Layout lay_out(const Table& table, const std::vector<Texts>& rows) {
  const Texts heads = headings(table);
  const std::size_t first_key = table.has_paper ? 1 : 0, runs = first_key + table.keys.size();
  Layout layout;
  for (std::size_t i = 0; i < heads.size(); ++i) {
    const bool may_go = i >= first_key && i <= runs && rows.size() > 1 && !(i < runs && table.keys.size() == 1);
    const bool same =
        may_go && std::all_of(rows.begin(), rows.end(), [&](const Texts& row) { return row[i] == rows[0][i]; });
    if (same) {
      if (!rows[0][i].empty()) layout.shared += cat(layout.shared.empty() ? "" : ", ", heads[i], " ", rows[0][i]);
      continue;
    }
    layout.columns.push_back(i);
    const bool text = i < first_key || (i < runs && !table.keys[i - first_key].number);
    layout.alignment += text ? 'l' : 'r';
  }
  return layout;
}

void write_part(const Table& table, const std::vector<Texts>& rows, const Layout& layout, std::size_t begin,
                std::size_t end, std::ostream& out) {
  const Texts heads = headings(table);
  const std::size_t first_value = (table.has_paper ? 1 : 0) + table.keys.size() + 1;
  const auto write_line = [&](const auto& text_at) {
    for (std::size_t n = 0; n < layout.columns.size(); ++n) out << (n > 0 ? " & " : "") << text_at(layout.columns[n]);
    out << " \\\\\n";
  };
  out << "\\sbox0{\\begin{tabular}{" << layout.alignment << "}\n\\toprule\n";
  std::size_t column = 0;
  write_line([&](std::size_t i) { return heading_text(heads[i], layout.alignment[column++] == 'l'); });
  out << "\\midrule\n";
  for (std::size_t row = begin; row < end; ++row) {
    write_line([&](std::size_t i) {
      if (i < first_value) return latex_text(rows[row][i]);
      const auto& value = table.rows[row].values[i - first_value];
      const std::string text = value_text(rows[row][i]);
      return value && value->best ? cat("\\textbf{", text, "}") : text;
    });
  }
  out << "\\bottomrule\n\\end{tabular}}%\n"
         "\\ifdim\\wd0>1.6\\linewidth\n"
         "\\rotatebox{90}{\\ifdim\\wd0>.82\\textheight\\resizebox{.82\\textheight}{!}{\\usebox0}\\else\\usebox0\\fi}\n"
         "\\else\\ifdim\\wd0>\\linewidth\\resizebox{\\linewidth}{!}{\\usebox0}\\else\\usebox0\\fi\\fi\n";
}

}  // namespace

std::string latex_text(const std::string& text) {
  std::string result;
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t begin = at;
    const char32_t character = next_character(text, at);
    if (character < 0x80) {
      const auto found = kSpecial.find(static_cast<char>(character));
      if (found != kSpecial.end()) {
        result += found->second;
      } else if (character >= 0x20 && character != 0x7F) {
        // "--" would become one dash.
        result += character == '-' && !result.empty() && result.back() == '-'
                      ? "{}-"
                      : std::string(1, static_cast<char>(character));
      }
      continue;
    }
    const auto known = kSymbols.find(character);
    if (known != kSymbols.end()) {
      result += known->second;
    } else if (is_known_letter(character)) {
      result += text.substr(begin, at - begin);
    } else {
      result += fmt::format("{{\\ttfamily U+{:04X}}}", static_cast<std::uint32_t>(character));
    }
  }
  return result;
}

void write_latex(const Table& table, std::ostream& out) {
  std::vector<Texts> rows;
  for (const TableRow& row : table.rows) rows.push_back(row_texts(table, row));
  const Layout layout = lay_out(table, rows);
  out << kPreamble;
  const std::size_t parts = std::max<std::size_t>(1, (rows.size() + kRowsOfAPage - 1) / kRowsOfAPage);
  const std::size_t of_a_part = (rows.size() + parts - 1) / parts;
  for (std::size_t part = 0; part < parts; ++part) {
    const std::size_t begin = part * of_a_part, end = std::min(begin + of_a_part, rows.size());
    out << "\\begin{table}[p]\n\\centering\\footnotesize\\setlength{\\tabcolsep}{4pt}\n";
    std::string caption = table.title;
    if (begin > 0) caption += caption.empty() ? "continued" : " (continued)";
    if (begin == 0 && !layout.shared.empty()) caption += cat(caption.empty() ? "" : ". ", "All rows: ", layout.shared);
    if (!caption.empty()) out << "\\caption{" << latex_text(caption) << "}\n";
    write_part(table, rows, layout, begin, end, out);
    if (end == rows.size()) {
      out << "\\par\\smallskip\\parbox{\\linewidth}{\\raggedright\\scriptsize\n";
      for (const std::string& line : footnotes(table)) {
        // Paths of records are for the file's reader; their count stands under the table.
        out << (line.starts_with("left out: ") ? "% " : "") << latex_text(line)
            << (line.starts_with("left out: ") ? "\n" : ".\\par\n");
      }
      out << "}\n";
    }
    out << "\\end{table}\n";
  }
}

}  // namespace mla
