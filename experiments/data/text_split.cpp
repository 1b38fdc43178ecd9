#include "experiments/data/text_split.h"

#include <algorithm>
#include <functional>
#include <set>
#include <string>
#include <string_view>

#include "core/base/atomic_writer.h"
#include "core/base/error.h"
#include "core/base/hash.h"
#include "core/base/json.h"

namespace mla {
namespace {

constexpr std::int64_t kLargestPart = std::int64_t{1} << 20;
/// Of a piece of a text without documents: bytes at least, and how far beyond that a good place for a cut is looked
/// for.
constexpr std::size_t kPieceBytes = 2000, kSearchBytes = 4000;

/// Where the piece at the beginning of `text` ends: after the first blank line, line end or space of what is searched.
std::size_t end_of_piece(std::string_view text) {
  if (text.size() <= kPieceBytes + kSearchBytes) return text.size();
  const std::string_view searched = text.substr(0, kPieceBytes + kSearchBytes);
  for (const std::string_view cut : {std::string_view("\n\n"), std::string_view("\n"), std::string_view(" ")}) {
    const std::size_t found = searched.find(cut, kPieceBytes);
    if (found != std::string_view::npos) return found + cut.size();
  }
  std::size_t end = searched.size();
  while (end > kPieceBytes && (text[end] & 0xc0) == 0x80) --end;  // not within a character
  return end;
}

/// Calls `take` with each document of the file, or each piece of a text without documents.
void each_document(const std::filesystem::path& file, const DocumentOptions& options,
                   const std::function<void(const std::string&)>& take) {
  const bool whole = options.separator.empty() && !holds_json(file);
  DocumentReader reader(file, options);
  for (std::string document; reader.next(document);) {
    if (!whole) {
      take(document);
      continue;
    }
    for (std::string_view rest = document; !rest.empty();) {
      const std::size_t end = end_of_piece(rest);
      take(std::string(rest.substr(0, end)));
      rest.remove_prefix(end);
    }
  }
}

/// A part that is being written.
class PartWriter {
 public:
  PartWriter(TextPart& part, const std::filesystem::path& file) : part_(part), out_(file) { part.file = file; }

  void add(const std::string& document) {
    const std::string line = Json{{"text", document}}.dump(-1, ' ', false, Json::error_handler_t::replace) + "\n";
    out_.write(line.data(), line.size());
    ++part_.documents;
    part_.bytes += static_cast<std::int64_t>(document.size());
  }
  void finish() { out_.finish({}); }

 private:
  TextPart& part_;
  AtomicWriter out_;
};

struct Size {
  std::int64_t documents = 0, bytes = 0;
};

}  // namespace

TextSplit split_text(const std::filesystem::path& text, const DocumentOptions& options,
                     const std::filesystem::path& folder) {
  Size size;
  each_document(text, options, [&](const std::string& document) {
    ++size.documents;
    size.bytes += static_cast<std::int64_t>(document.size());
  });
  const std::int64_t part = std::min(size.bytes / 10, kLargestPart), evaluation_begins = size.bytes - part;
  const auto too_short = [&](const char* what) {
    throw DataError(cat(text.string(), ": ", size.documents, size.documents == 1 ? " document" : " documents", " of ",
                        size.bytes, " bytes leave no text for ", what,
                        "; more is needed, or --separator says how documents are told apart"));
  };
  if (size.documents < 3) too_short("three parts");
  std::filesystem::create_directories(folder);
  TextSplit split;
  PartWriter calibration(split.calibration, folder / "calibration.jsonl"), train(split.train, folder / "train.jsonl"),
      evaluation(split.evaluation, folder / "evaluation.jsonl");
  std::set<std::uint64_t> seen;
  std::int64_t before = 0, number = 0;
  each_document(text, options, [&](const std::string& document) {
    ++number;
    const bool last = number == size.documents;
    if (before < part || number == 1) {
      calibration.add(document);
      seen.insert(hash_to_seed(document, 0));
    } else if (before < evaluation_begins && !last) {
      train.add(document);
      seen.insert(hash_to_seed(document, 0));
    } else if (seen.contains(hash_to_seed(document, 0))) {
      ++split.repeated;
    } else {
      evaluation.add(document);
    }
    before += static_cast<std::int64_t>(document.size());
  });
  if (split.train.documents == 0) too_short("training");
  if (split.evaluation.documents == 0) too_short("evaluation that is not also trained on");
  for (PartWriter* writer : {&calibration, &train, &evaluation}) writer->finish();
  return split;
}

}  // namespace mla
