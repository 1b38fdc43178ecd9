#include <algorithm>
#include <array>
#include <vector>

#include "core/base/error.h"
#include "core/base/file.h"
#include "core/base/hash.h"
#include "core/gguf/file.h"
#include "core/text/gguf_tokenizer.h"
#include "core/text/tokenizer_readers.h"

namespace mla {
namespace {

namespace fs = std::filesystem;

struct NamePair {
  const char *vocabulary, *merges;
};
constexpr std::array<NamePair, 2> kPairs{{{"vocab.json", "merges.txt"}, {"encoder.json", "vocab.bpe"}}};

/// The vocabulary and merges that `path`, one of them, belongs to; nothing when it is another kind of file.
std::vector<fs::path> pair_of(const fs::path& path) {
  for (const NamePair& pair : kPairs) {
    if (path.filename() == pair.vocabulary || path.filename() == pair.merges) {
      return {path.parent_path() / pair.vocabulary, path.parent_path() / pair.merges};
    }
  }
  return {};
}

std::unique_ptr<Tokenizer> load_file(const fs::path& path) {
  const std::string extension = path.extension().string();
  if (const auto pair = pair_of(path); !pair.empty()) {
    for (const fs::path& needed : pair) {
      if (!fs::exists(needed)) throw DataError(cat(path.string(), ": needs ", needed.string(), " beside it"));
    }
    return read_vocab_merges(pair[0], pair[1]);
  }
  if (gguf::is_gguf(path)) return read_gguf_tokenizer(path);
  if (extension == ".json") return read_hf_tokenizer(path);
  if (extension == ".tiktoken") return read_tiktoken(path);
  if (extension == ".model") return is_sentencepiece(path) ? read_sentencepiece(path) : read_tiktoken(path);
  if (extension == ".bin") return read_llama2c(path);
  throw DataError(cat(path.string(),
                      ": not a tokenizer by its name; known: *.json, merges.txt, vocab.bpe, *.model, "
                      "*.tiktoken, *.bin, *.gguf"));
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

/// The tokenizer file that a folder holds.
fs::path find_in_folder(const fs::path& folder) {
  for (const char* name : {"tokenizer.json", "tokenizer.model", "vocab.json", "encoder.json"}) {
    if (fs::exists(folder / name)) return folder / name;
  }
  constexpr std::pair<const char*, const char*> kPatterns[] = {{"", ".tiktoken"}, {"tok", ".model"}, {"tok", ".bin"}};
  for (const auto& [prefix, extension] : kPatterns) {
    if (const fs::path found = find_file(folder, prefix, extension); !found.empty()) return found;
  }
  throw DataError(cat(folder.string(),
                      ": no tokenizer: looked for tokenizer.json, tokenizer.model, vocab.json + "
                      "merges.txt, encoder.json + vocab.bpe, *.tiktoken, tok*.model, tok*.bin"));
}

/// Tokenizers of the same files differ where a tokenizer_config.json beside them changes the special tokens around a
/// text or the way it is cut; this text shows it.
constexpr const char* kProbe = "It's 1234567 o'CLOCK,  e\u0301?\n\n\tNow";

/// Where the files lie and what they are called does not matter.
std::string hash_of(const Tokenizer& tokenizer, const fs::path& file) {
  std::vector<fs::path> files = pair_of(file);
  if (files.empty()) files.push_back(file);
  Hasher hasher;
  for (const fs::path& read : files) hasher.update(gguf::is_gguf(read) ? hash_gguf_tokenizer(read) : hash_file(read));
  try {
    for (const std::int32_t id : tokenizer.encode(kProbe, {.add_bos = true})) hasher.update(cat(id, ","));
  } catch (const DataError&) {  // Some vocabularies have no token for some characters.
    hasher.update("no ids");
  }
  hasher.update(tokenizer.effect_of_config());
  return hasher.digest();
}

}  // namespace

bool is_sentencepiece(const fs::path& path) {
  const std::string bytes = read_file(path);
  const std::string_view line = std::string_view(bytes).substr(0, bytes.find('\n'));
  const bool text = line.find(' ') != std::string_view::npos &&
                    std::all_of(line.begin(), line.end(), [](char c) { return c >= ' ' && c <= '~'; });
  return !text;
}

fs::path tokenizer_file(const fs::path& path) {
  if (!fs::exists(path)) throw DataError(cat(path.string(), ": no such tokenizer file or folder"));
  return fs::is_directory(path) ? find_in_folder(path) : path;
}

std::unique_ptr<Tokenizer> load_tokenizer(const fs::path& path) {
  const fs::path file = tokenizer_file(path);
  std::unique_ptr<Tokenizer> tokenizer = load_file(file);
  tokenizer->content_hash_ = hash_of(*tokenizer, file);
  return tokenizer;
}

}  // namespace mla
