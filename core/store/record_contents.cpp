#include "core/store/record_contents.h"

#include <algorithm>
#include <bit>
#include <set>

#include "core/base/error.h"
#include "core/base/hash.h"
#include "core/store/record_file.h"

namespace mla {
namespace {

constexpr const char* kChecksum = "checksum";
constexpr int kDeepest = 16;  ///< groups within groups; a record has four

std::string path_of(const std::string& group, const std::string& name) {
  return cat(group, group.ends_with('/') ? "" : "/", name);
}

/// The list of a group as it is now.
Json list_of(const Hdf5File& file, const std::string& group) {
  Json members = Json::object();
  for (const std::string& name : file.children(group)) {
    const std::string path = path_of(group, name);
    if (path == kContents) continue;
    members[name] = file.kind(path) == Hdf5Kind::kGroup ? list_of(file, path) : Json(file.attribute_names(path));
  }
  return members;
}

/// Attributes that the program gives a group: those that its `fields` describes, and those of the file itself.
std::set<std::string> attributes_of(const Hdf5File& file, const std::string& group) {
  std::set<std::string> names;
  if (group == "/") names = {"format", "version"};
  if (!file.has_attribute(group, "fields")) return names;
  names.insert("fields");
  const AttributeValue fields = file.attribute(group, "fields");
  const auto* text = std::get_if<std::string>(&fields);
  if (!text) return names;
  const Json described = parse_json(*text, cat(file.name(), ": ", group, "@fields"));
  if (!described.is_object()) return names;
  for (const auto& [name, description] : described.items()) names.insert(name);
  return names;
}

/// Walks over what a list names: hashes it and finds what stands beside it.
class Walk {
 public:
  explicit Walk(const Hdf5File& file) : file_(file) {}

  void group(const std::string& path, const Json& members, int depth = 0) {
    if (depth > kDeepest) throw DataError(cat(file_.name(), ": ", kContents, ": groups lie too deep"));
    attributes(path, attributes_of(file_, path));
    for (const std::string& name : file_.children(path)) {
      const std::string child = path_of(path, name);
      if (!members.contains(name) && child != kContents) added_.push_back(child);
    }
    for (const std::string& name : file_.links(path)) added_.push_back(path_of(path, name));
    for (const auto& [name, listed] : members.items()) {
      const std::string child = path_of(path, name);
      if (listed.is_object()) {
        expects_kind(child, file_.kind(child) == Hdf5Kind::kGroup);
        group(child, listed, depth + 1);
      } else {
        array(child, listed);
      }
    }
  }

  std::string checksum() const { return hasher_.digest(); }
  std::vector<std::string> added() const { return added_; }

 private:
  void expects_kind(const std::string& path, bool fits) const {
    if (!fits) throw DataError(cat(file_.name(), ": ", path, ": is not what was written there"));
  }

  void add(std::string_view text) {
    hasher_.update(cat(text.size(), ":"));
    hasher_.update(text);
  }

  void attributes(const std::string& path, const std::set<std::string>& listed) {
    add(path);
    for (const std::string& name : file_.attribute_names(path)) {
      if (!listed.contains(name)) added_.push_back(cat(path, "@", name));
    }
    for (const auto& [name, value] : file_.attributes(path)) {
      if (!listed.contains(name)) continue;
      add(name);
      add(cat(value.index()));
      std::visit([&](const auto& held) { add(held); }, value);
    }
  }

  void add(double value) { add(cat(std::bit_cast<std::uint64_t>(value))); }
  void add(std::int64_t value) { add(cat(value)); }
  void add(std::uint64_t value) { add(cat(value)); }
  void add(bool value) { add(value ? std::string_view("true") : std::string_view("false")); }
  void add(const std::string& value) { add(std::string_view(value)); }

  void array(const std::string& path, const Json& listed) {
    std::set<std::string> names;
    for (const Json& name : listed) {
      if (name.is_string()) names.insert(name.get<std::string>());
    }
    const Hdf5Kind kind = file_.kind(path);
    expects_kind(path, kind == Hdf5Kind::kNumbers || kind == Hdf5Kind::kTexts);
    attributes(path, names);
    for (const std::size_t extent : file_.shape(path)) add(static_cast<std::uint64_t>(extent));
    if (kind == Hdf5Kind::kTexts) {
      for (const std::string& text : file_.read<std::string>(path).values) add(text);
      return;
    }
    const auto values = file_.read<double>(path).values;
    hasher_.update(std::string_view(reinterpret_cast<const char*>(values.data()), values.size() * sizeof(double)));
  }

  const Hdf5File& file_;
  Hasher hasher_;
  std::vector<std::string> added_;
};

/// The list of a record, and the hash of everything that it names.
std::string checksum_of(const std::string& list, const Walk& walk) { return hash_bytes(list + walk.checksum()); }

}  // namespace

void write_contents(Hdf5File& record) {
  const std::string list = list_of(record, "/").dump(-1, ' ', false, Json::error_handler_t::replace);
  Walk walk(record);
  walk.group("/", parse_json(list, record.name()));
  record.write(kContents, NdArray<std::string>{{}, {list}});
  record.set_attribute(kContents, "description",
                       std::string("what this program wrote, JSON: groups with their members, arrays with their "
                                   "attributes; the checksum is over the values of all of it"));
  record.set_attribute(kContents, kChecksum, checksum_of(list, walk));
}

std::optional<ContentsCheck> check_contents(const Hdf5File& record) {
  if (record.kind(kContents) == Hdf5Kind::kMissing) return {};
  ContentsCheck check;
  Walk walk(record);
  try {
    const auto text = record.read<std::string>(kContents).values;
    const std::string list = text.empty() ? "" : text.front();
    walk.group("/", parse_json(list, record.name()));
    check.unchanged = record.attribute(kContents, kChecksum) == AttributeValue(checksum_of(list, walk));
  } catch (const DataError&) {
    check.unchanged = false;  // something listed is gone, or of another kind
  }
  check.added = walk.added();
  return check;
}

RecordCheck check_record(const std::filesystem::path& path) {
  Hdf5File file = open_record(path);
  if (file.sealed()) return {};
  file.hide({});  // what was added is what is asked for
  const auto contents = check_contents(file);
  if (!contents) return {RecordState::kUnchecked, {}};
  return {RecordState::kAnnotated, contents->added};
}

}  // namespace mla
