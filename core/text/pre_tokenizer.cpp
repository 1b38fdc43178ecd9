#include "core/text/pre_tokenizer.h"

#include <algorithm>
#include <span>

#include "core/text/char_class.h"
#include "core/text/utf8.h"

namespace mla {
namespace {

/// The pieces that a split leaves, as the tokenizers library makes them of matches and gaps.
std::vector<Stretch> merge_stretches(const std::vector<Stretch>& found, SplitBehavior behavior) {
  const auto join = [](Stretch& left, const Stretch& right) {
    left.text = {left.text.data(), left.text.size() + right.text.size()};
  };
  std::vector<Stretch> pieces;
  for (std::size_t i = 0; i < found.size(); ++i) {
    const bool previous = i > 0 && found[i - 1].matched, matched = found[i].matched;
    bool joins = false;
    if (behavior == SplitBehavior::kContiguous) joins = matched == previous;
    if (behavior == SplitBehavior::kMergedWithPrevious) joins = matched && !previous;
    if (behavior == SplitBehavior::kMergedWithNext) joins = previous && !matched;
    if (behavior == SplitBehavior::kRemoved && matched) continue;
    if (joins && !pieces.empty()) {
      join(pieces.back(), found[i]);
    } else {
      pieces.push_back(found[i]);
    }
  }
  return pieces;
}

class PatternSplitter : public PreTokenizer {
 public:
  PatternSplitter(std::unique_ptr<Pattern> pattern, SplitBehavior behavior, bool invert)
      : pattern_(std::move(pattern)), behavior_(behavior), invert_(invert) {}

  void split(Piece piece, PieceSink sink) const override {
    std::vector<Stretch> stretches;
    pattern_->find(piece.text, stretches);
    if (invert_) {
      for (Stretch& stretch : stretches) stretch.matched = !stretch.matched;
    }
    if (behavior_ != SplitBehavior::kIsolated) stretches = merge_stretches(stretches, behavior_);
    for (const Stretch& stretch : stretches) {
      if (stretch.text.empty()) continue;
      sink({stretch.text, piece.first && stretch.text.data() == piece.text.data()});
    }
  }

 private:
  std::unique_ptr<Pattern> pattern_;
  SplitBehavior behavior_;
  bool invert_;
};

class WordSplitter : public PreTokenizer {
 public:
  void split(Piece piece, PieceSink sink) const override {
    enum class Kind { kSpace, kWord, kOther };
    const auto kind_at = [&](std::size_t at) {
      const char32_t code = read_utf8(piece.text.data() + at).value;
      if (is_word(code)) return Kind::kWord;
      return CharClasses::instance()[code] == CharClass::kSpace ? Kind::kSpace : Kind::kOther;
    };
    for (std::size_t at = 0; at < piece.text.size();) {
      const std::size_t begin = at;
      const Kind kind = kind_at(at);
      while (at < piece.text.size() && kind_at(at) == kind) at += utf8_size(piece.text[at]);
      if (kind != Kind::kSpace) sink({piece.text.substr(begin, at - begin), piece.first && begin == 0});
    }
  }
};

class Metaspace : public PreTokenizer {
 public:
  Metaspace(std::string replacement, PrependScheme scheme, bool splits)
      : space_(make_literal_pattern(" ")), replacement_(replacement), scheme_(scheme) {
    if (splits) {
      splitter_ = make_pattern_splitter(make_literal_pattern(replacement_), SplitBehavior::kMergedWithNext, false);
    }
  }

  void split(Piece piece, PieceSink sink) const override {
    std::string text = replace_matches(*space_, piece.text, replacement_);
    const bool wanted = scheme_ == PrependScheme::kAlways || (scheme_ == PrependScheme::kFirst && piece.first);
    if (wanted && !text.starts_with(replacement_)) text.insert(0, replacement_);
    const Piece changed{text, piece.first};
    if (splitter_) {
      splitter_->split(changed, sink);
    } else {
      sink(changed);
    }
  }

 private:
  std::unique_ptr<Pattern> space_;
  std::string replacement_;
  PrependScheme scheme_;
  std::unique_ptr<PreTokenizer> splitter_;
};

class PrefixSpace : public PreTokenizer {
 public:
  explicit PrefixSpace(std::unique_ptr<PreTokenizer> inner) : inner_(std::move(inner)) {}

  void split(Piece piece, PieceSink sink) const override {
    std::string spaced;
    if (!piece.text.starts_with(' ')) {
      spaced.append(1, ' ').append(piece.text);
      piece.text = spaced;
    }
    if (inner_) {
      inner_->split(piece, sink);
    } else {
      sink(piece);
    }
  }

 private:
  std::unique_ptr<PreTokenizer> inner_;
};

class PreTokenizerSequence : public PreTokenizer {
 public:
  explicit PreTokenizerSequence(std::vector<std::unique_ptr<PreTokenizer>> parts) : parts_(std::move(parts)) {}
  void split(Piece piece, PieceSink sink) const override { split_with(parts_, piece, sink); }

 private:
  static void split_with(std::span<const std::unique_ptr<PreTokenizer>> parts, Piece piece, PieceSink sink) {
    if (parts.empty()) return sink(piece);
    if (parts.size() == 1) return parts[0]->split(piece, sink);
    parts[0]->split(piece, [&](Piece smaller) { split_with(parts.subspan(1), smaller, sink); });
  }

  std::vector<std::unique_ptr<PreTokenizer>> parts_;
};

}  // namespace

std::unique_ptr<PreTokenizer> make_pattern_splitter(std::unique_ptr<Pattern> pattern, SplitBehavior behavior,
                                                    bool invert) {
  return std::make_unique<PatternSplitter>(std::move(pattern), behavior, invert);
}

std::unique_ptr<PreTokenizer> make_word_splitter() { return std::make_unique<WordSplitter>(); }

std::unique_ptr<PreTokenizer> make_metaspace(std::string replacement, PrependScheme scheme, bool splits) {
  return std::make_unique<Metaspace>(std::move(replacement), scheme, splits);
}

std::unique_ptr<PreTokenizer> make_prefix_space(std::unique_ptr<PreTokenizer> inner) {
  return std::make_unique<PrefixSpace>(std::move(inner));
}

std::unique_ptr<PreTokenizer> make_pre_tokenizer_sequence(std::vector<std::unique_ptr<PreTokenizer>> parts) {
  return std::make_unique<PreTokenizerSequence>(std::move(parts));
}

}  // namespace mla
