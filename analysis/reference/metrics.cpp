#include "analysis/reference/metrics.h"

#include <regex>

namespace mla {

const std::vector<MetricHelp>& metric_helps() {
  static const std::vector<MetricHelp> all = {
      {"nll", "perplexity", "nats per token", false, "mean negative log-likelihood of the tokens that are predicted"},
      {"perplexity", "perplexity, multiple_choice", "", false,
       "exp of the mean nll; of items with one continuation each: of its tokens"},
      {"bits_per_byte", "perplexity", "bits per byte", false,
       "the same per byte of text: comparable across tokenizers"},
      {"nll_BUCKET", "perplexity, distance", "nats per token", false,
       "nll of tokens with so many before them: `buckets` of the evaluation"},
      {"skipped_lines", "perplexity", "lines of the text left out as bad", false, "under documents.skip_bad_lines"},
      {"accuracy", "multiple_choice", "share of items", true, "items whose likeliest choice is the right one"},
      {"accuracy_normalized", "multiple_choice", "share of items", true,
       "the same by log-likelihood per character (lighteval's acc_norm)"},
      {"accuracy_per_byte", "multiple_choice", "share of items", true,
       "the same per byte (lm-evaluation-harness's acc_norm)"},
      {"accuracy_greedy", "multiple_choice", "share of items", true, "items whose right choice greedy decoding writes"},
      {"ACCURACY.GROUP", "multiple_choice", "share of items", true,
       "an accuracy of the items of one group (`group_by`)"},
      {"log_likelihood", "multiple_choice", "nats per choice", true, "of every choice of every item"},
      {"choice_characters", "multiple_choice", "characters", true, "length of every choice; of the source model only"},
      {"choice_bytes", "multiple_choice", "bytes", true, "likewise"},
      {"choice_tokens", "multiple_choice", "tokens", true, "likewise"},
      {"truncated_contexts", "multiple_choice", "choices", false, "contexts cut to the model's positions"},
      {"flip_rate", "multiple_choice", "share of items", false,
       "items that the source model answers otherwise, by raw accuracy"},
      {"flip_rate_KIND", "multiple_choice", "share of items", false, "the same by accuracy_KIND"},
      {"kl_mean", "distance", "nats per token", false, "KL divergence from the source model's predictions, mean"},
      {"kl_median", "distance", "nats per token", false, "its median over tokens"},
      {"kl_90", "distance", "nats per token", false, "its 90 % quantile"},
      {"kl_99", "distance", "nats per token", false, "its 99 % quantile"},
      {"kl_BUCKET", "distance", "nats per token", false, "its mean for tokens with so many before them"},
      {"top1_agreement", "distance", "share of tokens", true, "tokens whose likeliest continuation is the source's"},
      {"nll_difference", "distance", "nats per token", false, "nll less the source's"},
      {"perplexity_ratio", "distance", "", false, "perplexity over the source's"},
      {"exact", "recall", "share of items", true, "items whose answer greedy decoding writes"},
      {"choice", "recall", "share of items", true, "items whose right answer is the likeliest of `choices`"},
      {"answer_nll", "recall", "nats per answer", false, "negative log-likelihood of the right answer"},
      {"MEASURE_LENGTH", "recall", "", true, "exact, choice or answer_nll of contexts of one length"},
      {"MEASURE_LENGTH_at_DEPTH", "recall", "", true, "the same with the answer at one depth, in percent"},
      {"answer_changes", "recall", "share of items", false, "items that the source model answers otherwise"},
      {"score", "longbench, longeval, ruler, mean", "0..1", true,
       "the task's own metric, or the mean of others' scores"},
      {"score_english", "longbench", "0..1", true, "mean of the 16 English and code tasks"},
      {"too_long", "longeval, ruler", "questions", false, "questions left out: longer than max_tokens"},
      {"ms_per_token", "speed", "ms", false, "median time of a decoding step"}};
  return all;
}

bool is_named(const std::string& metric, const MetricHelp& help) {
  std::string pattern = std::regex_replace(help.name, std::regex("\\."), "\\.");
  pattern = std::regex_replace(pattern, std::regex("[A-Z]+"), ".+");
  return std::regex_match(metric, std::regex(pattern));
}

}  // namespace mla
