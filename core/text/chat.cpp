#include "core/text/chat.h"

namespace mla {

Chat::Chat(const std::filesystem::path& place, const Tokenizer& tokenizer, std::optional<std::string> system)
    : place_(place.string()),
      template_(read_chat_template(place)),
      eos_(tokenizer.eos() ? tokenizer.decode(std::vector{*tokenizer.eos()}, false) : ""),
      tokenizer_(tokenizer),
      system_(std::move(system)) {
  const ChatPrompt empty = prompt("");
  if (empty.begins_with_bos && tokenizer.bos()) first_ = {*tokenizer.bos()};
  const auto end = tokenizer.encode(empty.end_of_turn, {.parse_special = true});
  if (end.size() == 1) end_ = end[0];
}

ChatPrompt Chat::prompt(const std::string& question) const {
  return chat_prompt(template_, system_, question, eos_, place_);
}

std::string Chat::text(const std::string& question) const { return prompt(question).text; }

std::vector<std::int32_t> Chat::ask(const std::string& question, const std::string& start) const {
  std::vector<std::int32_t> tokens = first_;
  const auto text_tokens = tokenizer_.encode(text(question) + start, {.parse_special = true});
  tokens.insert(tokens.end(), text_tokens.begin(), text_tokens.end());
  return tokens;
}

}  // namespace mla
