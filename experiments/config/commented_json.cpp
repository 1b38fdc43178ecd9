#include "experiments/config/commented_json.h"

#include <map>
#include <sstream>
#include <utility>

#include "core/base/error.h"
#include "core/base/yaml.h"

namespace mla {
namespace {

/// The lines of comment of each key; those of the file, which an empty line ends, under "".
std::map<std::string, std::string> comments_of(const std::string& yaml) {
  std::map<std::string, std::string> comments;
  std::string waiting, key;
  std::istringstream lines(yaml);
  for (std::string line; std::getline(lines, line);) {
    const std::size_t begin = line.find_first_not_of(' ');
    if (begin == std::string::npos) {
      if (key.empty()) comments[""] += std::exchange(waiting, "");
    } else if (line[begin] == '#') {
      (begin == 0 ? waiting : comments[key]) += "//" + line.substr(begin + 1) + "\n";
    } else if (begin == 0) {
      key = line.substr(0, line.find(':'));
      comments[key] = std::exchange(waiting, "");
    }
  }
  comments[""] += waiting;  // of what was left out
  return comments;
}

std::string indented(const std::string& text) {
  std::string result;
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);) result += "  " + line + "\n";
  return result;
}

}  // namespace

std::string commented_json(const std::string& yaml) {
  const std::map<std::string, std::string> comments = comments_of(yaml);
  const Json config = parse_yaml(yaml, "the config");
  std::string members;
  for (const auto& [key, value] : config.items()) {
    if (!members.empty()) members.insert(members.size() - 1, ",");
    const auto comment = comments.find(key);
    members += indented(comment == comments.end() ? "" : comment->second);
    members += indented(cat(Json(key).dump(), ": ", value.dump(2)));
  }
  return cat(comments.at(""), "{\n", members, "}\n");
}

}  // namespace mla
