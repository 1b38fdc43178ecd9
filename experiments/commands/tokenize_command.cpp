#include <iterator>
#include <sstream>

#include "core/text/text_file.h"
#include "core/text/tokenizer.h"
#include "experiments/cli/command.h"
#include "experiments/data/data_fields.h"
#include "experiments/data/token_ids.h"

namespace mla {
namespace {

struct Texts {
  std::vector<std::string> texts;
  template <class Self, class Visitor>
  static void fields(Self& self, Visitor& visit) {
    visit("texts", self.texts, "the texts to encode");
  }
};

struct IdRows {
  TokenIds ids;
  template <class Self, class Visitor>
  static void fields(Self& self, Visitor& visit) {
    visit("ids", self.ids, "one list of token ids per text");
  }
};

/// Lines of ids separated by white space.
TokenIds parse_id_lines(const std::string& text, const std::string& name) {
  TokenIds rows;
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);) {
    std::istringstream words(line);
    std::vector<std::int32_t> row;
    for (std::int32_t id = 0; words >> id;) row.push_back(id);
    if (!words.eof()) throw DataError(cat(name, ":", rows.size() + 1, ": expected ids separated by spaces"));
    rows.push_back(std::move(row));
  }
  return rows;
}

std::vector<std::string> split_lines(const std::string& text) {
  std::vector<std::string> lines;
  std::istringstream stream(text);
  for (std::string line; std::getline(stream, line);) lines.push_back(line);
  return lines;
}

class Tokenize final : public Command {
 public:
  void declare(OptionList& options) override {
    options.require("tokenizer", tokenizer_, "PATH", "a tokenizer file, or a folder that holds one");
    options.add("input", input_, "FILE", "read this file instead of standard input");
    options.flag("special", special_, "add the special tokens (BOS …) of the tokenizer's own rules");
    options.flag("decode", decode_, "ids to texts");
  }

  ExitCode run(Console& console) override {
    const auto tokenizer = load_tokenizer(tokenizer_);
    const std::string name = input_ ? input_->string() : "standard input";
    const std::string text = input_
                                 ? read_text_file(*input_)
                                 : read_text_bytes(std::string(std::istreambuf_iterator<char>(console.in()), {}), name);
    decode_ ? decode(*tokenizer, text, name, console) : encode(*tokenizer, text, name, console);
    return ExitCode::kDone;
  }

 private:
  void encode(const Tokenizer& tokenizer, const std::string& text, const std::string& name, Console& console) const {
    const auto texts = console.json ? read_data<Texts>(parse_json(text, name), name, "texts").texts : split_lines(text);
    const TokenIds rows = encode_batch(tokenizer, texts, {.add_bos = special_}, console.workers());
    if (console.json) return console.print({{"ids", rows}});
    for (const auto& row : rows) {
      for (std::size_t i = 0; i < row.size(); ++i) console.out() << (i > 0 ? " " : "") << row[i];
      console.out() << '\n';
    }
  }

  void decode(const Tokenizer& tokenizer, const std::string& text, const std::string& name, Console& console) const {
    const TokenIds rows =
        console.json ? read_data<IdRows>(parse_json(text, name), name, "ids").ids : parse_id_lines(text, name);
    std::vector<std::string> texts;
    for (const auto& row : rows) texts.push_back(tokenizer.decode(row, !special_));
    if (console.json) return console.print({{"texts", texts}});
    for (const std::string& decoded : texts) console.out() << decoded << '\n';
  }

  std::filesystem::path tokenizer_;
  std::optional<std::filesystem::path> input_;
  bool special_ = false, decode_ = false;
};

const CommandRegistration<Tokenize> kTokenize(
    "tokenize", "texts to token ids and back",
    {"echo 'Once upon a time' | mlaforge tokenize --tokenizer ../shared/data/weights/tinystories-656k",
     "echo '{\"texts\": [\"Once upon a time\"]}' | mlaforge tokenize --tokenizer ../shared/data/tokenizers/smollm "
     "--json",
     "echo '{\"ids\": [[1, 80, 147]]}' | mlaforge tokenize --tokenizer ../shared/data/weights/tinystories-656k "
     "--decode --json"});

}  // namespace
}  // namespace mla
