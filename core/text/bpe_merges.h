// Byte-pair merging in O(n log n): the lowest rank first, then the leftmost pair.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace mla {

/// Hashes strings and views of them alike.
struct SpellingHash {
  using is_transparent = void;
  std::size_t operator()(std::string_view spelling) const { return std::hash<std::string_view>()(spelling); }
};

/// Token ids by spelling; also found by string_view.
using Vocabulary = std::unordered_map<std::string, std::int32_t, SpellingHash, std::equal_to<>>;

/// Two adjacent symbols that may become one. Lower ranks go first.
struct Merge {
  std::int32_t left, right, result;
  std::uint32_t rank;
};

/// The merges of a vocabulary, found by their pair of symbols.
class MergeTable {
 public:
  struct Found {
    std::uint32_t rank;
    std::int32_t result;
  };
  static constexpr std::uint32_t kNone = UINT32_MAX;

  /// Of several merges of one pair the last counts.
  explicit MergeTable(const std::vector<Merge>& merges);

  /// The merge of `left` and `right`; its rank is kNone when there is none.
  Found find(std::int32_t left, std::int32_t right) const;

 private:
  struct Slot {
    std::uint64_t pair;
    Found merge;
  };
  std::vector<Slot> slots_;
  std::uint64_t mask_ = 0;
};

/// Tokens of more bytes have no place in merges_by_id() and merges_by_score(), which try every way to cut each in two.
inline constexpr std::size_t kLongestMergedToken = 1024;

/// The merges of a vocabulary that has no merge list (tiktoken): every split of a spelling into two others, with the id
/// of the result for a rank.
std::vector<Merge> merges_by_id(const Vocabulary& vocabulary);

/// As merges_by_id, but results with a higher score (scores by id) go first, and equal scores from left to right
/// (sentencepiece, llama2.c).
std::vector<Merge> merges_by_score(const Vocabulary& vocabulary, const std::vector<float>& scores);

/// Applies merges to a run of symbols. Holds buffers that are used again from call to call.
class Merger {
 public:
  /// Merges until no pair is in `table`; `symbols` then holds what is left.
  void merge(const MergeTable& table, std::vector<std::int32_t>& symbols);

 private:
  struct Node {
    std::int32_t symbol;
    std::uint32_t previous, next;
    MergeTable::Found merge;  // Of this symbol and the next one.
  };
  void find_merge(const MergeTable& table, std::uint32_t at);
  void apply_best(const MergeTable& table);

  std::vector<Node> nodes_;
  std::vector<std::uint64_t> heap_;  // Rank in the upper half, position in the lower: the smallest goes first.
};

}  // namespace mla
