// The attribute part of Hdf5File.
#include <algorithm>
#include <exception>
#include <optional>

#include "core/store/hdf5_file.h"
#include "core/store/hdf5_handle.h"

namespace mla {
namespace {

using hdf5::checked;
using hdf5::Handle;
using hdf5::Place;
using hdf5::text_type;

/// The type that h5py gives to numpy.bool_.
hid_t bool_type() {
  const hid_t type = H5Tenum_create(H5T_NATIVE_INT8);
  constexpr std::int8_t kFalse = 0;
  constexpr std::int8_t kTrue = 1;
  H5Tenum_insert(type, "FALSE", &kFalse);
  H5Tenum_insert(type, "TRUE", &kTrue);
  return type;
}

/// The type in memory and the type on disk of each kind of value.
struct Types {
  Handle memory, disk;
};

Types types_of(bool) { return {{bool_type(), H5Tclose}, {bool_type(), H5Tclose}}; }
Types types_of(std::int64_t) { return {{H5Tcopy(H5T_NATIVE_INT64), H5Tclose}, {H5Tcopy(H5T_STD_I64LE), H5Tclose}}; }
Types types_of(std::uint64_t) { return {{H5Tcopy(H5T_NATIVE_UINT64), H5Tclose}, {H5Tcopy(H5T_STD_U64LE), H5Tclose}}; }
Types types_of(double) { return {{H5Tcopy(H5T_NATIVE_DOUBLE), H5Tclose}, {H5Tcopy(H5T_IEEE_F64LE), H5Tclose}}; }
Types types_of(const std::string&) { return {{text_type(), H5Tclose}, {text_type(), H5Tclose}}; }

herr_t write_value(hid_t attribute, hid_t type, const std::string& value) {
  const char* text = value.c_str();
  return H5Awrite(attribute, type, &text);
}
template <class T>
herr_t write_value(hid_t attribute, hid_t type, const T& value) {
  return H5Awrite(attribute, type, &value);
}

template <class T>
AttributeValue read_value(hid_t attribute, const Place& place) {
  T value{};
  const Types types = types_of(value);
  if constexpr (std::is_same_v<T, std::string>) {
    char* text = nullptr;
    checked(H5Aread(attribute, types.memory, &text), place, "cannot be read");
    if (text != nullptr) value = text;
    H5free_memory(text);
  } else {
    checked(H5Aread(attribute, types.memory, &value), place, "cannot be read");
  }
  return value;
}

/// Reads a value that needs no conversion; types in memory and in the file are made once and not for every value.
template <class T>
T read_plain(hid_t attribute, hid_t type, const Place& place) {
  T value{};
  checked(H5Aread(attribute, type, &value), place, "cannot be read");
  return value;
}

/// Whether an enumeration is that of booleans: FALSE and TRUE.
bool is_bool(hid_t type) {
  std::int64_t value = 0;  // at least as large as a member
  if (H5Tget_nmembers(type) != 2 || H5Tget_size(type) > sizeof value) return false;
  const bool known = H5Tenum_valueof(type, "FALSE", &value) >= 0 && H5Tenum_valueof(type, "TRUE", &value) >= 0;
  H5Eclear2(H5E_DEFAULT);
  return known;
}

/// A boolean as h5py writes them, a byte in an enumeration, needs no conversion either.
bool read_bool(hid_t attribute, hid_t type, const Place& place) {
  if (H5Tget_size(type) != 1) return std::get<bool>(read_value<bool>(attribute, place));
  return read_plain<std::int8_t>(attribute, type, place) != 0;
}

/// The value of an open attribute; null for a kind that has none here.
std::optional<AttributeValue> read_any(hid_t attribute, const Place& place) {
  const Handle space(checked(H5Aget_space(attribute), place, "has no shape"), H5Sclose);
  if (H5Sget_simple_extent_npoints(space) != 1) return {};
  const Handle type(checked(H5Aget_type(attribute), place, "has no type"), H5Tclose);
  switch (H5Tget_class(type)) {
    case H5T_ENUM:
      if (!is_bool(type)) return {};
      return read_bool(attribute, type, place);
    case H5T_FLOAT:
      return read_plain<double>(attribute, H5T_NATIVE_DOUBLE, place);
    case H5T_INTEGER:
      if (H5Tget_sign(type) == H5T_SGN_NONE) return read_plain<std::uint64_t>(attribute, H5T_NATIVE_UINT64, place);
      return read_plain<std::int64_t>(attribute, H5T_NATIVE_INT64, place);
    case H5T_STRING:
      if (H5Tis_variable_str(type) > 0) return read_value<std::string>(attribute, place);
      return {};
    default:
      return {};
  }
}

/// What an iteration over attributes collects. Exceptions must not pass through HDF5.
struct Collected {
  const std::string& file;
  const std::string& object;
  const std::vector<std::string>& except;
  std::vector<std::pair<std::string, AttributeValue>> values;
  std::exception_ptr failure;
};

herr_t collect(hid_t object, const char* name, const H5A_info_t*, void* out) {
  auto& collected = *static_cast<Collected*>(out);
  try {
    if (std::find(collected.except.begin(), collected.except.end(), name) != collected.except.end()) return 0;
    const std::string label = cat(collected.object, "@", name);
    const Place place{collected.file, label};
    const Handle attribute(checked(H5Aopen(object, name, H5P_DEFAULT), place, "cannot be opened"), H5Aclose);
    if (auto value = read_any(attribute, place)) collected.values.emplace_back(name, *std::move(value));
    return 0;
  } catch (const DataError&) {
    return 0;  // in a form that this library cannot read; whoever needs it finds it missing
  } catch (...) {
    collected.failure = std::current_exception();
    return -1;
  }
}

}  // namespace

void Hdf5File::set_attribute(const std::string& object, const std::string& name, const AttributeValue& value) {
  const std::string label = object + "@" + name;
  const Place place{name_, label};
  if (has_attribute(object, name)) {
    checked(H5Adelete_by_name(id_, object.c_str(), name.c_str(), H5P_DEFAULT), place, "cannot be replaced");
  }
  std::visit(
      [&](const auto& held) {
        const Types types = types_of(held);
        const Handle space(H5Screate(H5S_SCALAR), H5Sclose);
        const hid_t id = H5Acreate_by_name(id_, object.c_str(), name.c_str(), types.disk, space, H5P_DEFAULT,
                                           H5P_DEFAULT, H5P_DEFAULT);
        const Handle attribute(checked(id, place, "cannot be made"), H5Aclose);
        checked(write_value(attribute, types.memory, held), place, "cannot be written");
      },
      value);
}

bool Hdf5File::has_attribute(const std::string& object, const std::string& name) const {
  return H5Aexists_by_name(id_, object.c_str(), name.c_str(), H5P_DEFAULT) > 0;
}

AttributeValue Hdf5File::attribute(const std::string& object, const std::string& name) const {
  const std::string label = object + "@" + name;
  const Place place{name_, label};
  const hid_t id = H5Aopen_by_name(id_, object.c_str(), name.c_str(), H5P_DEFAULT, H5P_DEFAULT);
  const Handle attribute(checked(id, place, "no such attribute"), H5Aclose);
  auto value = read_any(attribute, place);
  if (!value) hdf5::fail(place, "expected a single boolean, number or text of variable length");
  return *std::move(value);
}

std::vector<std::pair<std::string, AttributeValue>> Hdf5File::attributes(const std::string& object,
                                                                         const std::vector<std::string>& except) const {
  const Handle id(checked(H5Oopen(id_, object.c_str(), H5P_DEFAULT), {name_, object}, "cannot be opened"), H5Oclose);
  Collected collected{name_, object, except, {}, {}};
  const herr_t status = H5Aiterate2(id, H5_INDEX_NAME, H5_ITER_INC, nullptr, collect, &collected);
  if (collected.failure) {
    H5Eclear2(H5E_DEFAULT);
    std::rethrow_exception(collected.failure);
  }
  checked(status, {name_, object}, "its attributes cannot be listed");
  return std::move(collected.values);
}

std::vector<std::string> Hdf5File::attribute_names(const std::string& object) const {
  const Handle id(checked(H5Oopen(id_, object.c_str(), H5P_DEFAULT), {name_, object}, "cannot be opened"), H5Oclose);
  std::vector<std::string> names;
  const auto add = [](hid_t, const char* name, const H5A_info_t*, void* out) -> herr_t {
    static_cast<std::vector<std::string>*>(out)->emplace_back(name);
    return 0;
  };
  checked(H5Aiterate2(id, H5_INDEX_NAME, H5_ITER_INC, nullptr, add, &names), {name_, object},
          "its attributes cannot be listed");
  return names;
}

}  // namespace mla
