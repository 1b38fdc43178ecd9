#include "core/text/added_tokens.h"

#include <algorithm>

#include "core/text/char_class.h"
#include "core/text/utf8.h"

namespace mla {
namespace {

bool is_space(char32_t code) { return CharClasses::instance()[code] == CharClass::kSpace; }

bool touches_word(std::string_view text, std::size_t begin, std::size_t end) {
  return (begin > 0 && is_word(read_utf8_before(text.data() + begin).value)) ||
         (end < text.size() && is_word(read_utf8(text.data() + end).value));
}

std::size_t skip_spaces_back(std::string_view text, std::size_t at) {
  while (at > 0) {
    const CodePoint before = read_utf8_before(text.data() + at);
    if (!is_space(before.value)) break;
    at -= before.size;
  }
  return at;
}

std::size_t skip_spaces(std::string_view text, std::size_t at) {
  while (at < text.size()) {
    const CodePoint here = read_utf8(text.data() + at);
    if (!is_space(here.value)) break;
    at += here.size;
  }
  return at;
}

}  // namespace

AddedTokenFinder::AddedTokenFinder(std::vector<AddedToken> tokens) : tokens_(std::move(tokens)), nodes_(1) {
  std::erase_if(tokens_, [](const AddedToken& token) { return token.content.empty(); });
  for (std::size_t i = 0; i < tokens_.size(); ++i) insert(i);
}

void AddedTokenFinder::insert(std::size_t token) {
  std::size_t node = 0;
  for (const char byte : tokens_[token].content) {
    std::size_t next = child(node, byte);
    if (next == 0) {
      next = nodes_.size();
      if (node == 0) first_[static_cast<unsigned char>(byte)] = next;
      nodes_[node].children.emplace_back(byte, next);
      nodes_.emplace_back();
    }
    node = next;
  }
  nodes_[node].token = token;
}

std::size_t AddedTokenFinder::child(std::size_t node, char byte) const {
  if (node == 0) return first_[static_cast<unsigned char>(byte)];
  for (const auto& [label, next] : nodes_[node].children) {
    if (label == byte) return next;
  }
  return 0;
}

std::size_t AddedTokenFinder::longest_match(std::string_view text, std::size_t at) const {
  std::size_t token = SIZE_MAX;
  std::size_t node = 0;
  for (; at < text.size(); ++at) {
    node = child(node, text[at]);
    if (node == 0) break;
    if (nodes_[node].token != SIZE_MAX) token = nodes_[node].token;
  }
  return token;
}

void AddedTokenFinder::split(std::string_view text, FunctionRef<void(std::string_view)> on_text,
                             FunctionRef<void(std::int32_t)> on_token) const {
  std::size_t done = 0;
  for (std::size_t at = 0; at < text.size() && !empty();) {
    const bool may_begin = first_[static_cast<unsigned char>(text[at])] != 0;
    const std::size_t found = may_begin ? longest_match(text, at) : SIZE_MAX;
    if (found == SIZE_MAX) {
      ++at;
      continue;
    }
    const AddedToken& token = tokens_[found];
    std::size_t begin = at;
    std::size_t end = at + token.content.size();
    at = end;
    if (token.single_word && touches_word(text, begin, end)) continue;
    if (token.left_strip) begin = std::max(skip_spaces_back(text, begin), done);
    if (token.right_strip) end = skip_spaces(text, end);
    if (begin >= end) continue;  // As in the reference, one whose spaces the token before has taken is not there.
    if (done < begin) on_text(text.substr(done, begin - done));
    on_token(token.id);
    done = end;
  }
  if (done < text.size()) on_text(text.substr(done));
}

}  // namespace mla
