// The parts of a page that do not depend on what it shows.
#pragma once

#include <string>

#include "analysis/tables/table.h"

namespace mla {

std::string html_text(const std::string& text);
/// A table whose headings sort it.
std::string html_table(const Table& table);
/// The same of plain texts; `numbers_from` is the first column of numbers.
std::string html_table(const std::vector<std::string>& heads, const std::vector<std::vector<std::string>>& rows,
                       std::size_t numbers_from);
std::string base64(const std::string& bytes);
/// JSON that may stand within <script>.
std::string script_json(const Json& json);
/// The page: its head with the style, `body`, and the script that sorts, filters and opens cells.
std::string html_page(const std::string& title, const std::string& body);

}  // namespace mla
