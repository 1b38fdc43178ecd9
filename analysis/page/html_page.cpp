#include "analysis/page/html_page.h"

#include <fmt/format.h>

#include "core/base/error.h"

namespace mla {
namespace {

constexpr const char* kStyle = R"css(
:root { --ink: #1d2329; --soft: #5d6670; --line: #d9dee3; --accent: #0b5c8a; }
* { box-sizing: border-box; }
body {
  margin: 0 auto; max-width: 1180px; padding: 24px; font: 15px/1.5 system-ui, "DejaVu Sans", sans-serif;
  color: var(--ink); background: #fff;
}
h1 { font-size: 26px; margin: 0 0 4px; }
h2 { font-size: 20px; margin: 40px 0 10px; border-bottom: 1px solid var(--line); padding-bottom: 4px; }
h3 { font-size: 16px; margin: 24px 0 8px; }
nav a { margin-right: 16px; color: var(--accent); } p.soft, figcaption, .notes { color: var(--soft); font-size: 13px; }
.scroll { overflow-x: auto; border: 1px solid var(--line); border-radius: 6px; max-height: 640px; overflow-y: auto; }
table { border-collapse: collapse; font-size: 13px; width: 100%; font-variant-numeric: tabular-nums; }
th, td { padding: 5px 10px; text-align: left; white-space: nowrap; border-bottom: 1px solid #eef1f3; }
th { background: #f4f6f8; position: sticky; top: 0; cursor: pointer; user-select: none; }
th:hover { color: var(--accent); } th[data-order="1"]::after { content: " \25B2"; }
th[data-order="-1"]::after { content: " \25BC"; }
td.n, th.n { text-align: right; } td.best { font-weight: 700; } tr.paper td { color: var(--soft); }
tr.difference td { color: var(--soft); font-style: italic; }
tbody tr:hover td { background: #f8fafc; } tr.cell { cursor: pointer; }
figure { margin: 24px 0; }
figure img { max-width: 100%; height: auto; border: 1px solid var(--line); border-radius: 6px; }
.cards { display: flex; flex-wrap: wrap; gap: 12px; margin: 16px 0; }
.card { border: 1px solid var(--line); border-radius: 6px; padding: 10px 16px; min-width: 110px; }
.card b { display: block; font-size: 22px; }
.bad { color: #9a2a00; }
input {
  font: inherit; padding: 6px 10px; width: 320px; max-width: 100%; border: 1px solid var(--line);
  border-radius: 6px; margin-bottom: 8px;
}
pre {
  background: #f4f6f8; padding: 12px; border-radius: 6px; font-size: 12px; overflow: auto; max-height: 420px;
  white-space: pre-wrap;
}
tr.details td { white-space: normal; background: #fbfcfd; }
@media print {
  body { max-width: none; padding: 0; } .scroll { max-height: none; overflow: visible; }
  nav, input { display: none; }
}
)css";

constexpr const char* kScript = R"js(
"use strict";
const number = text => /^[+-]?(\d[\d.]*(?:e[+-]?\d+)?)/i.test(text) ? parseFloat(text) : null;
for (const head of document.querySelectorAll("th")) head.addEventListener("click", () => {
  const table = head.closest("table"), body = table.tBodies[0], column = [...head.parentNode.children].indexOf(head);
  for (const open of body.querySelectorAll("tr.details")) open.remove();
  const order = head.dataset.order === "1" ? -1 : 1;
  for (const other of head.parentNode.children) delete other.dataset.order;
  head.dataset.order = order;
  const key = row => { const text = row.cells[column].textContent.trim(); return [text, number(text)]; };
  // The paper's rows that are compared with ours, and the differences, stay behind ours.
  const blocks = [];
  for (const row of [...body.rows]) {
    const next = row.nextElementSibling, compared = next && next.className === "difference";
    const follows = row.className === "difference" || (row.className === "paper" && compared);
    if (follows && blocks.length) blocks[blocks.length - 1].push(row); else blocks.push([row]);
  }
  const keyed = blocks.map(block => [key(block[0]), block]);
  keyed.sort(([[a, x]], [[b, y]]) => {
    if ((a === "") !== (b === "")) return a === "" ? 1 : -1;
    return order * (x !== null && y !== null ? x - y : a.localeCompare(b, undefined, {numeric: true}));
  });
  body.append(...keyed.flatMap(([, block]) => block));
});
const store = document.getElementById("cells-data") && JSON.parse(document.getElementById("cells-data").textContent);
const setAt = (config, path, value) => {
  const parts = path.match(/[^.\[\]]+|\[\d+\]/g);
  let at = config;
  parts.forEach((part, i) => {
    const key = part[0] === "[" ? Number(part.slice(1, -1)) : part;
    if (i === parts.length - 1) at[key] = value; else at = at[key] ?? (at[key] = parts[i + 1][0] === "[" ? [] : {});
  });
};
for (const row of document.querySelectorAll("tr.cell")) row.addEventListener("click", () => {
  const next = row.nextElementSibling;
  if (next && next.classList.contains("details")) return next.remove();
  const cell = store.cells[Number(row.dataset.cell)], config = structuredClone(store.configs[cell.config]);
  for (const [path, value] of Object.entries(cell.overrides)) setAt(config, path, value);
  const details = row.parentNode.insertRow(row.sectionRowIndex + 1), place = details.insertCell();
  details.className = "details"; place.colSpan = row.cells.length;
  const provenance = Object.assign({}, store.provenances[cell.provenance], cell.own);
  const parts = {"what distinguishes it": cell.overrides, "seconds": cell.seconds, provenance, config};
  for (const [name, value] of Object.entries(parts)) {
    const head = document.createElement("h3"), text = document.createElement("pre");
    head.textContent = name; text.textContent = JSON.stringify(value, null, 2); place.append(head, text);
  }
});
const filter = document.getElementById("filter");
if (filter) filter.addEventListener("input", () => {
  const words = filter.value.toLowerCase().split(/\s+/).filter(Boolean);
  for (const row of document.querySelectorAll("tr.cell")) {
    const text = row.textContent.toLowerCase();
    row.hidden = !words.every(word => text.includes(word));
  }
});
)js";

}  // namespace

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
  std::string html = "<div class=\"scroll\"><table><thead><tr>";
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
  return html + "bold: best of the column; a click on a heading sorts</div>\n";
}

std::string html_table(const std::vector<std::string>& heads, const std::vector<std::vector<std::string>>& rows,
                       std::size_t numbers_from) {
  std::string html = "<div class=\"scroll\"><table><thead><tr>";
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
      "content=\"width=device-width\">\n<title>",
      html_text(title), "</title>\n<style>", kStyle, "</style>\n</head>\n<body>\n", body, "<script>", kScript,
      "</script>\n</body>\n</html>\n");
}

}  // namespace mla
