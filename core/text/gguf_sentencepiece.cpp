#include <cstring>

#include "core/base/error.h"
#include "core/text/gguf_forms.h"

namespace mla {
namespace {

// Numbers of sentencepiece_model.proto.
enum ModelField { kModelPieces = 1, kModelTrainer = 2, kModelNormalizer = 3 };
enum PieceField { kPieceText = 1, kPieceScore = 2, kPieceType = 3 };
enum TrainerField {
  kTrainerModelType = 3,
  kTrainerVocabulary = 4,
  kTrainerByteFallback = 35,
  kTrainerUnknownId = 40,
  kTrainerBosId = 41,
  kTrainerEosId = 42,
  kTrainerUnknownPiece = 45,
  kTrainerBosPiece = 46,
  kTrainerEosPiece = 47
};
enum NormalizerField { kNormalizerName = 1, kNormalizerPrefix = 3, kNormalizerSpaces = 4, kNormalizerEscape = 5 };
constexpr std::uint64_t kMergesByScore = 2;  // model_type BPE

/// A protocol buffer message as it grows.
class Message {
 public:
  void add_number(int field, std::uint64_t value) {
    add_varint(static_cast<std::uint64_t>(field) << 3);
    add_varint(value);
  }
  void add_float(int field, float value) {
    add_varint(static_cast<std::uint64_t>(field) << 3 | 5);
    char bytes[sizeof value];
    std::memcpy(bytes, &value, sizeof value);
    bytes_.append(bytes, sizeof bytes);
  }
  void add_bytes(int field, std::string_view bytes) {
    add_varint(static_cast<std::uint64_t>(field) << 3 | 2);
    add_varint(bytes.size());
    bytes_ += bytes;
  }
  const std::string& bytes() const { return bytes_; }

 private:
  void add_varint(std::uint64_t value) {
    for (; value >= 0x80; value >>= 7) bytes_ += static_cast<char>(value | 0x80);
    bytes_ += static_cast<char>(value);
  }
  std::string bytes_;
};

std::vector<float> scores_of(const gguf::File& file, std::size_t tokens) {
  constexpr const char* kScores = "tokenizer.ggml.scores";
  std::vector<float> scores = file.floats(kScores);
  if (scores.size() != tokens) {
    throw DataError(
        cat(file.path().string(), ": key ", kScores, ": ", scores.size(), " entries for ", tokens, " tokens"));
  }
  return scores;
}

std::string trainer_of(const GgufVocabulary& vocabulary) {
  Message trainer;
  trainer.add_number(kTrainerModelType, kMergesByScore);
  trainer.add_number(kTrainerVocabulary, vocabulary.tokens.size());
  bool bytes = false;
  for (const GgufTokenType type : vocabulary.types) bytes = bytes || type == GgufTokenType::kByte;
  trainer.add_number(kTrainerByteFallback, bytes ? 1 : 0);
  const auto name = [&](const std::optional<std::int32_t>& id, int id_field, int piece_field) {
    if (!id) return;
    trainer.add_number(id_field, static_cast<std::uint64_t>(*id));
    trainer.add_bytes(piece_field, vocabulary.tokens[static_cast<std::size_t>(*id)]);
  };
  name(vocabulary.unknown, kTrainerUnknownId, kTrainerUnknownPiece);
  name(vocabulary.bos, kTrainerBosId, kTrainerBosPiece);
  name(vocabulary.eos, kTrainerEosId, kTrainerEosPiece);
  return trainer.bytes();
}

std::string normalizer_of(const GgufVocabulary& vocabulary) {
  Message normalizer;
  normalizer.add_bytes(kNormalizerName, "identity");
  normalizer.add_number(kNormalizerPrefix, vocabulary.add_space_prefix.value_or(true) ? 1 : 0);
  normalizer.add_number(kNormalizerSpaces, vocabulary.remove_extra_spaces ? 1 : 0);
  normalizer.add_number(kNormalizerEscape, 1);
  return normalizer.bytes();
}

}  // namespace

std::string gguf_sentencepiece(const gguf::File& file, const GgufVocabulary& vocabulary) {
  const std::vector<float> scores = scores_of(file, vocabulary.tokens.size());
  Message model;
  for (std::size_t id = 0; id < scores.size(); ++id) {
    Message piece;
    piece.add_bytes(kPieceText, vocabulary.tokens[id]);
    piece.add_float(kPieceScore, scores[id]);
    piece.add_number(kPieceType, static_cast<std::uint64_t>(vocabulary.types[id]));
    model.add_bytes(kModelPieces, piece.bytes());
  }
  model.add_bytes(kModelTrainer, trainer_of(vocabulary));
  model.add_bytes(kModelNormalizer, normalizer_of(vocabulary));
  return model.bytes();
}

}  // namespace mla
