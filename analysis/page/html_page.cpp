#include "analysis/page/html_page.h"

#include <fmt/format.h>

#include "core/base/error.h"
#include "mla_page_files.h"

namespace mla {

std::string html_text(const std::string& text) {
  std::string safe;
  for (const char c : text) {
    switch (c) {
      case '&':
        safe += "&amp;";
        break;
      case '<':
        safe += "&lt;";
        break;
      case '>':
        safe += "&gt;";
        break;
      case '"':
        safe += "&quot;";
        break;
      default:
        safe += c;
    }
  }
  return safe;
}

std::string html_table(const Table& table) {
  const std::vector<std::string> heads = headings(table);
  const std::size_t shift = table.has_paper ? 1 : 0, first_value = table.keys.size() + 1 + shift;
  const auto is_number = [&](std::size_t i) {
    return i >= shift + table.keys.size() || (i >= shift && table.keys[i - shift].number);
  };
  std::string html = "<div class=\"scroll\" tabindex=\"0\" role=\"region\" aria-label=\"table\"><table><thead><tr>";
  for (std::size_t i = 0; i < heads.size(); ++i)
    html += fmt::format("<th{}>{}</th>", is_number(i) ? " class=\"n\"" : "", html_text(heads[i]));
  html += "</tr></thead><tbody>\n";
  for (const TableRow& row : table.rows) {
    html += row.origin == RowOrigin::kOurs ? "<tr>" : fmt::format("<tr class=\"{}\">", origin_name(row.origin));
    const std::vector<std::string> texts = row_texts(table, row);
    for (std::size_t i = 0; i < texts.size(); ++i) {
      const bool best = i >= first_value && row.values[i - first_value] && row.values[i - first_value]->best;
      html +=
          fmt::format("<td class=\"{}{}\">{}</td>", is_number(i) ? "n" : "", best ? " best" : "", html_text(texts[i]));
    }
    html += "</tr>\n";
  }
  html += "</tbody></table></div>\n<div class=\"notes\">";
  for (const std::string& line : footnotes(table)) html += html_text(line) + "<br>\n";
  return html + "bold: best of the column; a heading sorts by a click or Enter</div>\n";
}

std::string html_table(const std::vector<std::string>& heads, const std::vector<std::vector<std::string>>& rows,
                       std::size_t numbers_from) {
  std::string html = "<div class=\"scroll\" tabindex=\"0\" role=\"region\" aria-label=\"table\"><table><thead><tr>";
  for (std::size_t i = 0; i < heads.size(); ++i)
    html += fmt::format("<th{}>{}</th>", i >= numbers_from ? " class=\"n\"" : "", html_text(heads[i]));
  html += "</tr></thead><tbody>\n";
  for (const auto& row : rows) {
    html += "<tr>";
    for (std::size_t i = 0; i < row.size(); ++i)
      html += fmt::format("<td{}>{}</td>", i >= numbers_from ? " class=\"n\"" : "", html_text(row[i]));
    html += "</tr>\n";
  }
  return html + "</tbody></table></div>\n";
}

std::string base64(const std::string& bytes) {
  constexpr const char* kDigits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string text;
  for (std::size_t i = 0; i < bytes.size(); i += 3) {
    unsigned word = 0;
    for (std::size_t j = 0; j < 3; ++j)
      word = word << 8 | (i + j < bytes.size() ? static_cast<unsigned char>(bytes[i + j]) : 0U);
    for (std::size_t j = 0; j < 4; ++j) text += i + j > bytes.size() ? '=' : kDigits[word >> (18 - 6 * j) & 63U];
  }
  return text;
}

std::string script_json(const Json& json) {
  std::string text = json.dump(-1, ' ', false, Json::error_handler_t::replace);
  for (std::size_t at = text.find('<'); at != std::string::npos; at = text.find('<', at))
    text.replace(at, 1, "\\u003c");
  return text;
}

std::string html_page(const std::string& title, const std::string& body) {
  return cat(
      "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<meta name=\"viewport\" "
      "content=\"width=device-width\">\n<meta name=\"color-scheme\" content=\"light dark\">\n<title>",
      html_text(title), "</title>\n<style>", kPageStyle,
      "</style>\n</head>\n<body>\n<a class=\"skip\" href=\"#main\">to the content</a>\n<main id=\"main\">\n", body,
      "</main>\n<script>", kPageScript, "</script>\n</body>\n</html>\n");
}

}  // namespace mla
