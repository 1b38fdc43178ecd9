#include "core/text/normalizer.h"

#include <unicode/locid.h>
#include <unicode/normalizer2.h>
#include <unicode/uniset.h>
#include <unicode/unistr.h>

#include <algorithm>

#include "core/base/error.h"
#include "core/text/base64.h"
#include "core/text/char_class.h"
#include "core/text/chars_map.h"
#include "core/text/component_json.h"
#include "core/text/utf8.h"

namespace mla {
namespace {

constexpr const char* kNormalizers = "Sequence, NFC, NFD, NFKC, NFKD, Precompiled, Prepend, Replace, Lowercase, Strip";

class UnicodeNormalizer : public Normalizer {
 public:
  explicit UnicodeNormalizer(const std::string& form) : compose_(form == "NFC") {
    UErrorCode error = U_ZERO_ERROR;
    known_ = icu::UnicodeSet(icu::UnicodeString("[:age=9.0:]"), error);
    known_.freeze();
    full_ = form == "NFC"    ? icu::Normalizer2::getNFCInstance(error)
            : form == "NFD"  ? icu::Normalizer2::getNFDInstance(error)
            : form == "NFKC" ? icu::Normalizer2::getNFKCInstance(error)
                             : icu::Normalizer2::getNFKDInstance(error);
    expects(U_SUCCESS(error) != 0, "ICU lacks its normalization data");
    filtered_ = std::make_unique<icu::FilteredNormalizer2>(*full_, known_);
  }

  std::string apply(std::string text) const override {
    // Below U+0300 (first bytes below 0xCC) nothing composes, below U+0080 nothing decomposes.
    const unsigned char limit = compose_ ? 0xCC : 0x80;
    if (std::all_of(text.begin(), text.end(), [limit](char c) { return static_cast<unsigned char>(c) < limit; })) {
      return text;
    }
    UErrorCode error = U_ZERO_ERROR;
    if (full_->isNormalizedUTF8(text, error) && U_SUCCESS(error)) return text;
    std::string out;
    filtered_->normalize(icu::UnicodeString::fromUTF8(text), error).toUTF8String(out);
    expects(U_SUCCESS(error) != 0, "ICU could not normalize a text");
    return out;
  }

 private:
  bool compose_;
  icu::UnicodeSet known_;
  const icu::Normalizer2* full_ = nullptr;
  std::unique_ptr<const icu::Normalizer2> filtered_;
};

class PrependNormalizer : public Normalizer {
 public:
  explicit PrependNormalizer(std::string prefix) : prefix_(std::move(prefix)) {}
  std::string apply(std::string text) const override { return text.empty() ? text : prefix_ + text; }

 private:
  std::string prefix_;
};

class ReplaceNormalizer : public Normalizer {
 public:
  ReplaceNormalizer(std::unique_ptr<Pattern> pattern, std::string content)
      : pattern_(std::move(pattern)), content_(std::move(content)) {}
  std::string apply(std::string text) const override { return replace_matches(*pattern_, text, content_); }

 private:
  std::unique_ptr<Pattern> pattern_;
  std::string content_;
};

class LowercaseNormalizer : public Normalizer {
 public:
  /// Character by character, as the reference does: without the rule for a final sigma.
  std::string apply(std::string text) const override {
    std::string out;
    for (std::size_t at = 0; at < text.size();) {
      const CodePoint here = read_utf8(text.data() + at);
      icu::UnicodeString(static_cast<UChar32>(here.value)).toLower(icu::Locale::getRoot()).toUTF8String(out);
      at += here.size;
    }
    return out;
  }
};

class StripNormalizer : public Normalizer {
 public:
  StripNormalizer(bool left, bool right) : left_(left), right_(right) {}
  std::string apply(std::string text) const override {
    std::string_view rest = text;
    const auto is_space = [](char32_t code) { return CharClasses::instance()[code] == CharClass::kSpace; };
    while (left_ && !rest.empty() && is_space(read_utf8(rest.data()).value)) rest.remove_prefix(utf8_size(rest[0]));
    while (right_ && !rest.empty()) {
      const CodePoint last = read_utf8_before(rest.data() + rest.size());
      if (!is_space(last.value)) break;
      rest.remove_suffix(last.size);
    }
    return std::string(rest);
  }

 private:
  bool left_, right_;
};

class NormalizerSequence : public Normalizer {
 public:
  explicit NormalizerSequence(std::vector<std::unique_ptr<Normalizer>> parts) : parts_(std::move(parts)) {}
  std::string apply(std::string text) const override {
    const std::size_t size = text.size();
    for (const auto& part : parts_) {
      text = part->apply(std::move(text));
      refuse_swollen(size, text.size());
    }
    return text;
  }

 private:
  std::vector<std::unique_ptr<Normalizer>> parts_;
};

}  // namespace

std::unique_ptr<Normalizer> make_unicode_normalizer(const std::string& form) {
  return std::make_unique<UnicodeNormalizer>(form);
}

std::unique_ptr<Normalizer> make_prepend_normalizer(std::string prefix) {
  return std::make_unique<PrependNormalizer>(std::move(prefix));
}

std::unique_ptr<Normalizer> make_replace_normalizer(std::unique_ptr<Pattern> pattern, std::string content) {
  return std::make_unique<ReplaceNormalizer>(std::move(pattern), std::move(content));
}

std::unique_ptr<Normalizer> make_normalizer_sequence(std::vector<std::unique_ptr<Normalizer>> parts) {
  return std::make_unique<NormalizerSequence>(std::move(parts));
}

std::unique_ptr<Normalizer> read_normalizer(const LargeJson& json, const std::string& where) {
  if (json.is_null()) return nullptr;
  const std::string type = component_type(json, where);
  if (type == "Sequence") return make_normalizer_sequence(read_components(json, "normalizers", where, read_normalizer));
  if (type == "NFC" || type == "NFD" || type == "NFKC" || type == "NFKD") return make_unicode_normalizer(type);
  if (type == "Precompiled") {
    auto bytes = decode_base64(member<std::string>(json, "precompiled_charsmap", where));
    if (!bytes) throw DataError(cat(where, ".precompiled_charsmap: not base64"));
    return make_precompiled_normalizer(std::move(*bytes), where);
  }
  if (type == "Prepend") return make_prepend_normalizer(member<std::string>(json, "prepend", where));
  if (type == "Replace") {
    return make_replace_normalizer(read_pattern(member<LargeJson>(json, "pattern", where), where + ".pattern"),
                                   member<std::string>(json, "content", where));
  }
  if (type == "Lowercase") return std::make_unique<LowercaseNormalizer>();
  if (type == "Strip") {
    return std::make_unique<StripNormalizer>(member_or(json, "strip_left", true, where),
                                             member_or(json, "strip_right", true, where));
  }
  unsupported_component(where, type, kNormalizers);
}

}  // namespace mla
