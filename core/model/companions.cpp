#include "core/model/companions.h"

#include <set>
#include <string>

#include "core/base/error.h"
#include "core/base/log.h"
#include "core/gguf/file.h"
#include "core/text/gguf_tokenizer.h"

namespace mla {
namespace {

namespace fs = std::filesystem;

/// Tokenizer and generation files that belong to a model, whatever its weights.
bool is_companion(const fs::path& file) {
  static const std::set<std::string> names = {"tokenizer.json",    "tokenizer_config.json",  "special_tokens_map.json",
                                              "added_tokens.json", "generation_config.json", "vocab.json",
                                              "merges.txt",        "chat_template.jinja"};
  const std::string name = file.filename().string();
  return names.contains(name) || name.ends_with(".tiktoken") ||
         (name.starts_with("tok") && (name.ends_with(".model") || name.ends_with(".bin")));
}

/// A tokenizer that is not read is no reason to lose the model.
void write_tokenizer_inside(const fs::path& source, const fs::path& folder) {
  try {
    write_gguf_tokenizer(source, folder);
  } catch (const DataError& error) {
    log_warning_once(cat(folder.string(), ": gets no tokenizer: ", error.what()));
  }
}

}  // namespace

fs::path folder_of_model(const fs::path& source) { return fs::is_directory(source) ? source : source.parent_path(); }

bool is_same_folder(const fs::path& a, const fs::path& b) { return !a.empty() && fs::equivalent(a, b); }

void copy_companions(const fs::path& source, const fs::path& folder) {
  if (gguf::is_gguf(source)) return write_tokenizer_inside(source, folder);
  const fs::path from = folder_of_model(source);
  if (from.empty() || is_same_folder(from, folder)) return;
  for (const auto& entry : fs::directory_iterator(from)) {
    if (entry.is_regular_file() && is_companion(entry.path())) {
      fs::copy_file(entry.path(), folder / entry.path().filename(), fs::copy_options::overwrite_existing);
    }
  }
}

}  // namespace mla
