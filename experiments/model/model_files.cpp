#include "experiments/model/model_files.h"

#include <algorithm>
#include <array>

#include "core/base/error.h"
#include "core/gguf/file.h"

namespace mla {
namespace {

namespace fs = std::filesystem;

/// Files that belong to a vocabulary beside them, and vocabularies that consist of two files.
constexpr std::array kBeside = {
    "tokenizer_config.json", "added_tokens.json", "special_tokens_map.json", "vocab.json", "merges.txt",
    "encoder.json",          "vocab.bpe"};

/// Whether a folder's tokenizer may be read from this file, whichever form it has.
bool may_be_tokenizer(const fs::path& file) {
  const std::string name = file.filename().string(), extension = file.extension().string();
  return std::find(kBeside.begin(), kBeside.end(), name) != kBeside.end() || name == "tokenizer.json" ||
         extension == ".tiktoken" || (name.starts_with("tok") && (extension == ".model" || extension == ".bin"));
}

}  // namespace

std::unique_ptr<Tokenizer> load_model_tokenizer(const std::filesystem::path& model,
                                                const std::optional<std::filesystem::path>& given,
                                                const ModelSpec& spec) {
  const std::filesystem::path path = place_of_tokenizer(model, given);
  std::unique_ptr<Tokenizer> tokenizer = load_tokenizer(path);
  if (tokenizer->vocabulary_size() <= spec.vocabulary) return tokenizer;
  return limit_ids(std::move(tokenizer), spec.vocabulary, cat(path.string(), ", model ", model.string()));
}

std::map<std::string, std::filesystem::path> files_of_model(const std::filesystem::path& model,
                                                            const std::string& role) {
  if (!std::filesystem::is_directory(model)) return {{role, model}};
  std::map<std::string, std::filesystem::path> files;
  for (const auto& entry : std::filesystem::directory_iterator(model)) {
    const std::string extension = entry.path().extension().string();
    if (extension == ".safetensors" || extension == ".json" || extension == ".model" || extension == ".txt") {
      files[role + "/" + entry.path().filename().string()] = entry.path();
    }
  }
  return files;
}

fs::path place_of_tokenizer(const fs::path& model, const std::optional<fs::path>& given) {
  if (given) return *given;
  if (gguf::is_gguf(model)) return model;
  const fs::path folder = fs::is_directory(model) ? model : model.parent_path();
  return folder.empty() ? "." : folder;
}

std::map<std::string, fs::path> files_of_tokenizer(const fs::path& tokenizer, const std::string& role) {
  std::map<std::string, fs::path> files;
  if (fs::is_directory(tokenizer)) {
    for (const auto& entry : fs::directory_iterator(tokenizer)) {
      if (may_be_tokenizer(entry.path())) files[role + "/" + entry.path().filename().string()] = entry.path();
    }
    return files;
  }
  files[role] = tokenizer;
  if (gguf::is_gguf(tokenizer)) return files;
  for (const char* name : kBeside) {
    const fs::path beside = tokenizer.parent_path() / name;
    if (beside != tokenizer && fs::exists(beside)) files[role + "/" + name] = beside;
  }
  return files;
}

void expect_other_place(const fs::path& output, const fs::path& model, const std::string& option) {
  std::error_code ignored;
  if (fs::equivalent(output, model, ignored))
    throw ConfigError(cat(option, " = ", output.string(), ": is the source model itself; name another folder"));
}

}  // namespace mla
