#include <algorithm>
#include <array>

#include "core/base/error.h"
#include "core/base/file.h"
#include "core/text/tokenizer_readers.h"

namespace mla {
namespace {

namespace fs = std::filesystem;

struct NamePair {
  const char *vocabulary, *merges;
};
constexpr std::array<NamePair, 2> kPairs{{{"vocab.json", "merges.txt"}, {"encoder.json", "vocab.bpe"}}};

/// sentencepiece models are protocol buffers; tiktoken files are lines of base64 and a number.
std::unique_ptr<Tokenizer> read_model_file(const fs::path& path) {
  const std::string bytes = read_file(path);
  const std::string_view line = std::string_view(bytes).substr(0, bytes.find('\n'));
  const bool text = line.find(' ') != std::string_view::npos &&
                    std::all_of(line.begin(), line.end(), [](char c) { return c >= ' ' && c <= '~'; });
  return text ? read_tiktoken(path) : read_sentencepiece(path);
}

std::unique_ptr<Tokenizer> load_file(const fs::path& path) {
  const std::string name = path.filename().string(), extension = path.extension().string();
  for (const NamePair& pair : kPairs) {
    if (name != pair.vocabulary && name != pair.merges) continue;
    const fs::path vocabulary = path.parent_path() / pair.vocabulary, merges = path.parent_path() / pair.merges;
    for (const fs::path& needed : {vocabulary, merges}) {
      if (!fs::exists(needed)) throw DataError(cat(path.string(), ": needs ", needed.string(), " beside it"));
    }
    return read_vocab_merges(vocabulary, merges);
  }
  if (extension == ".json") return read_hf_tokenizer(path);
  if (extension == ".tiktoken") return read_tiktoken(path);
  if (extension == ".model") return read_model_file(path);
  if (extension == ".bin") return read_llama2c(path);
  throw DataError(cat(path.string(),
                      ": not a tokenizer by its name; known: *.json, merges.txt, vocab.bpe, *.model, "
                      "*.tiktoken, *.bin"));
}

/// The first file of `folder`, by name, that begins with `prefix` and ends in `extension`; empty when there is none.
fs::path find_file(const fs::path& folder, std::string_view prefix, std::string_view extension) {
  fs::path first;
  for (const fs::directory_entry& entry : fs::directory_iterator(folder)) {
    const std::string name = entry.path().filename().string();
    const bool fits = name.starts_with(prefix) && name.ends_with(extension);
    if (fits && (first.empty() || entry.path() < first)) first = entry.path();
  }
  return first;
}

std::unique_ptr<Tokenizer> load_folder(const fs::path& folder) {
  for (const char* name : {"tokenizer.json", "tokenizer.model", "vocab.json", "encoder.json"}) {
    if (fs::exists(folder / name)) return load_file(folder / name);
  }
  constexpr std::pair<const char*, const char*> kPatterns[] = {{"", ".tiktoken"}, {"tok", ".model"}, {"tok", ".bin"}};
  for (const auto& [prefix, extension] : kPatterns) {
    if (const fs::path found = find_file(folder, prefix, extension); !found.empty()) return load_file(found);
  }
  throw DataError(cat(folder.string(),
                      ": no tokenizer: looked for tokenizer.json, tokenizer.model, vocab.json + "
                      "merges.txt, encoder.json + vocab.bpe, *.tiktoken, tok*.model, tok*.bin"));
}

}  // namespace

std::unique_ptr<Tokenizer> load_tokenizer(const fs::path& path) {
  if (!fs::exists(path)) throw DataError(cat(path.string(), ": no such tokenizer file or folder"));
  return fs::is_directory(path) ? load_folder(path) : load_file(path);
}

}  // namespace mla
