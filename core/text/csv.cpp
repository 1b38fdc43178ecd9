#include "core/text/csv.h"

#include "core/base/error.h"

namespace mla {

std::vector<CsvRecord> parse_csv(const std::string& text, const std::string& name) {
  std::vector<CsvRecord> records;
  std::int64_t line = 1;
  for (std::size_t at = 0; at < text.size();) {
    CsvRecord record{line, {""}};
    bool quoted = false;
    for (; at < text.size(); ++at) {
      const char letter = text[at];
      line += letter == '\n';
      if (quoted && letter == '"' && at + 1 < text.size() && text[at + 1] == '"') {
        record.cells.back() += text[++at];
      } else if (letter == '"' && (quoted || record.cells.back().empty())) {
        quoted = !quoted;
      } else if (quoted || (letter != ',' && letter != '\n' && letter != '\r')) {
        record.cells.back() += letter;
      } else if (letter == ',') {
        record.cells.emplace_back();
      } else if (letter == '\n') {
        break;
      }
    }
    if (quoted) throw DataError(cat(name, ": line ", record.line, ": a quoted cell is never closed"));
    ++at;
    if (record.cells.size() > 1 || !record.cells[0].empty()) records.push_back(std::move(record));
  }
  return records;
}

}  // namespace mla
