#include "core/base/yaml.h"

#include <yaml-cpp/eventhandler.h>
#include <yaml-cpp/exceptions.h>
#include <yaml-cpp/mark.h>
#include <yaml-cpp/parser.h>

#include <algorithm>
#include <map>
#include <optional>
#include <sstream>
#include <utility>
#include <vector>

#include "core/base/error.h"
#include "core/base/file.h"
#include "core/base/yaml_scalar.h"

namespace mla {
namespace {

/// Values of a document at most, those of aliases counted wherever they stand: a few lines may stand for billions.
constexpr std::size_t kMostValues = 1'000'000;

/// A value, and how much is in it.
struct Sized {
  Json value;
  std::size_t values = 1, depth = 0;
};

/// A list or an object that is being read.
struct Open {
  Sized made;
  YAML::anchor_t anchor;
  std::optional<std::string> key;    ///< of an object: whose value comes next
  std::map<std::string, int> lines;  ///< of its keys
};

/// Makes a Json of the parser's events.
class Builder final : public YAML::EventHandler {
 public:
  explicit Builder(std::string name) : name_(std::move(name)) {}

  void OnDocumentStart(const YAML::Mark&) override {}
  void OnDocumentEnd() override {}

  void OnNull(const YAML::Mark& mark, YAML::anchor_t anchor) override {
    if (is_key_next()) fail(mark, "a key is missing, or is no text");
    put(mark, {Json()}, anchor);
  }

  void OnAlias(const YAML::Mark& mark, YAML::anchor_t anchor) override {
    if (is_key_next()) fail(mark, "an alias stands for a key; write the key");
    const auto found = anchors_.find(anchor);
    if (found == anchors_.end()) fail(mark, "an alias stands inside what it stands for");
    put(mark, found->second, 0);
  }

  void OnScalar(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                const std::string& text) override {
    if (is_key_next()) return take_key(mark, tag, text);
    try {
      put(mark, {yaml_scalar(tag, text)}, anchor);
    } catch (const DataError& error) {
      fail(mark, error.what());
    }
  }

  void OnSequenceStart(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                       YAML::EmitterStyle::value) override {
    open(mark, tag, "seq", Json::array(), anchor);
  }
  void OnSequenceEnd() override { close(); }

  void OnMapStart(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                  YAML::EmitterStyle::value) override {
    open(mark, tag, "map", Json::object(), anchor);
  }
  void OnMapEnd() override { close(); }

  [[noreturn]] void fail(const YAML::Mark& mark, const std::string& what) const {
    throw DataError(cat(name_, ":", mark.line + 1, ":", mark.column + 1, ": ", what));
  }

  Json result;

 private:
  bool is_key_next() const { return !open_.empty() && open_.back().made.value.is_object() && !open_.back().key; }

  void take_key(const YAML::Mark& mark, const std::string& tag, const std::string& text) {
    if (text == "<<" && tag == "?")
      fail(mark, "'<<' is no key of YAML 1.2; name a \"base\", or repeat the values by an alias");
    const auto [known, is_new] = open_.back().lines.emplace(text, mark.line + 1);
    if (!is_new) fail(mark, cat("the key '", brief_text(text), "' is given twice, first in line ", known->second));
    if (open_.back().lines.size() > kJsonKeys) fail(mark, cat("more than ", kJsonKeys, " keys in one object"));
    open_.back().key = text;
  }

  void open(const YAML::Mark& mark, const std::string& tag, const std::string& usual, Json value,
            YAML::anchor_t anchor) {
    if (is_key_next()) fail(mark, "a key is a list or an object; keys are text");
    if (tag != "?" && tag != "!" && !tag.empty() && tag != "tag:yaml.org,2002:" + usual)
      fail(mark, cat("the tag '", brief_text(tag), "' does not fit; config files need none"));
    if (open_.size() >= kJsonDepth) fail(mark, cat("nested too deep; at most ", kJsonDepth, " levels"));
    open_.push_back({{std::move(value), 1, 1}, anchor, {}, {}});
    mark_ = mark;
  }

  void close() {
    Open done = std::move(open_.back());
    open_.pop_back();
    put(mark_, std::move(done.made), done.anchor);
  }

  /// A finished value, to where it belongs.
  void put(const YAML::Mark& mark, Sized one, YAML::anchor_t anchor) {
    if (anchor != 0) anchors_[anchor] = one;
    if (open_.empty()) {
      result = std::move(one.value);
      return;
    }
    Open& parent = open_.back();
    parent.made.values += one.values;
    parent.made.depth = std::max(parent.made.depth, one.depth + 1);
    if (parent.made.values > kMostValues) fail(mark, cat("more than ", kMostValues, " values"));
    if (parent.made.depth > kJsonDepth) fail(mark, cat("nested too deep; at most ", kJsonDepth, " levels"));
    if (parent.made.value.is_array()) {
      parent.made.value.push_back(std::move(one.value));
    } else {
      parent.made.value[*parent.key] = std::move(one.value);
      parent.key.reset();
    }
  }

  std::string name_;
  std::vector<Open> open_;
  std::map<YAML::anchor_t, Sized> anchors_;
  YAML::Mark mark_;  ///< of the list or object that began last
};

void expect_text(const std::string& text, const std::string& name) {
  if (text.find('\0') != std::string::npos) throw DataError(cat(name, ": a zero byte; YAML is text"));
  try {
    (void)Json(text).dump();
  } catch (const nlohmann::json::exception&) {
    throw DataError(cat(name, ": not UTF-8"));
  }
}

}  // namespace

Json parse_yaml(const std::string& text, const std::string& name) {
  expect_text(text, name);
  Builder builder(name);
  try {
    std::istringstream in(text);
    YAML::Parser parser(in);
    if (!parser.HandleNextDocument(builder)) return {};
    const Json first = std::move(builder.result);
    if (parser.HandleNextDocument(builder)) throw DataError(cat(name, ": holds several documents; write one a file"));
    return first;
  } catch (const YAML::Exception& error) {
    builder.fail(error.mark, "malformed YAML: " + error.msg);
  }
}

bool is_yaml(const std::filesystem::path& path) {
  const std::string extension = path.extension().string();
  return extension == ".yaml" || extension == ".yml";
}

Json read_json_or_yaml(const std::filesystem::path& path) {
  return is_yaml(path) ? parse_yaml(read_file(path), path.string()) : read_json(path);
}

}  // namespace mla
