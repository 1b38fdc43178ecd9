// Similarity of two strings by their matching blocks.
#pragma once

#include <string>

namespace mla {

/// 2 M / T with M the characters in matching blocks and T the characters of both (Ratcliff and Obershelp), as Python's
/// difflib.SequenceMatcher(None, a, b).ratio() computes it. That takes the longest block first, the earliest among
/// equal ones, then goes on left and right of it; and a `b` of 200 characters or more does not begin blocks with
/// characters that make up more than 1 % of it. So the result depends on the order of the two. 1 for two empty strings.
double matching_ratio(const std::u32string& a, const std::u32string& b);

/// fuzz.ratio of the Python package fuzzywuzzy 0.18 without its C extension: matching_ratio in whole percent, half to
/// even; 100 for equal strings, 0 where one of two different strings is empty.
int fuzzy_percent(const std::u32string& a, const std::u32string& b);

}  // namespace mla
