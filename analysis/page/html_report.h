// One page that holds everything of a results folder, opens offline, and needs no other file.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

namespace mla {

struct HtmlReport {
  std::string html;
  std::vector<std::string> notes;  ///< figures that could not be drawn, and why
};

/// Summary, tables, figures, cells with config and provenance, failures. Figures need gnuplot; without it the page says
/// so.
HtmlReport make_html_report(const std::vector<std::filesystem::path>& paths, const std::string& title);

}  // namespace mla
