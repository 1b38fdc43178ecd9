// A struct's field list as an HDF5 group: scalars are attributes, vectors are datasets, descriptions go with them.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "core/base/fields.h"
#include "core/store/hdf5_file.h"

namespace mla {

/// A JSON scalar as an attribute; objects and arrays as JSON text.
AttributeValue attribute_from_json(const Json& value);

/// The attribute's value as a JSON scalar.
Json json_from_attribute(const AttributeValue& value);

/// [rows][columns] with equally long rows, as a matrix and back. Throws DataError naming `place` for another shape.
NdArray<std::int64_t> matrix_from_rows(const std::vector<std::vector<std::int64_t>>& rows);
std::vector<std::vector<std::int64_t>> rows_from_matrix(const NdArray<std::int64_t>& matrix, const std::string& place);

namespace detail {

using Rows = std::vector<std::vector<std::int64_t>>;

struct GroupWriter {
  Hdf5File& file;
  const std::string& group;
  Json descriptions = Json::object();

  template <class T>
  void operator()(const char* name, const T& value, const char* description) {
    const std::string path = cat(group, group.ends_with('/') ? "" : "/", name);
    if constexpr (std::is_same_v<T, Rows>) {
      file.write(path, matrix_from_rows(value));
      file.set_attribute(path, "description", std::string(description));
    } else if constexpr (is_vector<T>::value) {
      file.write(path, NdArray<typename T::value_type>{{value.size()}, value});
      file.set_attribute(path, "description", std::string(description));
    } else {
      descriptions[name] = description;
      const Json json = write_value(value);
      if (!json.is_null()) file.set_attribute(group, name, attribute_from_json(json));
    }
  }
};

/// Whether a group of the struct cannot do without the field: see read_group().
template <class Struct>
bool is_required(const char* name) {
  if constexpr (requires { Struct::kRequired; }) {
    for (const std::string_view required : Struct::kRequired) {
      if (required == name) return true;
    }
  }
  return false;
}

template <class Struct>
struct GroupReader {
  const Hdf5File& file;
  const std::string& group;

  template <class T>
  void operator()(const char* name, T& value, const char*) {
    const std::string path = cat(group, group.ends_with('/') ? "" : "/", name);
    const bool there = is_vector<T>::value ? file.exists(path) : file.has_attribute(group, name);
    if (!there && !is_required<Struct>(name)) return;
    if constexpr (std::is_same_v<T, Rows>) {
      value = rows_from_matrix(file.read<std::int64_t>(path), file.name() + ": " + path);
    } else if constexpr (is_vector<T>::value) {
      value = file.read<typename T::value_type>(path).values;
    } else {
      Json json = json_from_attribute(file.attribute(group, name));
      if (std::is_same_v<T, Json> && json.is_string()) {
        json = parse_json(json.template get<std::string>(), cat(file.name(), ": ", group, "@", name));
      }
      read_value(json, cat(group, "@", name), value);
    }
  }
};

}  // namespace detail

/// Writes the fields of `value` into `group`, with an attribute "fields": a JSON object of the scalars' descriptions.
template <class T>
void write_group(Hdf5File& file, const std::string& group, const T& value) {
  file.make_group(group);
  detail::GroupWriter writer{file, group};
  T::fields(value, writer);
  file.set_attribute(group, "fields", writer.descriptions.dump());
}

/// Reads the fields back. A field that the group lacks keeps its default, so that records of before the field was there
/// stay readable, unless the struct's `static constexpr const char* kRequired[]` names it: numbers whose default would
/// be taken for a measurement. Throws DataError for a required field that is missing, and for values of another type.
template <class T>
T read_group(const Hdf5File& file, const std::string& group) {
  T value{};
  detail::GroupReader<T> reader{file, group};
  try {
    T::fields(value, reader);
  } catch (const ConfigError& error) {
    throw DataError(cat(file.name(), ": ", error.what()));
  }
  return value;
}

}  // namespace mla
