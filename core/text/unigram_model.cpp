#include "core/text/unigram_model.h"

#include <algorithm>
#include <limits>

#include "core/base/error.h"
#include "core/text/bpe_model.h"
#include "core/text/utf8.h"

namespace mla {
namespace {

constexpr double kUnknownPenalty = 10.0;  // As sentencepiece: an unknown character is that much below the worst piece.

}  // namespace

UnigramModel::UnigramModel(UnigramRules rules) : rules_(std::move(rules)), nodes_(1) {
  double lowest = std::numeric_limits<double>::infinity();
  ids_.reserve(rules_.pieces.size());
  for (std::size_t id = 0; id < rules_.pieces.size(); ++id) {
    const auto& [spelling, score] = rules_.pieces[id];
    lowest = std::min(lowest, score);
    ids_.insert_or_assign(spelling, static_cast<std::int32_t>(id));
    if (!spelling.empty()) insert(spelling, static_cast<std::int32_t>(id));
  }
  unknown_score_ = lowest - kUnknownPenalty;
  for (int byte = 0; byte < 256; ++byte) {
    const auto found = ids_.find(byte_token(static_cast<unsigned char>(byte)));
    byte_tokens_[static_cast<std::size_t>(byte)] = found == ids_.end() ? -1 : found->second;
  }
}

std::uint32_t UnigramModel::child(std::uint32_t node, char byte) const {
  if (node == 0) return first_[static_cast<unsigned char>(byte)];
  std::uint32_t next = nodes_[node].first_child;
  while (next != 0 && nodes_[next].byte != byte) next = nodes_[next].next_sibling;
  return next;
}

void UnigramModel::insert(std::string_view spelling, std::int32_t id) {
  std::uint32_t node = 0;
  for (const char byte : spelling) {
    std::uint32_t next = child(node, byte);
    if (next == 0) {
      next = static_cast<std::uint32_t>(nodes_.size());
      nodes_.push_back({0, nodes_[node].first_child, -1, byte});
      nodes_[node].first_child = next;
      if (node == 0) first_[static_cast<unsigned char>(byte)] = next;
    }
    node = next;
  }
  nodes_[node].id = id;
}

void UnigramModel::refuse(std::string_view part) {
  throw DataError(cat("the tokenizer has no piece for '", for_message(part), "' and no unknown token (unk_id)"));
}

std::vector<UnigramModel::Step> UnigramModel::best_steps(std::string_view word) const {
  std::vector<Step> steps(word.size() + 1);
  const auto reach = [&](std::size_t begin, std::size_t end, double score, std::int32_t id) {
    Step& step = steps[end];
    const double sum = score + steps[begin].score;
    if (step.begin == SIZE_MAX || sum > step.score) step = {sum, begin, id};
  };
  for (std::size_t begin = 0; begin < word.size();) {
    const std::size_t size = utf8_size(word[begin]);
    bool covered = false;  // By a piece of this one character.
    std::uint32_t node = 0;
    for (std::size_t at = begin; at < word.size(); ++at) {
      node = child(node, word[at]);
      if (node == 0) break;
      const std::int32_t id = nodes_[node].id;
      if (id < 0) continue;
      reach(begin, at + 1, rules_.pieces[static_cast<std::size_t>(id)].second, id);
      covered |= at + 1 == begin + size;
    }
    if (!covered) {
      if (!rules_.unknown) refuse(word.substr(begin, size));
      reach(begin, begin + size, unknown_score_, *rules_.unknown);
    }
    begin += size;
  }
  return steps;
}

void UnigramModel::append(std::string_view part, std::int32_t id, std::vector<std::int32_t>& ids) const {
  if (id != rules_.unknown) return ids.push_back(id);
  if (const auto known = ids_.find(part); known != ids_.end()) return ids.push_back(known->second);
  const auto token_of = [this](char byte) { return byte_tokens_[static_cast<unsigned char>(byte)]; };
  const bool in_bytes =
      rules_.byte_fallback && std::all_of(part.begin(), part.end(), [&](char byte) { return token_of(byte) >= 0; });
  if (!in_bytes) return ids.push_back(id);
  for (const char byte : part) ids.push_back(token_of(byte));
}

void UnigramModel::encode(std::string_view word, std::vector<std::int32_t>& ids) const {
  if (word.empty()) return;
  const std::vector<Step> steps = best_steps(word);
  struct Part {
    std::size_t begin, end;
    std::int32_t id;
  };
  std::vector<Part> parts;  // From the end.
  for (std::size_t end = word.size(); end > 0; end = steps[end].begin) {
    const Step& step = steps[end];
    if (!parts.empty() && step.id == rules_.unknown && parts.back().id == step.id) {
      parts.back().begin = step.begin;
    } else {
      parts.push_back({step.begin, end, step.id});
    }
  }
  for (auto part = parts.rbegin(); part != parts.rend(); ++part) {
    append(word.substr(part->begin, part->end - part->begin), part->id, ids);
  }
}

}  // namespace mla
