// ROUGE-L of whole texts.
#pragma once

#include <string>

namespace mla {

/// F of summary-level ROUGE-L (Lin 2004) as the Python package `rouge` 1.0.1 computes it, which LongBench uses:
/// sentences end at full stops, words are counted once however often they occur, and the denominator has 1e-8 added.
/// Words are what white space separates. 0 where either text holds nothing but full stops.
double rouge_l(const std::string& prediction, const std::string& reference);

}  // namespace mla
