// Questions to a model that was trained on chats, as tokens.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "core/text/chat_template.h"
#include "core/text/tokenizer.h"

namespace mla {

/// The chat template that belongs to a tokenizer, filled in with questions and encoded by it.
class Chat {
 public:
  /// `place`: where the tokenizer was read from, whose template it is. `tokenizer` must outlive it. `system`: the
  /// system message; nothing: the template's own, if it has one. Throws DataError as read_chat_template() and
  /// chat_prompt() do.
  Chat(const std::filesystem::path& place, const Tokenizer& tokenizer, std::optional<std::string> system = {});

  /// The text in which `question` is a user's turn and the assistant's begins; special tokens are spelled in it.
  std::string text(const std::string& question) const;
  /// What stands before that text's tokens: BOS, where the template begins with it.
  const std::vector<std::int32_t>& first() const { return first_; }
  /// All tokens; the assistant's turn begins with `start`.
  std::vector<std::int32_t> ask(const std::string& question, const std::string& start = "") const;
  /// The token that ends the assistant's turn, where its spelling is one.
  const std::optional<std::int32_t>& end() const { return end_; }

 private:
  ChatPrompt prompt(const std::string& question) const;

  std::string place_, template_, eos_;
  const Tokenizer& tokenizer_;
  std::optional<std::string> system_;
  std::vector<std::int32_t> first_;
  std::optional<std::int32_t> end_;
};

}  // namespace mla
