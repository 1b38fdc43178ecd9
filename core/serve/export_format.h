// Formats in which a model is written for other engines: each registers itself in its own .cpp.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "core/base/json.h"
#include "core/base/registry.h"
#include "core/model/checkpoint.h"

namespace mla {

/// Whether an engine runs what was written.
struct EngineVerdict {
  std::string engine;  ///< "transformers"
  bool loads = false;
  std::string reason;  ///< why not; or what is to be known of it, may be empty
};

/// What a user asks of an export.
struct ExportRequest {
  std::string dtype;  ///< one of the format's types()
  bool pad = false;   ///< blow the cache up to the sizes that engines' fastest kernels want
  /// The largest root mean square of a token's latent on calibration text; absent: a bound from the weights.
  std::optional<double> measured_latent = {};
  /// The tokenizer that a format writes into its file, a file or a folder; "none": none. Absent: the model's.
  std::optional<std::filesystem::path> tokenizer = {};
};

/// What was written.
struct ExportReport {
  std::string format, dtype;
  std::int64_t cached_values = 0;        ///< per token and layer, in the engine's cache
  std::vector<EngineVerdict> engines;    ///< in the order in which people read them
  std::vector<std::string> notes;        ///< what the user should know, one line each
  Json details = Json::object();         ///< sizes and frequencies as written
  std::vector<std::string> how_to_load;  ///< lines of the model card, Markdown

  Json write() const;
};

/// A format. Registered by name, as other strategies are.
class ExportFormat {
 public:
  static constexpr const char* kKind = "export_format";
  struct Options {
    template <class Self, class Visitor>
    static void fields(Self&, Visitor&) {}
  };
  virtual ~ExportFormat() = default;

  /// The number types that it writes; the first is taken where the model's own is none of them.
  virtual std::vector<std::string> types() const = 0;
  /// What it calls the type "float32", "float16" or "bfloat16"; others as they are.
  virtual std::string own_name(const std::string& type) const { return type; }
  /// Whether all that it writes is kGgufExport, so that a user may ask for that file alone.
  virtual bool writes_one_file() const { return false; }

  /// Writes the model into `folder`, which exists and is empty: weights, configuration, tokenizer, code. Throws
  /// ConfigError of one line, with the reason and the nearest thing that can be written, for what the format cannot
  /// hold: before anything large is written.
  virtual ExportReport write(const Checkpoint& model, const ExportRequest& request,
                             const std::filesystem::path& folder) const = 0;
};

/// The type that a request for `asked` (absent: the model's own) means. Throws ConfigError naming "--dtype".
std::string export_type(const ExportFormat& format, const std::optional<std::string>& asked, const Decoder& decoder);

/// The file of formats that write one, within a folder.
inline constexpr const char* kGgufExport = "model.gguf";

/// Throws ConfigError where `output` is a file, or a folder with something in it, or asks by its name, *.gguf, for one
/// file of a format that writes a folder.
void expect_free_output(const ExportFormat& format, const std::filesystem::path& output);

/// Writes the model in this format as `folder`: into a folder beside it that is renamed when complete, with a model
/// card README.md. A `folder` that is called *.gguf is the file alone, its card *.md beside it. Throws as
/// expect_free_output().
ExportReport export_model(const Checkpoint& model, const std::string& format, const ExportRequest& request,
                          const std::filesystem::path& folder);

}  // namespace mla
