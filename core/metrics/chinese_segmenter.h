// Chinese words.
#pragma once

#include <filesystem>
#include <memory>
#include <string>
#include <vector>

namespace mla {

/// Cuts Chinese text into words exactly as the Python package jieba 0.42.1 does in its accurate mode with its hidden
/// Markov model: the likeliest path through the dictionary's words (each with its frequency), then the model over runs
/// of single characters. Immutable and safe to share between threads.
class ChineseSegmenter {
 public:
  /// Reads dict.txt, finalseg/prob_start.py, prob_trans.py and prob_emit.py of jieba's folder.
  /// Throws DataError naming the file that is missing or malformed.
  explicit ChineseSegmenter(const std::filesystem::path& folder);
  ~ChineseSegmenter();

  /// The segmenter of the folder that the environment variable MLA_JIEBA names, by default the one that Debian's
  /// package python3-jieba installs. Read at first use; throws as the constructor does.
  static const ChineseSegmenter& instance();

  /// The words of `text`, which they make up without a gap: white space and punctuation are words too.
  std::vector<std::u32string> cut(std::u32string_view text) const;

 private:
  struct Model;
  std::unique_ptr<Model> model_;
};

}  // namespace mla
