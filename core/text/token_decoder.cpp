#include "core/text/token_decoder.h"

#include <numeric>

#include "core/text/bpe_model.h"
#include "core/text/byte_level.h"
#include "core/text/component_json.h"
#include "core/text/pattern.h"
#include "core/text/pre_tokenizer.h"
#include "core/text/utf8.h"

namespace mla {
namespace {

using Tokens = std::vector<std::string>;

constexpr const char* kDecoders = "Sequence, ByteLevel, ByteFallback, Fuse, Strip, Replace, Metaspace";

class ByteLevelDecoder : public TokenDecoder {
 public:
  Tokens apply(Tokens tokens) const override {
    std::string bytes;
    for (const std::string& token : tokens) bytes += bytes_of_spelling(token).value_or(token);
    return {replace_invalid_utf8(bytes)};
  }
};

class ByteFallbackDecoder : public TokenDecoder {
 public:
  Tokens apply(Tokens tokens) const override {
    Tokens out;
    std::string bytes;
    const auto flush = [&] {
      if (valid_utf8_prefix(bytes) == bytes.size()) {
        if (!bytes.empty()) out.push_back(bytes);
      } else {
        out.insert(out.end(), bytes.size(), "\uFFFD");
      }
      bytes.clear();
    };
    for (std::string& token : tokens) {
      if (const auto byte = byte_of_token(token)) {
        bytes.push_back(static_cast<char>(*byte));
      } else {
        flush();
        out.push_back(std::move(token));
      }
    }
    flush();
    return out;
  }
};

class FuseDecoder : public TokenDecoder {
 public:
  Tokens apply(Tokens tokens) const override { return {std::accumulate(tokens.begin(), tokens.end(), std::string())}; }
};

class StripDecoder : public TokenDecoder {
 public:
  StripDecoder(std::string content, std::size_t start, std::size_t stop)
      : content_(std::move(content)), start_(start), stop_(stop) {}

  Tokens apply(Tokens tokens) const override {
    for (std::string& token : tokens) {
      std::string_view rest = token;
      for (std::size_t i = 0; i < start_ && !content_.empty() && rest.starts_with(content_); ++i)
        rest.remove_prefix(content_.size());
      for (std::size_t i = 0; i < stop_ && !content_.empty() && rest.ends_with(content_); ++i)
        rest.remove_suffix(content_.size());
      token = std::string(rest);
    }
    return tokens;
  }

 private:
  std::string content_;
  std::size_t start_, stop_;
};

class ReplaceDecoder : public TokenDecoder {
 public:
  ReplaceDecoder(std::unique_ptr<Pattern> pattern, std::string content)
      : pattern_(std::move(pattern)), content_(std::move(content)) {}

  Tokens apply(Tokens tokens) const override {
    for (std::string& token : tokens) token = replace_matches(*pattern_, token, content_);
    return tokens;
  }

 private:
  std::unique_ptr<Pattern> pattern_;
  std::string content_;
};

class MetaspaceDecoder : public TokenDecoder {
 public:
  MetaspaceDecoder(const std::string& replacement, PrependScheme scheme)
      : space_(make_literal_pattern(replacement)), drops_first_(scheme != PrependScheme::kNever) {}

  Tokens apply(Tokens tokens) const override {
    for (std::size_t i = 0; i < tokens.size(); ++i) {
      tokens[i] = replace_matches(*space_, tokens[i], i == 0 && drops_first_ ? "" : " ");
    }
    return tokens;
  }

 private:
  std::unique_ptr<Pattern> space_;
  bool drops_first_;
};

class SpaceJoiner : public TokenDecoder {
 public:
  Tokens apply(Tokens tokens) const override {
    for (std::size_t i = 1; i < tokens.size(); ++i) tokens[i].insert(0, 1, ' ');
    return tokens;
  }
};

class DecoderSequence : public TokenDecoder {
 public:
  explicit DecoderSequence(std::vector<std::unique_ptr<TokenDecoder>> parts) : parts_(std::move(parts)) {}
  Tokens apply(Tokens tokens) const override {
    for (const auto& part : parts_) tokens = part->apply(std::move(tokens));
    return tokens;
  }

 private:
  std::vector<std::unique_ptr<TokenDecoder>> parts_;
};

}  // namespace

std::unique_ptr<TokenDecoder> make_byte_level_decoder() { return std::make_unique<ByteLevelDecoder>(); }

std::unique_ptr<TokenDecoder> make_byte_fallback_decoder() { return std::make_unique<ByteFallbackDecoder>(); }

std::unique_ptr<TokenDecoder> make_fuse_decoder() { return std::make_unique<FuseDecoder>(); }

std::unique_ptr<TokenDecoder> make_strip_decoder(std::string content, std::size_t start, std::size_t stop) {
  return std::make_unique<StripDecoder>(std::move(content), start, stop);
}

std::unique_ptr<TokenDecoder> make_decoder_sequence(std::vector<std::unique_ptr<TokenDecoder>> parts) {
  return std::make_unique<DecoderSequence>(std::move(parts));
}

std::unique_ptr<TokenDecoder> read_decoder(const LargeJson& json, const std::string& where) {
  if (json.is_null()) return std::make_unique<SpaceJoiner>();
  const std::string type = component_type(json, where);
  if (type == "Sequence") return make_decoder_sequence(read_components(json, "decoders", where, read_decoder));
  if (type == "ByteLevel") return make_byte_level_decoder();
  if (type == "ByteFallback") return make_byte_fallback_decoder();
  if (type == "Fuse") return make_fuse_decoder();
  if (type == "Strip") {
    return make_strip_decoder(member<std::string>(json, "content", where), member<std::size_t>(json, "start", where),
                              member<std::size_t>(json, "stop", where));
  }
  if (type == "Replace") {
    return std::make_unique<ReplaceDecoder>(read_pattern(member<LargeJson>(json, "pattern", where), where + ".pattern"),
                                            member<std::string>(json, "content", where));
  }
  if (type == "Metaspace") {
    return std::make_unique<MetaspaceDecoder>(read_replacement(json, where), read_prepend_scheme(json, where));
  }
  unsupported_component(where, type, kDecoders);
}

}  // namespace mla
