#include <sentencepiece_processor.h>

#include "core/base/error.h"
#include "core/base/file.h"
#include "core/text/added_tokens.h"
#include "core/text/bpe_tokenizer.h"
#include "core/text/sentencepiece_model.h"
#include "core/text/tokenizer_readers.h"
#include "core/text/utf8.h"

namespace mla {
namespace {

using Processor = sentencepiece::SentencePieceProcessor;

constexpr const char* kSpace = "\u2581";

std::vector<AddedToken> control_tokens(const Processor& processor) {
  std::vector<AddedToken> tokens;
  for (int id = 0; id < processor.GetPieceSize(); ++id) {
    if (!processor.IsControl(id)) continue;
    AddedToken token;
    token.id = id;
    token.content = processor.IdToPiece(id);
    tokens.push_back(std::move(token));
  }
  return tokens;
}

/// The same ids as the library's for the models it can be made of, an order of magnitude sooner; else nothing.
std::unique_ptr<Tokenizer> make_encoder(std::string_view model) {
  auto bpe = read_sentencepiece_bpe(model);
  if (!bpe) return nullptr;
  BpeTokenizerParts parts;
  std::vector<std::unique_ptr<Normalizer>> steps;
  if (bpe->dummy_prefix) steps.push_back(make_prepend_normalizer(kSpace));
  steps.push_back(make_replace_normalizer(make_literal_pattern(" "), kSpace));
  parts.normalizer = make_normalizer_sequence(std::move(steps));
  parts.model = std::make_unique<BpeModel>(std::move(bpe->rules));
  parts.decoder = make_fuse_decoder();
  return std::make_unique<BpeTokenizer>(std::move(parts));
}

/// Decodes with the library, and encodes with it where the model is not plain BPE.
class SentencePieceTokenizer : public Tokenizer {
 public:
  SentencePieceTokenizer(std::unique_ptr<Processor> processor, std::unique_ptr<Tokenizer> encoder)
      : processor_(std::move(processor)), encoder_(std::move(encoder)), control_(control_tokens(*processor_)) {}

  std::vector<std::int32_t> encode(std::string_view text, EncodeOptions options) const override {
    const std::string valid = replace_invalid_utf8(text);
    std::vector<std::int32_t> ids;
    if (options.add_bos && bos()) ids.push_back(*bos());
    const auto add_text = [&](std::string_view part) {
      const auto found = encoder_ ? encoder_->encode(part) : processor_->EncodeAsIds({part.data(), part.size()});
      ids.insert(ids.end(), found.begin(), found.end());
    };
    if (options.parse_special) {
      control_.split(valid, add_text, [&](std::int32_t id) { ids.push_back(id); });
    } else {
      add_text(valid);
    }
    return ids;
  }

  std::string decode(std::span<const std::int32_t> ids, bool skip_special) const override {
    std::string text;
    std::vector<int> run;
    const auto flush = [&] {
      if (!run.empty()) text += processor_->DecodeIds(run);
      run.clear();
    };
    for (const std::int32_t id : ids) {
      if (id < 0 || id >= vocabulary_size()) {
        throw DataError(cat("token id ", id, ": the tokenizer has ids 0 to ", vocabulary_size() - 1));
      }
      if (!processor_->IsControl(id)) {
        run.push_back(id);
      } else if (!skip_special) {
        flush();
        text += processor_->IdToPiece(id);
      }
    }
    flush();
    return text;
  }

  std::int64_t vocabulary_size() const override { return processor_->GetPieceSize(); }
  std::optional<std::int32_t> bos() const override { return defined(processor_->bos_id()); }
  std::optional<std::int32_t> eos() const override { return defined(processor_->eos_id()); }

 private:
  static std::optional<std::int32_t> defined(int id) { return id < 0 ? std::nullopt : std::optional(id); }

  std::unique_ptr<Processor> processor_;
  std::unique_ptr<Tokenizer> encoder_;
  AddedTokenFinder control_;
};

/// The library says what it refuses, but a trie that it cannot build of odd pieces (an empty one) comes as an exception.
void load(Processor& processor, const std::string& model, const std::string& name) {
  std::string reason;
  try {
    const auto status = processor.LoadFromSerializedProto(model);
    if (status.ok()) return;
    reason = status.ToString();
  } catch (const std::exception& error) {
    reason = error.what();
  }
  throw DataError(cat(name, ": not a sentencepiece model: ", reason));
}

}  // namespace

std::unique_ptr<Tokenizer> read_sentencepiece(const std::filesystem::path& path) {
  auto processor = std::make_unique<Processor>();
  const std::string model = read_file(path);
  load(*processor, model, path.string());
  return std::make_unique<SentencePieceTokenizer>(std::move(processor), make_encoder(model));
}

}  // namespace mla
