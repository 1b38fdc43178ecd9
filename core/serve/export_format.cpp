#include "core/serve/export_format.h"

#include <algorithm>
#include <utility>

#include "core/base/error.h"
#include "core/base/file.h"
#include "core/serve/model_card.h"

namespace mla {
namespace {

namespace fs = std::filesystem;

/// A folder that is removed with all it holds unless it was renamed.
class UnfinishedFolder {
 public:
  explicit UnfinishedFolder(const fs::path& target) : path_(temporary_name(target)) {
    std::error_code error;
    fs::create_directories(path_, error);
    if (error) throw DataError(cat(path_.string(), ": cannot be made: ", error.message()));
  }
  ~UnfinishedFolder() {
    std::error_code ignored;
    fs::remove_all(path_, ignored);
  }
  UnfinishedFolder(const UnfinishedFolder&) = delete;
  UnfinishedFolder& operator=(const UnfinishedFolder&) = delete;

  const fs::path& path() const { return path_; }

 private:
  fs::path path_;
};

/// A folder replaces an empty one.
void rename_to(const fs::path& from, const fs::path& target) {
  std::error_code error;
  fs::rename(from, target, error);
  if (error) throw DataError(cat(target.string(), ": cannot be written: ", error.message()));
}

std::string type_name(at::ScalarType type) {
  return type == at::kBFloat16 ? "bfloat16" : type == at::kHalf ? "float16" : "float32";
}

bool is_one_file(const fs::path& output) { return output.extension() == ".gguf"; }

/// "a/b/" is the folder "a/b".
fs::path without_slash(fs::path folder) {
  folder = folder.lexically_normal();
  return folder.has_filename() ? folder : folder.parent_path();
}

}  // namespace

void expect_free_output(const ExportFormat& format, const fs::path& folder) {
  if (is_one_file(folder) && !format.writes_one_file())
    throw ConfigError(cat("--output ", folder.string(), ": names a file, and this format writes a folder; name one"));
  if (!fs::exists(folder)) return;
  if (is_one_file(folder)) throw ConfigError(cat("--output ", folder.string(), ": is there already; name a new file"));
  if (!fs::is_directory(folder)) throw ConfigError(cat("--output ", folder.string(), ": is a file; name a folder"));
  if (!fs::is_empty(folder))
    throw ConfigError(cat("--output ", folder.string(), ": holds files already; name a new folder, or an empty one"));
}

Json ExportReport::write() const {
  Json all = Json::array();
  for (const EngineVerdict& engine : engines) {
    all.push_back({{"engine", engine.engine},
                   {"loads", engine.loads},
                   {"cached_values_per_token_and_layer", engine.loads ? Json(cached_values) : Json()},
                   {"reason", engine.reason}});
  }
  return {{"format", format}, {"dtype", dtype}, {"cached_values_per_token_and_layer", cached_values},
          {"engines", all},   {"notes", notes}, {"details", details}};
}

std::string export_type(const ExportFormat& format, const std::optional<std::string>& asked, const Decoder& decoder) {
  const std::vector<std::string> known = format.types();
  const std::string type = format.own_name(asked.value_or(type_name(decoder.embedding.scalar_type())));
  if (std::find(known.begin(), known.end(), type) != known.end()) return type;
  if (asked) throw ConfigError(cat("--dtype: ", unknown_name(type, known)));
  return known.front();
}

ExportReport export_model(const Checkpoint& model, const std::string& format, const ExportRequest& request,
                          const fs::path& folder) {
  const fs::path target = without_slash(folder);
  const auto writer = Registry<ExportFormat>::instance().find(format, "--format").make(Json::object(), "--format");
  expect_free_output(*writer, target);
  const UnfinishedFolder unfinished(target);
  ExportReport report = writer->write(model, request, unfinished.path());
  report.format = format;
  report.dtype = request.dtype;
  write_model_card(model, report, unfinished.path());
  if (is_one_file(target)) {
    rename_to(unfinished.path() / "README.md", fs::path(target).replace_extension(".md"));
    rename_to(unfinished.path() / kGgufExport, target);
  } else {
    rename_to(unfinished.path(), target);
  }
  return report;
}

}  // namespace mla
