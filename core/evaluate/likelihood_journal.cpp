#include "core/evaluate/likelihood_journal.h"

#include <cstdlib>
#include <sstream>

#include "core/base/error.h"
#include "core/base/file.h"
#include "core/base/hash.h"

namespace mla {
namespace {

/// The numbers of a whole line; empty for one that is cut short or damaged.
std::vector<double> parse_line(const std::string& line) {
  std::istringstream words(line);
  std::size_t count = 0;
  if (!(words >> count)) return {};
  std::vector<double> values;
  for (std::string word; words >> word;) {
    char* end = nullptr;
    values.push_back(std::strtod(word.c_str(), &end));
    if (*end != '\0') return {};
  }
  return values.size() == count ? values : std::vector<double>();
}

/// The scores of a batch in the order of its rows: visit(sum, flag or null).
template <class Result, class Visit>
void visit_scores(std::span<const ContinuationRow> batch, Result& result, const Visit& visit) {
  for (const ContinuationRow& row : batch) {
    for (const ScoredContinuation& scored : row.scored) {
      visit(result.sum[scored.group][scored.choice],
            result.greedy.empty() ? nullptr : &result.greedy[scored.group][scored.choice]);
    }
  }
}

}  // namespace

LikelihoodJournal::LikelihoodJournal(std::filesystem::path file, const std::string& key) : path_(std::move(file)) {
  std::string kept = key + "\n";
  if (std::filesystem::exists(path_)) {
    std::istringstream lines(read_file(path_));
    std::string line;
    if (std::getline(lines, line) && line == key) {
      while (std::getline(lines, line)) {
        std::vector<double> values = parse_line(line);
        if (values.empty() || lines.eof()) break;  // a whole line ends with a line break
        known_.push_back(std::move(values));
        kept += line + "\n";
      }
    }
  }
  write_file_atomically(path_, kept);
  file_.reset(std::fopen(path_.c_str(), "ab"));
  if (!file_) throw DataError(cat(path_.string(), ": cannot be written"));
}

bool LikelihoodJournal::restore(std::span<const ContinuationRow> batch, LikelihoodResult& result) {
  if (next_ >= known_.size()) return false;
  std::size_t scores = 0;
  visit_scores(batch, result, [&](double&, char* flag) { scores += flag ? 2 : 1; });
  const std::vector<double>& values = known_[next_];
  if (values.size() != scores) {
    known_.resize(next_);
    return false;
  }
  auto value = values.begin();
  visit_scores(batch, result, [&](double& sum, char* flag) {
    sum = *value++;
    if (flag) *flag = static_cast<char>(*value++ != 0);
  });
  ++next_;
  ++restored_;
  return true;
}

void LikelihoodJournal::keep(std::span<const ContinuationRow> batch, const LikelihoodResult& result) {
  std::string values;
  std::size_t count = 0;
  visit_scores(batch, result, [&](const double& sum, const char* flag) {
    char text[40];
    std::snprintf(text, sizeof text, " %a", sum);
    values += text;
    if (flag) values += *flag ? " 1" : " 0";
    count += flag ? 2 : 1;
  });
  const std::string line = cat(count, values, "\n");
  if (std::fwrite(line.data(), 1, line.size(), file_.get()) != line.size() || std::fflush(file_.get()) != 0) {
    throw DataError(cat(path_.string(), ": cannot be written"));
  }
}

std::string requests_key(const std::vector<ContinuationGroup>& groups, const LikelihoodOptions& options) {
  Hasher hasher;
  const auto add = [&](const auto& value) { hasher.update({reinterpret_cast<const char*>(&value), sizeof value}); };
  add(options.batch_tokens);
  add(options.share_contexts);
  add(options.greedy);
  add(options.positions);
  for (const ContinuationGroup& group : groups) {
    add(group.size());
    for (const Continuation& continuation : group) {
      add(continuation.context);
      add(continuation.tokens.size());
      hasher.update({reinterpret_cast<const char*>(continuation.tokens.data()),
                     continuation.tokens.size() * sizeof(std::int32_t)});
    }
  }
  return hasher.digest();
}

}  // namespace mla
