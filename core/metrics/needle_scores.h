// Scores of answers to RULER's (arXiv 2404.06654) and LongEval's questions, 0 to 1. All texts are valid UTF-8.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace mla {

/// The share of the references that the answer contains, whatever the case (RULER: string_match_all). 0 of none.
double contained_share(const std::string& answer, const std::vector<std::string>& references);

/// 1 where the answer contains one of them, whatever the case (RULER: string_match_part, for questions with several
/// right answers).
double contains_any(const std::string& answer, const std::vector<std::string>& references);

/// 1 where the last number of the answer, a run of digits, is this one (LongEval's lines).
double ends_with_number(const std::string& answer, std::int64_t number);

/// 1 where the answer names the topic: contains its words, whatever the case, the punctuation and the spaces. (LongEval
/// has a language model judge its topics, which takes paraphrases, too.)
double names_topic(const std::string& answer, const std::string& topic);

}  // namespace mla
