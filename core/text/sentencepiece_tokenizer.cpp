#include <sentencepiece_processor.h>

#include <unordered_set>

#include "core/base/error.h"
#include "core/base/file.h"
#include "core/text/added_tokens.h"
#include "core/text/bpe_tokenizer.h"
#include "core/text/sentencepiece_model.h"
#include "core/text/tokenizer_config.h"
#include "core/text/tokenizer_readers.h"
#include "core/text/utf8.h"

namespace mla {
namespace {

using Processor = sentencepiece::SentencePieceProcessor;

constexpr const char* kSpace = "\u2581";
// normalizer_spec { add_dummy_prefix: false }: parts of a message that come later win.
constexpr std::string_view kNoPrefix("\x1A\x02\x18\x00", 4);

/// The control pieces. Where a config tells of transformers, they are always read in a text.
std::vector<AddedToken> special_pieces(const Processor& processor, bool configured) {
  std::vector<AddedToken> tokens;
  for (int id = 0; id < processor.GetPieceSize(); ++id) {
    if (!processor.IsControl(id)) continue;
    AddedToken token;
    token.id = id;
    token.content = processor.IdToPiece(id);
    token.special = true;
    token.on_request = !configured;
    tokens.push_back(std::move(token));
  }
  return tokens;
}

Vocabulary pieces_of(const Processor& processor) {
  Vocabulary pieces;
  for (int id = 0; id < processor.GetPieceSize(); ++id) pieces.emplace(processor.IdToPiece(id), id);
  return pieces;
}

std::unique_ptr<Processor> make_processor(const std::string& model, const std::string& name) {
  auto processor = std::make_unique<Processor>();
  std::string reason;
  try {
    const auto status = processor->LoadFromSerializedProto(model);
    if (status.ok()) return processor;
    reason = status.ToString();
  } catch (const std::exception& error) {  // a trie that cannot be built of odd pieces, such as an empty one
    reason = error.what();
  }
  throw DataError(cat(name, ": not a sentencepiece model: ", for_message(reason)));
}

/// Encodes texts without special tokens: the library, or the same ids an order of magnitude sooner for the models that
/// is possible for.
class PieceEncoder {
 public:
  PieceEncoder(const std::string& model, const std::string& name) {
    auto bpe = read_sentencepiece_bpe(model);
    if (!bpe) {
      library_ = make_processor(model, name);
      return;
    }
    BpeTokenizerParts parts;
    std::vector<std::unique_ptr<Normalizer>> steps;
    if (bpe->dummy_prefix) steps.push_back(make_prepend_normalizer(kSpace));
    steps.push_back(make_replace_normalizer(make_literal_pattern(" "), kSpace));
    parts.normalizer = make_normalizer_sequence(std::move(steps));
    parts.model = std::make_unique<BpeModel>(std::move(bpe->rules));
    parts.decoder = make_fuse_decoder();
    own_ = std::make_unique<BpeTokenizer>(std::move(parts));
  }

  std::vector<std::int32_t> encode(std::string_view text) const {
    return own_ ? own_->encode(text) : library_->EncodeAsIds({text.data(), text.size()});
  }

 private:
  std::unique_ptr<Processor> library_;
  std::unique_ptr<Tokenizer> own_;
};

/// Before which parts of a text, between special tokens, a space is put.
enum class Prefix { kAsTheModel, kAlways, kFirst, kNever };

Prefix prefix_of(const TokenizerConfig& config) {
  const bool llama = config.is_class("LlamaTokenizer") || config.is_class("CodeLlamaTokenizer");
  // Other classes do not read the flag.
  if (llama && config.add_prefix_space == false) return Prefix::kNever;
  if (!llama && config.legacy.value_or(true)) return Prefix::kAsTheModel;
  return config.legacy.value_or(false) ? Prefix::kAlways : Prefix::kFirst;
}

/// Decodes with the library, and encodes with it where the model is not plain BPE.
class SentencePieceTokenizer : public Tokenizer {
 public:
  SentencePieceTokenizer(const std::string& model, const std::string& name, TokenizerConfig config)
      : processor_(make_processor(model, name)), encoder_(model, name), prefix_(prefix_of(config)) {
    if (prefix_ != Prefix::kAsTheModel) unprefixed_.emplace(model + std::string(kNoPrefix), name);
    add_class_defaults(config);
    if (config.found && processor_->unk_id() >= 0) {
      config.name_unless_told("unk_token", processor_->IdToPiece(processor_->unk_id()));
    }
    std::vector<AddedToken> tokens = special_pieces(*processor_, config.found);
    if (config.found) changes_ = "special pieces\n";
    changes_ += add_configured_tokens(config, pieces_of(*processor_), tokens);
    if (prefix_ != Prefix::kAsTheModel) changes_ += cat("prefix ", static_cast<int>(prefix_), '\n');
    bos_ = config.id_of("bos_token", tokens, defined(processor_->bos_id()));
    eos_ = config.id_of("eos_token", tokens, defined(processor_->eos_id()));
    if (config.add_bos.value_or(true)) before_ = bos_;
    if (config.add_eos.value_or(false)) after_ = eos_;
    set_tokens(std::move(tokens));
  }

  std::vector<std::int32_t> encode(std::string_view given, EncodeOptions options) const override {
    const std::string text = replace_invalid_utf8(given);
    std::vector<std::int32_t> ids;
    const auto add_token = [&](std::int32_t id) { ids.push_back(id); };
    const auto add_text = [&](std::string_view part) {
      const auto found = encode_part(part, part.data() == text.data());
      ids.insert(ids.end(), found.begin(), found.end());
    };
    const auto split_further = [&](std::string_view part) { normalized_.split(part, add_text, add_token); };
    if (options.add_bos && before_) ids.push_back(*before_);
    (options.parse_special ? raw_on_request_ : raw_).split(text, split_further, add_token);
    if (options.add_bos && after_) ids.push_back(*after_);
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
      const auto token = tokens_.find(id);
      if (token == tokens_.end()) {
        run.push_back(id);
      } else if (!(skip_special && token->second.special)) {
        flush();
        text += token->second.content;
      }
    }
    flush();
    return text;
  }

  std::int64_t vocabulary_size() const override { return size_; }
  std::optional<std::int32_t> bos() const override { return bos_; }
  std::optional<std::int32_t> eos() const override { return eos_; }
  std::string effect_of_config() const override { return changes_; }

 private:
  static std::optional<std::int32_t> defined(int id) { return id < 0 ? std::nullopt : std::optional(id); }

  /// As transformers' Metaspace, which unlike the library puts no second space before a text that begins with one.
  std::vector<std::int32_t> encode_part(std::string_view part, bool first) const {
    if (prefix_ == Prefix::kAsTheModel) return encoder_.encode(part);
    const bool has_one = part.starts_with(' ') || part.starts_with(kSpace);
    const bool wanted = prefix_ == Prefix::kAlways || (prefix_ == Prefix::kFirst && first);
    return (wanted && !has_one ? encoder_ : *unprefixed_).encode(part);
  }

  void set_tokens(std::vector<AddedToken> tokens) {
    std::vector<AddedToken> raw, on_request, normalized;
    size_ = processor_->GetPieceSize();
    for (AddedToken& token : tokens) {
      size_ = std::max<std::int64_t>(size_, token.id + 1);
      if (token.normalized) {
        normalized.push_back(token);
      } else {
        if (!token.on_request) raw.push_back(token);
        on_request.push_back(token);
      }
      tokens_[token.id] = token;
    }
    raw_ = AddedTokenFinder(std::move(raw));
    raw_on_request_ = AddedTokenFinder(std::move(on_request));
    normalized_ = AddedTokenFinder(std::move(normalized));
  }

  std::unique_ptr<Processor> processor_;
  PieceEncoder encoder_;
  std::optional<PieceEncoder> unprefixed_;  // Where the model does not decide alone.
  Prefix prefix_;
  AddedTokenFinder raw_, raw_on_request_, normalized_;
  std::unordered_map<std::int32_t, AddedToken> tokens_;  // By id: control pieces and what the config has added.
  std::optional<std::int32_t> bos_, eos_, before_, after_;
  std::int64_t size_ = 0;
  std::string changes_;
};

}  // namespace

std::unique_ptr<Tokenizer> read_sentencepiece(const std::filesystem::path& path) {
  return make_sentencepiece(read_file(path), path.string(), read_tokenizer_config(path.parent_path()));
}

std::unique_ptr<Tokenizer> make_sentencepiece(const std::string& model, const std::string& name,
                                              TokenizerConfig config) {
  return std::make_unique<SentencePieceTokenizer>(model, name, std::move(config));
}

}  // namespace mla
