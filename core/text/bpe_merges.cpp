#include "core/text/bpe_merges.h"

#include <algorithm>
#include <bit>
#include <functional>
#include <map>

#include "core/base/error.h"

namespace mla {
namespace {

constexpr std::uint64_t kEmpty = UINT64_MAX;
constexpr std::uint32_t kEnd = UINT32_MAX;

std::uint64_t pair_of(std::int32_t left, std::int32_t right) {
  return static_cast<std::uint64_t>(static_cast<std::uint32_t>(left)) << 32 | static_cast<std::uint32_t>(right);
}

std::uint64_t slot_of(std::uint64_t pair) {
  pair *= 0x9E3779B97F4A7C15u;
  return pair ^ pair >> 32;
}

template <class RankOf>
std::vector<Merge> merges_of_all_splits(const Vocabulary& vocabulary, RankOf rank_of) {
  std::vector<Merge> merges;
  for (const auto& [spelling, id] : vocabulary) {
    const std::string_view whole = spelling;
    for (std::size_t cut = 1; cut < whole.size(); ++cut) {
      const auto left = vocabulary.find(whole.substr(0, cut));
      if (left == vocabulary.end()) continue;
      const auto right = vocabulary.find(whole.substr(cut));
      if (right != vocabulary.end()) merges.push_back({left->second, right->second, id, rank_of(id)});
    }
  }
  return merges;
}

}  // namespace

std::vector<Merge> merges_by_id(const Vocabulary& vocabulary) {
  return merges_of_all_splits(vocabulary, [](std::int32_t id) { return static_cast<std::uint32_t>(id); });
}

std::vector<Merge> merges_by_score(const Vocabulary& vocabulary, const std::vector<float>& scores) {
  std::map<float, std::uint32_t, std::greater<>> rank_of_score;
  for (const float score : scores) rank_of_score.emplace(score, 0);
  std::uint32_t next = 0;
  for (auto& [score, rank] : rank_of_score) rank = next++;
  return merges_of_all_splits(
      vocabulary, [&](std::int32_t id) { return rank_of_score.at(scores.at(static_cast<std::size_t>(id))); });
}

MergeTable::MergeTable(const std::vector<Merge>& merges)
    : slots_(std::bit_ceil(merges.size() * 2 + 2), Slot{kEmpty, {kNone, -1}}), mask_(slots_.size() - 1) {
  for (const Merge& merge : merges) {
    const std::uint64_t pair = pair_of(merge.left, merge.right);
    std::uint64_t at = slot_of(pair) & mask_;
    while (slots_[at].pair != kEmpty && slots_[at].pair != pair) at = (at + 1) & mask_;
    slots_[at] = {pair, {merge.rank, merge.result}};
  }
}

MergeTable::Found MergeTable::find(std::int32_t left, std::int32_t right) const {
  const std::uint64_t pair = pair_of(left, right);
  std::uint64_t at = slot_of(pair) & mask_;
  while (slots_[at].pair != pair) {
    if (slots_[at].pair == kEmpty) return {kNone, -1};
    at = (at + 1) & mask_;
  }
  return slots_[at].merge;
}

void Merger::find_merge(const MergeTable& table, std::uint32_t at) {
  Node& node = nodes_[at];
  node.merge =
      node.next == kEnd ? MergeTable::Found{MergeTable::kNone, -1} : table.find(node.symbol, nodes_[node.next].symbol);
  if (node.merge.rank != MergeTable::kNone) heap_.push_back(static_cast<std::uint64_t>(node.merge.rank) << 32 | at);
}

void Merger::apply_best(const MergeTable& table) {
  std::pop_heap(heap_.begin(), heap_.end(), std::greater<>());
  const auto at = static_cast<std::uint32_t>(heap_.back());
  const auto rank = static_cast<std::uint32_t>(heap_.back() >> 32);
  heap_.pop_back();
  Node& node = nodes_[at];
  if (node.merge.rank != rank) return;  // The pair has changed since; its new merge has an entry of its own.

  Node& gone = nodes_[node.next];
  gone.merge.rank = MergeTable::kNone;
  node.symbol = node.merge.result;
  node.next = gone.next;
  if (node.next != kEnd) nodes_[node.next].previous = at;
  const auto refresh = [&](std::uint32_t position) {
    const std::size_t before = heap_.size();
    find_merge(table, position);
    if (heap_.size() > before) std::push_heap(heap_.begin(), heap_.end(), std::greater<>());
  };
  refresh(at);
  if (node.previous != kEnd) refresh(node.previous);
}

void Merger::merge(const MergeTable& table, std::vector<std::int32_t>& symbols) {
  if (symbols.size() < 2) return;
  expects(symbols.size() < kEnd, "a run of 2^32 symbols or more");
  const auto count = static_cast<std::uint32_t>(symbols.size());
  nodes_.resize(count);
  heap_.clear();
  for (std::uint32_t i = 0; i < count; ++i) {
    nodes_[i] = {symbols[i], i == 0 ? kEnd : i - 1, i + 1 == count ? kEnd : i + 1, {MergeTable::kNone, -1}};
  }
  for (std::uint32_t i = 0; i < count; ++i) find_merge(table, i);
  std::make_heap(heap_.begin(), heap_.end(), std::greater<>());
  while (!heap_.empty()) apply_best(table);

  symbols.clear();
  for (std::uint32_t i = 0; i != kEnd; i = nodes_[i].next) symbols.push_back(nodes_[i].symbol);
}

}  // namespace mla
