// Records: the file as bytes, the note behind its checksum, and HDF5 content of another shape than records have.
//
// HDF5 1.10 itself crashes on some damaged files, which is why a checksum stands before it. The bytes of a file are
// therefore tried with the checksum that they have; what lies behind a right one is tried by writing it.
#include <fmt/format.h>

#include "core/base/file.h"
#include "core/base/hash.h"
#include "core/store/hdf5_file.h"
#include "core/store/record.h"
#include "core/store/record_contents.h"
#include "core/store/record_outline.h"
#include "tests/analysis/synthetic_records.h"
#include "tests/fuzz/support/input_files.h"
#include "tests/fuzz/support/target.h"

namespace mla::fuzz {
namespace {

RunRecord small_record() {
  RunRecord record = test::synthetic_record({});
  record.compression.resize(1);
  record.evaluation.resize(1);
  record.cache.resize(1);
  record.cached_decoding = {{"converted", "text", "quanto-4", 4, 4.5, 64, 32, 100, 100, 1.5, 0.1, 4.5, 60}};
  return record;
}

/// The same record as a file's bytes.
std::string record_bytes() {
  const auto path = input_file("record/seed.h5", "");
  write_record(path, small_record());
  return read_file(path);
}

void read_all(const std::filesystem::path& path) {
  OutlineParts everything;
  everything.provenance = true;
  read_outline(path, everything);
  read_record_head(path);
  read_record(path);
}

std::vector<std::string> record_seeds() { return {record_bytes()}; }

void run_record(std::string_view input) { read_all(input_file("record/a.h5", input)); }

const Registration kRecord({"record_bytes", run_record, record_seeds, {"XXH3-128", "\nnote "}});

std::vector<std::string> note_seeds() { return {Hdf5File::read_note(input_file("record/seed.h5", record_bytes()))}; }

/// The input is the note of an otherwise whole record, under a checksum that fits.
void run_note(std::string_view input) {
  static const std::string content = [] {
    const std::string bytes = record_bytes();
    return bytes.substr(0, Hdf5File::content_size(bytes));
  }();
  std::string file = content + std::string(input) + fmt::format("\nnote {:08}", input.size());
  file += "\nXXH3-128 " + hash_bytes(file) + "\n";
  read_all(input_file("record/note.h5", file));
}

const Registration kNote({"record_note", run_note, note_seeds, {"nan", "inf", "config", "evaluation", "head"}});

/// A list, or a list of rows.
Json numbers(const NdArray<double>& array) {
  if (array.shape.size() != 2) return array.values;
  Json rows = Json::array();
  const auto columns = static_cast<std::ptrdiff_t>(array.shape[1]);
  for (auto at = array.values.begin(); at != array.values.end() && columns > 0; at += columns)
    rows.push_back(std::vector<double>(at, at + columns));
  return rows;
}

/// All that a file holds as one JSON object: "/group@name" for attributes, "/path" for datasets.
void describe(const Hdf5File& file, const std::string& group, Json& out) {
  const auto attributes_of = [&](const std::string& object) {
    for (const auto& [name, value] : file.attributes(object))
      std::visit([&](const auto& held) { out[object + "@" + name] = held; }, value);
  };
  attributes_of(group);
  for (const std::string& child : file.children(group)) {
    const std::string path = group == "/" ? "/" + child : group + "/" + child;
    if (path == kContents) continue;  // the list of what it holds, of which any change is damage
    const Hdf5Kind kind = file.kind(path);
    if (kind == Hdf5Kind::kGroup) describe(file, path, out);
    if (kind == Hdf5Kind::kTexts) out[path] = file.read<std::string>(path).values;
    if (kind == Hdf5Kind::kNumbers) out[path] = numbers(file.read<double>(path));
  }
}

std::vector<std::string> content_seeds() {
  Json out = Json::object();
  describe(Hdf5File::open(input_file("record/seed.h5", record_bytes())), "/", out);
  return {out.dump()};
}

void write_dataset(Hdf5File& file, const std::string& path, const Json& value) {
  if (file.exists(path)) return;
  const bool texts = std::any_of(value.begin(), value.end(), [](const Json& item) { return item.is_string(); });
  const bool rows = !value.empty() && value.front().is_array();
  if (texts) {
    NdArray<std::string> array{{value.size()}, {}};
    for (const Json& item : value) array.values.push_back(item.is_string() ? item.get<std::string>() : item.dump());
    file.write(path, array);
  } else if (rows) {
    NdArray<std::int64_t> array{{value.size(), value.front().size()}, {}};
    array.values.resize(value.size() * value.front().size(), 1);
    file.write(path, array);
  } else {
    NdArray<double> array{{value.size()}, {}};
    for (const Json& item : value) array.values.push_back(item.is_number() ? item.get<double>() : 0);
    file.write(path, array);
  }
}

void write_entry(Hdf5File& file, const std::string& key, const Json& value) {
  const std::size_t at = key.find('@');
  if (key.size() > 200 || !key.starts_with('/')) return;
  const std::string object = key.substr(0, at);
  if (at == std::string::npos) {
    if (value.is_array()) write_dataset(file, key, value);
    return;
  }
  if (!file.exists(object)) file.make_group(object);
  const std::string name = key.substr(at + 1);
  if (name.empty() || file.has_attribute(object, name)) return;
  if (value.is_boolean()) file.set_attribute(object, name, value.get<bool>());
  if (value.is_number_unsigned() && (name == "seed" || value.get<std::uint64_t>() > INT64_MAX)) {
    file.set_attribute(object, name, value.get<std::uint64_t>());
  } else if (value.is_number_integer()) {
    file.set_attribute(object, name, value.get<std::int64_t>());
  } else if (value.is_number()) {
    file.set_attribute(object, name, value.get<double>());
  }
  if (value.is_string()) file.set_attribute(object, name, value.get<std::string>());
}

/// A whole HDF5 file made of what the input lists.
void run_content(std::string_view input) {
  const Json entries = Json::parse(input, nullptr, false);
  if (!entries.is_object()) return;
  const auto path = input_file("record/content.h5", "");
  {
    Hdf5File file = Hdf5File::create("content");
    try {
      for (const auto& [key, value] : entries.items()) write_entry(file, key, value);
    } catch (const DataError&) {
      return;  // not one that can be written
    }
    file.save(path);
  }
  read_arrays(path, {"/training/loss", "/training/step", "/none"});
  read_all(path);
}

const Registration kContent({"record_content",
                             run_content,
                             content_seeds,
                             {"/@status", "/@version", "/@format", "/config", "/training/loss",
                              "/compression/layer_000@joint_error",
                              "/evaluation/source/agreement/accuracy_normalized@value", "failed", "mlaforge run record",
                              "/cache/source@tokens"}});

}  // namespace
}  // namespace mla::fuzz
