#include "core/text/chat_template.h"

#include <array>
#include <string_view>

#include "core/base/error.h"
#include "core/base/file.h"
#include "core/base/json.h"
#include "core/gguf/file.h"
#include "core/text/gguf_vocabulary.h"
#include "core/text/utf8.h"

namespace mla {
namespace {

namespace fs = std::filesystem;

struct ChatRequest {
  const std::string& jinja;
  std::optional<std::string> system;
  std::string question, eos;
  bool goes_on = false;  ///< it is not the first question: nothing of the system's stands before it
};

bool contains(std::string_view text, std::string_view part) { return text.find(part) != std::string_view::npos; }

/// As Jinja's trim filter and Python's strip(), of ASCII white space.
std::string trimmed(const std::string& text) {
  constexpr const char* kSpaces = " \t\n\v\f\r";
  const std::size_t first = text.find_first_not_of(kSpaces);
  return first == std::string::npos ? "" : text.substr(first, text.find_last_not_of(kSpaces) - first + 1);
}

/// The system message that a ChatML template puts there by itself: what stands literally between the marks.
std::optional<std::string> chatml_default(const std::string& jinja) {
  constexpr std::string_view kOpen = "<|im_start|>system", kClose = "<|im_end|>";
  for (std::size_t at = jinja.find(kOpen); at != std::string::npos; at = jinja.find(kOpen, at + 1)) {
    std::string_view rest = std::string_view(jinja).substr(at + kOpen.size());
    if (rest.starts_with("\\n")) {  // in a Jinja string
      rest.remove_prefix(2);
    } else if (rest.starts_with('\n')) {
      rest.remove_prefix(1);
    } else {
      continue;
    }
    const std::string_view message = rest.substr(0, rest.find(kClose));
    const bool literal = message.size() < rest.size() && message.find_first_of("'\"{}\\") == std::string_view::npos;
    if (literal && !message.empty()) return std::string(message);
  }
  return std::nullopt;
}

ChatPrompt as_chatml(const ChatRequest& request) {
  ChatPrompt prompt{"", false, "<|im_end|>"};
  const auto add = [&](const char* role, const std::string& content) {
    prompt.text += cat("<|im_start|>", role, "\n", content, "<|im_end|>\n");
  };
  const std::optional<std::string> system = request.system ? request.system : chatml_default(request.jinja);
  if (system && !request.goes_on) add("system", *system);
  add("user", request.question);
  prompt.text += "<|im_start|>assistant\n";
  return prompt;
}

ChatPrompt as_llama3(const ChatRequest& request) {
  ChatPrompt prompt{"", false, "<|eot_id|>"};
  const auto header = [](const char* role) { return cat("<|start_header_id|>", role, "<|end_header_id|>\n\n"); };
  // Llama 3.1 and later say in every system message until when they know, and what day their template was written.
  const bool dated = contains(request.jinja, "Cutting Knowledge Date");
  const std::string dates = dated ? "Cutting Knowledge Date: December 2023\nToday Date: 26 Jul 2024\n\n" : "";
  if ((dated || request.system) && !request.goes_on)
    prompt.text += header("system") + dates + trimmed(request.system.value_or("")) + prompt.end_of_turn;
  prompt.text += header("user") + trimmed(request.question) + prompt.end_of_turn + header("assistant");
  return prompt;
}

ChatPrompt as_llama2(const ChatRequest& request) {
  const std::string system = request.system ? cat("<<SYS>>\n", *request.system, "\n<</SYS>>\n\n") : "";
  return {cat("[INST] ", trimmed(system + request.question), " [/INST]"), false, request.eos};
}

/// Versions differ in the spaces inside of the marks, which stand at the ends of Jinja strings.
ChatPrompt as_mistral(const ChatRequest& request) {
  const auto is_there = [&](const char* one, const char* other) {
    return contains(request.jinja, one) || contains(request.jinja, other);
  };
  const char* open = is_there("[INST] '", "[INST] \"") ? "[INST] " : "[INST]";
  const char* close = is_there("' [/INST]", "\" [/INST]") ? " [/INST]" : "[/INST]";
  return {cat(open, request.question, close), false, request.eos};
}

ChatPrompt as_zephyr(const ChatRequest& request) {
  ChatPrompt prompt{"", false, request.eos};
  const auto add = [&](const char* mark, const std::string& content) {
    prompt.text += cat(mark, "\n", content, request.eos, "\n");
  };
  if (request.system) add("<|system|>", *request.system);
  add("<|user|>", request.question);
  prompt.text += "<|assistant|>\n";
  return prompt;
}

std::string said_as_it_is(const std::string&, const std::string& content) { return content; }
std::string said_trimmed(const std::string&, const std::string& content) { return trimmed(content); }
std::string said_between_spaces(const std::string&, const std::string& content) { return " " + trimmed(content) + " "; }
/// Later versions write a space before an answer.
std::string said_as_mistral(const std::string& jinja, const std::string& content) {
  const bool spaced = contains(jinja, "' ' + message") || contains(jinja, "\" \" + message");
  return (spaced ? " " : "") + content;
}

/// A family of templates, by marks that all stand in its text, and one that does not.
struct ChatFamily {
  const char* name;
  std::array<const char*, 2> marks;
  const char* never;
  ChatPrompt (*fill)(const ChatRequest&);
  bool takes_system;
  std::string (*said)(const std::string& jinja,
                      const std::string& content);  ///< an answer, without the end of its turn
  const char* between;  ///< what stands between an answer and the next question; null: there is no known form
};
constexpr std::array<ChatFamily, 5> kChatFamilies = {
    {{"ChatML", {"<|im_start|>", "<|im_end|>"}, "<|im_sep|>", as_chatml, true, said_as_it_is, "\n"},
     {"Llama 3", {"<|start_header_id|>", "<|eot_id|>"}, "<|im_start|>", as_llama3, true, said_trimmed, ""},
     {"Llama 2", {"[INST]", "<<SYS>>"}, "<|im_start|>", as_llama2, true, said_between_spaces, nullptr},
     {"Mistral", {"[INST]", "[/INST]"}, "<<SYS>>", as_mistral, false, said_as_mistral, ""},
     {"Zephyr", {"<|user|>", "eos_token"}, "<|end|>", as_zephyr, true, said_as_it_is, "\n"}}};

std::string template_in_config(const fs::path& path) {
  const Json config = read_json(path);
  const Json found = config.is_object() ? config.value("chat_template", Json()) : Json();
  if (found.is_string()) return found.get<std::string>();
  for (const Json& one : found.is_array() ? found : Json::array()) {
    if (one.is_object() && one.value("name", Json()) == "default" && one.value("template", Json()).is_string())
      return one["template"].get<std::string>();
  }
  return "";
}

/// Empty: there is none.
std::string found_template(const fs::path& tokenizer) {
  if (gguf::is_gguf(tokenizer)) return gguf_string_or(gguf::File(tokenizer), "tokenizer.chat_template", "");
  const fs::path folder = fs::is_directory(tokenizer) ? tokenizer : tokenizer.parent_path();
  const fs::path jinja = folder / "chat_template.jinja", config = folder / "tokenizer_config.json";
  if (fs::exists(jinja)) return read_file(jinja);
  return fs::exists(config) ? template_in_config(config) : "";
}

}  // namespace

bool has_chat_template(const fs::path& tokenizer) { return !found_template(tokenizer).empty(); }

std::string read_chat_template(const fs::path& tokenizer) {
  std::string found = found_template(tokenizer);
  if (!found.empty()) return found;
  throw DataError(cat(tokenizer.string(),
                      ": holds no chat template (chat_template of tokenizer_config.json, chat_template.jinja, or "
                      "tokenizer.chat_template of a GGUF file)"));
}

namespace {

const ChatFamily& family_of(const std::string& jinja, bool system, const std::string& where) {
  std::string known;
  for (const ChatFamily& family : kChatFamilies) {
    known += cat(known.empty() ? "" : ", ", family.name);
    if (!contains(jinja, family.marks[0]) || !contains(jinja, family.marks[1]) || contains(jinja, family.never))
      continue;
    if (system && !family.takes_system)
      throw DataError(cat(where, ": its chat template, ", family.name, "'s, has no place for a system message"));
    return family;
  }
  throw DataError(cat(where, ": its chat template, '", for_message(jinja), "', is of no known family: ", known));
}

bool begins_with_bos(const std::string& jinja) {
  return contains(jinja, "bos_token") || contains(jinja, "<|begin_of_text|>");
}

}  // namespace

ChatPrompt chat_prompt(const std::string& jinja, const std::optional<std::string>& system, const std::string& question,
                       const std::string& eos, const std::string& where) {
  ChatPrompt prompt = family_of(jinja, system.has_value(), where).fill({jinja, system, question, eos});
  prompt.begins_with_bos = begins_with_bos(jinja);
  return prompt;
}

ChatText chat_text(const std::string& jinja, const std::vector<ChatMessage>& messages, const std::string& eos,
                   const std::string& where) {
  std::optional<std::string> system;
  std::size_t next = 0;
  if (!messages.empty() && messages[0].role == "system") system = messages[next++].content;
  const ChatFamily& family = family_of(jinja, system.has_value(), where);
  ChatText text;
  text.begins_with_bos = begins_with_bos(jinja);
  const std::size_t first = next;
  for (; next < messages.size(); next += 2) {
    if (next + 1 >= messages.size() || messages[next].role != "user" || messages[next + 1].role != "assistant") {
      throw DataError(cat(where, ": messages[", next,
                          "]: expected a message of the user and one of the assistant after "
                          "it, again and again, after at most one of the system"));
    }
    const bool goes_on = next > first;
    if (goes_on && family.between == nullptr)
      throw DataError(cat(where, ": messages[", next, "]: of the chat template, ", family.name,
                          "'s, one question and its answer are known alone"));
    if (goes_on) text.pieces.push_back({family.between, false});
    const ChatPrompt prompt = family.fill({jinja, system, messages[next].content, eos, goes_on});
    text.pieces.push_back({prompt.text, false});
    text.pieces.push_back({family.said(jinja, messages[next + 1].content) + prompt.end_of_turn, true});
  }
  if (text.pieces.empty()) throw DataError(cat(where, ": messages: holds no question with its answer"));
  return text;
}

}  // namespace mla
