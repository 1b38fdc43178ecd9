// Chat templates of published models: recognised by their text, and filled in for one question.
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

namespace mla {

/// What a template makes of a question: `text`, behind the BOS token where `begins_with_bos`; the answer ends with
/// `end_of_turn`, a token's spelling.
struct ChatPrompt {
  std::string text;
  bool begins_with_bos = false;
  std::string end_of_turn;
};

/// The Jinja text of the template that belongs to a tokenizer: in a GGUF file, or beside a tokenizer or in its folder
/// (chat_template.jinja, or chat_template of tokenizer_config.json; of several the one named default). Throws DataError
/// where there is none.
std::string read_chat_template(const std::filesystem::path& tokenizer);

/// Whether there is one.
bool has_chat_template(const std::filesystem::path& tokenizer);

/// `question` as a user's, after `system` or the template's own system message where it has one. Known are ChatML,
/// Llama 2, Llama 3, Mistral and Zephyr, by the marks that stand in their text. `eos`: the spelling of the EOS token,
/// which some of them use. Throws DataError, beginning with `where`, for other templates, and for a system message
/// where the template has no place for it.
ChatPrompt chat_prompt(const std::string& jinja, const std::optional<std::string>& system, const std::string& question,
                       const std::string& eos, const std::string& where);

/// One message of a conversation, by its "role": system, user or assistant.
struct ChatMessage {
  std::string role, content;
};

/// A stretch of a conversation's text; `answer`: what the assistant says, the mark that ends its turn included.
struct ChatPiece {
  std::string text;
  bool answer = false;
};
struct ChatText {
  std::vector<ChatPiece> pieces;
  bool begins_with_bos = false;
};

/// A whole conversation as the template writes it: a system message or none, then questions of the user and answers of
/// the assistant in turn, an answer last. Throws DataError, beginning with `where`, as chat_prompt() does, for another
/// order of roles, and for a second question where the template's family has no known form of one (Llama 2).
ChatText chat_text(const std::string& jinja, const std::vector<ChatMessage>& messages, const std::string& eos,
                   const std::string& where);

}  // namespace mla
