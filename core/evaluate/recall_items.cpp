#include "core/evaluate/recall_items.h"

#include <algorithm>
#include <cmath>

#include "core/base/checks.h"
#include "core/base/error.h"
#include "core/base/random.h"
#include "core/base/suggest.h"

namespace mla {
namespace {

constexpr std::int64_t kAsManyAsFit = std::int64_t{1} << 40;
constexpr std::int64_t kMadeUp = 4096;  ///< words at most

/// The text of one kind, and how many misleading statements it has.
struct Kind {
  std::string name, beginning, statement, question;
  std::int64_t others;
};

const std::vector<Kind>& kinds() {
  static const std::vector<Kind> all = {
      {"passkey", "There is an important number hidden in this text. Find it and remember it.",
       " The pass key is {value}. Remember it: {value} is the pass key.", " What is the pass key? The pass key is", 0},
      {"needle", "A special number is hidden in this text. Remember it.", " The special number of {key} is {value}.",
       " What is the special number of {key}? The special number of {key} is", 0},
      {"key_value", "Remember these numbers.", " The number of {key} is {value}.",
       " What is the number of {key}? The number of {key} is", kAsManyAsFit}};
  return all;
}

const std::vector<std::string>& monotonous() {
  static const std::vector<std::string> sentences = {" The grass is green.", " The sky is blue.", " The sun is yellow.",
                                                     " Here we go.", " There and back again."};
  return sentences;
}

const Kind& kind_named(const std::string& name, const std::string& path) {
  for (const Kind& kind : kinds()) {
    if (kind.name == name) return kind;
  }
  throw ConfigError(cat(path, ".kind: ", unknown_name(name, recall_kinds())));
}

/// The options with the kind's texts in place.
RecallOptions resolved(RecallOptions options, const std::string& path) {
  const Kind& kind = kind_named(options.kind, path);
  const auto fill = [](std::string& text, const std::string& usual) { text = text.empty() ? usual : text; };
  fill(options.beginning, kind.beginning);
  fill(options.statement, kind.statement);
  fill(options.question, kind.question);
  if (options.filler.empty()) options.filler = monotonous();
  if (options.others < 0) options.others = kind.others;
  return options;
}

std::string replaced(std::string text, const std::string& mark, const std::string& by) {
  for (std::size_t at = text.find(mark); at != std::string::npos; at = text.find(mark, at + by.size()))
    text.replace(at, mark.size(), by);
  return text;
}

/// A word such as "tavor", which texts seldom hold.
std::string made_up_word(RandomStream& stream) {
  const std::string consonants = "bdfgklmnprstvz", vowels = "aeiou";
  const auto letter = [&](const std::string& from) { return from[stream.below(from.size())]; };
  return {letter(consonants), letter(vowels), letter(consonants), letter(vowels), letter(consonants)};
}

std::string number(RandomStream& stream) { return std::to_string(10'000 + stream.below(90'000)); }

/// Different words from a list in random order, or made up. Word i does not depend on which are asked for.
class Words {
 public:
  Words(const std::vector<std::string>& given, RandomStream stream, std::string (*make)(RandomStream&))
      : words_(given), stream_(std::move(stream)), make_(make), limited_(!given.empty()) {
    stream_.shuffle(words_);
  }
  std::int64_t available() const { return limited_ ? std::ssize(words_) : kMadeUp; }
  const std::string& at(std::size_t index) {
    expects(static_cast<std::int64_t>(index) < available(), "no such word");
    while (words_.size() <= index) {
      std::string word = make_(stream_);
      if (std::find(words_.begin(), words_.end(), word) == words_.end()) words_.push_back(std::move(word));
    }
    return words_[index];
  }

 private:
  std::vector<std::string> words_;
  RandomStream stream_;
  std::string (*make_)(RandomStream&);
  bool limited_ = false;
};

/// Everything that is drawn for one item; contexts of any size can then be put together.
class Scene {
 public:
  /// `name` tells its random streams from those of other items.
  Scene(const RecallOptions& options, double depth, const std::string& name)
      : options_(options),
        depth_(depth),
        name_(name),
        keys_(options.keys, {options.seed, name + ".keys"}, made_up_word),
        values_(options.values, {options.seed, name + ".values"}, number) {
    RandomStream stream(options.seed, name);
    first_filler_ = stream.below(options.filler.size());
    right_ = static_cast<std::size_t>(stream.below(static_cast<std::uint64_t>(options.choices)));
  }

  std::string statement(std::size_t index) {
    return replaced(replaced(options_.statement, "{key}", keys_.at(index)), "{value}", value_of(index));
  }

  /// The context with `units` sentences around the statement.
  std::string context(std::int64_t units) {
    const std::int64_t others = std::min({units, options_.others, keys_.available() - 1});
    std::vector<char> is_other(static_cast<std::size_t>(units), 0);
    std::fill_n(is_other.begin(), others, 1);
    RandomStream(options_.seed, name_ + ".places").shuffle(is_other);
    const auto place = static_cast<std::size_t>(std::llround(depth_ * static_cast<double>(units)));
    std::string text = options_.beginning;
    std::size_t other = 1, filler = first_filler_;
    for (std::size_t i = 0; i <= is_other.size(); ++i) {
      if (i == place) text += statement(0);
      if (i < is_other.size())
        text += is_other[i] ? statement(other++) : options_.filler[filler++ % options_.filler.size()];
    }
    return text + replaced(options_.question, "{key}", keys_.at(0));
  }

  /// Value 0 is right; the others are those of other keys, and stand in the context where there are enough of them.
  MultipleChoiceItem item(std::int64_t units) {
    MultipleChoiceItem item{context(units), {}, static_cast<std::int64_t>(right_)};
    for (std::int64_t i = 0; i < options_.choices; ++i)
      item.choices.push_back(" " + values_.at(static_cast<std::size_t>(i)));
    std::swap(item.choices.front(), item.choices[right_]);
    return item;
  }

 private:
  /// Of a short list of values several keys have the same, but never the one asked for.
  const std::string& value_of(std::size_t index) {
    const auto count = static_cast<std::size_t>(values_.available());
    return values_.at(index < count ? index : 1 + index % (count - 1));
  }

  const RecallOptions& options_;
  double depth_;
  std::string name_;
  Words keys_, values_;
  std::size_t first_filler_ = 0, right_ = 0;
};

/// The largest number of sentences with which the context has at most `room` tokens.
std::int64_t fitting_units(Scene& scene, const Tokenizer& tokenizer, std::int64_t room) {
  const auto fits = [&](std::int64_t units) {
    return std::ssize(tokenizer.encode(scene.context(units), {.add_bos = true})) <= room;
  };
  if (!fits(0)) return -1;
  std::int64_t low = 0, high = 1;
  while (fits(high)) {
    low = high;
    high *= 2;
  }
  while (high - low > 1) {
    const std::int64_t middle = (low + high) / 2;
    (fits(middle) ? low : high) = middle;
  }
  return low;
}

}  // namespace

std::vector<std::string> recall_kinds() {
  std::vector<std::string> names;
  for (const Kind& kind : kinds()) names.push_back(kind.name);
  return names;
}

void RecallOptions::validate(const std::string& path) const {
  const RecallOptions all = resolved(*this, path);
  if (lengths.empty() || depths.empty())
    throw ConfigError(cat(path, lengths.empty() ? ".lengths" : ".depths", ": the list is empty"));
  for (std::size_t i = 0; i < lengths.size(); ++i) check_at_least_one(cat(path, ".lengths[", i, "]"), lengths[i]);
  for (std::size_t i = 0; i < depths.size(); ++i) {
    if (!(depths[i] >= 0 && depths[i] <= 1))
      throw ConfigError(cat(path, ".depths[", i, "] = ", depths[i], ": expected 0 (the beginning) to 1 (the end)"));
  }
  check_at_least_one(path + ".items", items);
  if (choices < 2) throw ConfigError(cat(path, ".choices = ", choices, ": expected at least 2"));
  if (others < -1) throw ConfigError(cat(path, ".others = ", others, ": expected -1 or more"));
  if (all.statement.find("{value}") == std::string::npos) throw ConfigError(cat(path, ".statement: has no {value}"));
  if (all.question.find("{value}") != std::string::npos)
    throw ConfigError(cat(path, ".question: has {value}, which is what is asked for"));
  if (all.question.ends_with(' '))
    throw ConfigError(cat(path, ".question: ends with a space, which belongs to the answer"));
  for (std::size_t i = 0; i < filler.size(); ++i) {
    if (filler[i].empty()) throw ConfigError(cat(path, ".filler[", i, "]: is empty"));
  }
  for (const auto& [name, list] : {std::pair{"keys", &keys}, {"values", &values}}) {
    const std::vector<std::string>& words = *list;
    for (std::size_t i = 0; i < words.size(); ++i) {
      if (words[i].empty()) throw ConfigError(cat(path, ".", name, "[", i, "]: is empty"));
      if (std::find(words.begin(), words.begin() + static_cast<std::ptrdiff_t>(i), words[i]) !=
          words.begin() + static_cast<std::ptrdiff_t>(i)) {
        throw ConfigError(cat(path, ".", name, "[", i, "]: '", words[i], "' is given twice"));
      }
    }
  }
  if (!values.empty() && std::ssize(values) < choices) {
    throw ConfigError(cat(path, ".values: ", values.size(), " are fewer than the ", choices, " choices"));
  }
  if (!keys.empty() && others >= std::ssize(keys)) {
    throw ConfigError(cat(path, ".others = ", others, ": needs more keys than the ", keys.size(), " given"));
  }
}

std::vector<RecallItem> make_recall_items(const RecallOptions& given, const Tokenizer& tokenizer) {
  given.validate("recall");
  const RecallOptions options = resolved(given, "recall");
  std::vector<RecallItem> items;
  for (const std::int64_t length : options.lengths) {
    for (const double depth : options.depths) {
      for (std::int64_t index = 0; index < options.items; ++index) {
        Scene scene(options, depth, cat("recall.", options.kind, ".", length, ".", depth, ".", index));
        std::int64_t longest = 0;
        for (const std::string& choice : scene.item(0).choices)
          longest = std::max(longest, std::ssize(tokenizer.encode(choice)));
        const std::int64_t units = fitting_units(scene, tokenizer, length - longest);
        if (units < 0) {
          throw DataError(cat("recall: a length of ", length,
                              " tokens has no room for statement, question and answer, which take ",
                              std::ssize(tokenizer.encode(scene.context(0), {.add_bos = true})) + longest));
        }
        items.push_back({scene.item(units), length, depth});
      }
    }
  }
  return items;
}

}  // namespace mla
