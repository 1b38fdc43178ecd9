// A table as LaTeX.
#pragma once

#include <ostream>
#include <string>

#include "analysis/tables/table.h"

namespace mla {

/// Writes table environments of at most a page each, shrunk where they are wider than the line and turned where much
/// wider. Needs the package graphicx; with booktabs the rules are better ones. Keys that are the same in all rows stand
/// in the caption.
void write_latex(const Table& table, std::ostream& out);

/// Any UTF-8 text as LaTeX shows it: special characters escaped, characters that pdflatex does not know by their
/// number.
std::string latex_text(const std::string& text);

}  // namespace mla
