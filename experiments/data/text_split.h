// One text in three parts that share nothing: to calibrate, to train and to evaluate on.
#pragma once

#include <cstdint>
#include <filesystem>

#include "core/text/document_reader.h"

namespace mla {

/// One part, as JSON lines {"text": …}.
struct TextPart {
  std::filesystem::path file;
  std::int64_t documents = 0, bytes = 0;  ///< of their text
};

struct TextSplit {
  TextPart calibration, train, evaluation;
  std::int64_t repeated = 0;  ///< documents left out of `evaluation`, which stand word for word in another part
};

/// Cuts the documents of `text` in order: the first tenth, at most a MiB, is for calibration, the last tenth, at most a
/// MiB, for evaluation, what is between them for training. A text file without a separator is one document: it is cut
/// at blank lines (or else line ends, or else spaces) into pieces of about 2 KB. The parts are written to
/// FOLDER/calibration.jsonl and so on. Throws DataError where the text is unreadable or too short for three parts.
TextSplit split_text(const std::filesystem::path& text, const DocumentOptions& options,
                     const std::filesystem::path& folder);

}  // namespace mla
