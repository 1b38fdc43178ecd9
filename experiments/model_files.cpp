#include "experiments/model_files.h"

#include "core/base/error.h"

namespace mla {

std::unique_ptr<Tokenizer> load_model_tokenizer(const std::filesystem::path& model,
                                                const std::optional<std::filesystem::path>& given,
                                                const Geometry& geometry) {
  const std::filesystem::path folder = std::filesystem::is_directory(model) ? model : model.parent_path();
  const std::filesystem::path path = given ? *given : folder.empty() ? "." : folder;
  std::unique_ptr<Tokenizer> tokenizer = load_tokenizer(path);
  if (tokenizer->vocabulary_size() <= geometry.vocabulary) return tokenizer;
  return limit_ids(std::move(tokenizer), geometry.vocabulary, cat(path.string(), ", model ", model.string()));
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

}  // namespace mla
