#include "core/text/sentencepiece_model.h"

#include <cstring>

#include "core/text/utf8.h"

namespace mla {
namespace {

/// One field of a protocol buffer message: a number, or bytes.
struct Field {
  std::uint64_t number = 0, value = 0;
  std::string_view bytes;
};

std::uint64_t take_varint(std::string_view& rest) {
  std::uint64_t value = 0;
  for (int shift = 0; shift < 64 && !rest.empty(); shift += 7) {
    const auto byte = static_cast<unsigned char>(rest[0]);
    rest.remove_prefix(1);
    value |= static_cast<std::uint64_t>(byte & 0x7F) << shift;
    if (byte < 0x80) break;
  }
  return value;
}

std::string_view take_bytes(std::string_view& rest, std::uint64_t size) {
  const std::string_view taken = rest.substr(0, size);
  rest.remove_prefix(taken.size());
  return taken;
}

std::vector<Field> read_fields_of(std::string_view message) {
  enum WireType { kVarint = 0, kFixed64 = 1, kBytes = 2, kFixed32 = 5 };
  std::vector<Field> fields;
  while (!message.empty()) {
    const std::uint64_t key = take_varint(message);
    Field field{key >> 3, 0, {}};
    switch (key & 7) {
      case kVarint:
        field.value = take_varint(message);
        break;
      case kFixed64:
        field.bytes = take_bytes(message, 8);
        break;
      case kBytes:
        field.bytes = take_bytes(message, take_varint(message));
        break;
      case kFixed32:
        field.bytes = take_bytes(message, 4);
        break;
      default:
        return {};  // Groups, which this format does not use.
    }
    fields.push_back(field);
  }
  return fields;
}

// Numbers of sentencepiece_model.proto.
enum ModelField { kPieces = 1, kTrainerSpec = 2, kNormalizerSpec = 3 };
enum PieceField { kPiece = 1, kScore = 2, kType = 3 };
enum PieceType { kNormal = 1, kUnknown = 2, kControl = 3, kByte = 6 };
enum TrainerField { kModelType = 3, kSpaceAsSuffix = 24, kByteFallback = 35 };
enum NormalizerField { kCharsMap = 2, kAddDummyPrefix = 3, kRemoveExtraSpaces = 4, kEscapeSpaces = 5 };
constexpr std::uint64_t kBpeModel = 2;

SentencePiece read_piece(std::string_view message) {
  SentencePiece piece;
  for (const Field& field : read_fields_of(message)) {
    if (field.number == kPiece) piece.spelling = field.bytes;
    if (field.number == kScore && field.bytes.size() == sizeof piece.score) {
      std::memcpy(&piece.score, field.bytes.data(), sizeof piece.score);
    }
    if (field.number == kType) piece.type = field.value;
  }
  return piece;
}

void read_trainer(std::string_view message, SentencePieceFile& file) {
  for (const Field& field : read_fields_of(message)) {
    if (field.number == kModelType) file.is_bpe = field.value == kBpeModel;
    if (field.number == kSpaceAsSuffix) file.space_as_suffix = field.value != 0;
    if (field.number == kByteFallback) file.byte_fallback = field.value != 0;
  }
}

void read_normalizer_spec(std::string_view message, SentencePieceFile& file) {
  for (const Field& field : read_fields_of(message)) {
    if (field.number == kCharsMap) file.has_chars_map = !field.bytes.empty();
    if (field.number == kAddDummyPrefix) file.dummy_prefix = field.value != 0;
    if (field.number == kRemoveExtraSpaces) file.removes_spaces = field.value != 0;
    if (field.number == kEscapeSpaces) file.escapes_spaces = field.value != 0;
  }
}

/// The library merges by spelling, also characters that are no pieces themselves; the merge table needs ids.
bool every_character_is_a_piece(const Vocabulary& vocabulary) {
  for (const auto& [spelling, id] : vocabulary) {
    if (byte_of_token(spelling)) continue;
    if (valid_utf8_prefix(spelling) != spelling.size()) return false;
    for (std::size_t at = 0; at < spelling.size(); at += utf8_size(spelling[at])) {
      const std::string_view character = std::string_view(spelling).substr(at, utf8_size(spelling[at]));
      if (vocabulary.find(character) == vocabulary.end()) return false;
    }
  }
  return true;
}

/// Byte pieces take no part in merges.
Vocabulary without_bytes(Vocabulary vocabulary) {
  std::erase_if(vocabulary, [](const auto& entry) { return byte_of_token(entry.first).has_value(); });
  return vocabulary;
}

/// Normal pieces, bytes, control pieces and one unknown piece only.
bool is_plain(const SentencePiece& piece) {
  return piece.spelling.size() <= kLongestMergedToken &&
         (piece.type == kNormal || piece.type == kByte || piece.type == kControl || piece.type == kUnknown);
}

}  // namespace

SentencePieceFile read_sentencepiece_file(std::string_view bytes) {
  SentencePieceFile file;
  for (const Field& field : read_fields_of(bytes)) {
    if (field.number == kPieces) file.pieces.push_back(read_piece(field.bytes));
    if (field.number == kTrainerSpec) read_trainer(field.bytes, file);
    if (field.number == kNormalizerSpec) read_normalizer_spec(field.bytes, file);
  }
  return file;
}

std::optional<SentencePieceBpe> read_sentencepiece_bpe(std::string_view bytes) {
  const SentencePieceFile file = read_sentencepiece_file(bytes);
  SentencePieceBpe bpe;
  BpeRules& rules = bpe.rules;
  std::vector<float> scores;
  bool plain_pieces = true;
  for (const SentencePiece& piece : file.pieces) {
    const auto id = static_cast<std::int32_t>(scores.size());
    scores.push_back(piece.score);
    if (piece.type == kUnknown) rules.unknown = id;
    if (piece.type == kNormal || piece.type == kByte) rules.vocabulary.emplace(piece.spelling, id);
    plain_pieces = plain_pieces && is_plain(piece);
  }
  const bool plain_text = !file.has_chars_map && !file.removes_spaces && file.escapes_spaces;
  const bool fits = file.is_bpe && plain_text && plain_pieces && !file.space_as_suffix && rules.unknown &&
                    every_character_is_a_piece(rules.vocabulary);
  if (!fits) return std::nullopt;
  rules.byte_fallback = file.byte_fallback;
  bpe.dummy_prefix = file.dummy_prefix;
  rules.merges = merges_by_score(without_bytes(rules.vocabulary), scores);
  rules.fuse_unknown = true;
  return bpe;
}

}  // namespace mla
