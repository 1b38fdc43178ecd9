// The array part of Hdf5File.
#include <algorithm>
#include <functional>
#include <numeric>

#include "core/store/hdf5_file.h"
#include "core/store/hdf5_handle.h"

namespace mla {
namespace {

using hdf5::checked;
using hdf5::Handle;
using hdf5::Place;
using hdf5::text_type;

constexpr hsize_t kChunkElements = 1 << 16;
constexpr unsigned kDeflateLevel = 4;

template <class T>
struct NumberType;
template <>
struct NumberType<double> {
  static hid_t memory() { return H5T_NATIVE_DOUBLE; }
  static hid_t disk() { return H5T_IEEE_F64LE; }
};
template <>
struct NumberType<float> {
  static hid_t memory() { return H5T_NATIVE_FLOAT; }
  static hid_t disk() { return H5T_IEEE_F32LE; }
};
template <>
struct NumberType<std::int64_t> {
  static hid_t memory() { return H5T_NATIVE_INT64; }
  static hid_t disk() { return H5T_STD_I64LE; }
};
template <>
struct NumberType<std::int32_t> {
  static hid_t memory() { return H5T_NATIVE_INT32; }
  static hid_t disk() { return H5T_STD_I32LE; }
};

std::size_t count_of(const std::vector<std::size_t>& shape) {
  return std::accumulate(shape.begin(), shape.end(), std::size_t{1}, std::multiplies<>());
}

hid_t make_space(const std::vector<std::size_t>& shape) {
  if (shape.empty()) return H5Screate(H5S_SCALAR);
  const std::vector<hsize_t> extents(shape.begin(), shape.end());
  return H5Screate_simple(static_cast<int>(extents.size()), extents.data(), nullptr);
}

std::vector<std::size_t> shape_of(hid_t space) {
  std::vector<hsize_t> extents(static_cast<std::size_t>(std::max(H5Sget_simple_extent_ndims(space), 0)));
  H5Sget_simple_extent_dims(space, extents.data(), nullptr);
  return {extents.begin(), extents.end()};
}

/// How an array of numbers is laid out: whole rows of about kChunkElements, compressed and with a checksum.
void compress(hid_t creation, const std::vector<std::size_t>& shape) {
  if (shape.empty() || count_of(shape) == 0) return;
  std::vector<hsize_t> chunk(shape.begin(), shape.end());
  hsize_t row = 1;
  for (std::size_t i = chunk.size(); i-- > 0;) {
    chunk[i] = std::clamp<hsize_t>(kChunkElements / row, 1, chunk[i]);
    row *= chunk[i];
  }
  H5Pset_chunk(creation, static_cast<int>(chunk.size()), chunk.data());
  H5Pset_shuffle(creation);
  H5Pset_deflate(creation, kDeflateLevel);
  H5Pset_fletcher32(creation);
}

/// A dataset's values as numbers of type T.
template <class T>
void read_values(hid_t dataset, hid_t type, const Place& place, std::vector<T>& values) {
  const H5T_class_t kind = H5Tget_class(type);
  if (kind != H5T_FLOAT && kind != H5T_INTEGER) hdf5::fail(place, "expected numbers");
  const hid_t memory = NumberType<T>::memory();
  checked(H5Dread(dataset, memory, H5S_ALL, H5S_ALL, H5P_DEFAULT, values.data()), place, "cannot be read");
}

void read_values(hid_t dataset, hid_t type, const Place& place, std::vector<std::string>& values) {
  if (H5Tget_class(type) != H5T_STRING || H5Tis_variable_str(type) <= 0) {
    hdf5::fail(place, "expected texts of variable length");
  }
  const Handle memory(text_type(), H5Tclose);
  std::vector<char*> texts(values.size(), nullptr);
  checked(H5Dread(dataset, memory, H5S_ALL, H5S_ALL, H5P_DEFAULT, texts.data()), place, "cannot be read");
  for (std::size_t i = 0; i < texts.size(); ++i) {
    if (texts[i] != nullptr) values[i] = texts[i];
    H5free_memory(texts[i]);
  }
}

template <class T>
herr_t write_values(hid_t dataset, const std::vector<T>& values) {
  return H5Dwrite(dataset, NumberType<T>::memory(), H5S_ALL, H5S_ALL, H5P_DEFAULT, values.data());
}

herr_t write_values(hid_t dataset, const std::vector<std::string>& values) {
  std::vector<const char*> texts;
  for (const std::string& value : values) texts.push_back(value.c_str());
  const Handle memory(text_type(), H5Tclose);
  return H5Dwrite(dataset, memory, H5S_ALL, H5S_ALL, H5P_DEFAULT, texts.data());
}

template <class T>
hid_t disk_type() {
  if constexpr (std::is_same_v<T, std::string>) {
    return text_type();
  } else {
    return H5Tcopy(NumberType<T>::disk());
  }
}

}  // namespace

template <class T>
void Hdf5File::write(const std::string& path, const NdArray<T>& array) {
  expects(count_of(array.shape) == array.values.size(), cat(path, ": the shape does not fit the values"));
  if (const std::size_t slash = path.rfind('/'); slash != 0 && slash != std::string::npos) {
    make_group(path.substr(0, slash));
  }
  const Place place{name_, path};
  const Handle space(make_space(array.shape), H5Sclose);
  const Handle type(disk_type<T>(), H5Tclose);
  const Handle creation(H5Pcreate(H5P_DATASET_CREATE), H5Pclose);
  if constexpr (!std::is_same_v<T, std::string>) compress(creation, array.shape);
  const hid_t id = H5Dcreate2(id_, path.c_str(), type, space, H5P_DEFAULT, creation, H5P_DEFAULT);
  const Handle dataset(checked(id, place, "cannot be made"), H5Dclose);
  if (!array.values.empty()) checked(write_values(dataset, array.values), place, "cannot be written");
}

template <class T>
NdArray<T> Hdf5File::read(const std::string& path) const {
  const Place place{name_, path};
  const Handle dataset(checked(H5Dopen2(id_, path.c_str(), H5P_DEFAULT), place, "no such dataset"), H5Dclose);
  const Handle type(checked(H5Dget_type(dataset), place, "has no type"), H5Tclose);
  const Handle space(checked(H5Dget_space(dataset), place, "has no shape"), H5Sclose);
  NdArray<T> array{shape_of(space), {}};
  array.values.resize(count_of(array.shape));
  if (!array.values.empty()) read_values(dataset, type, place, array.values);
  return array;
}

Hdf5Kind Hdf5File::kind(const std::string& path) const {
  if (path == "/") return Hdf5Kind::kGroup;
  if (!exists(path)) return Hdf5Kind::kMissing;
  const Handle object(checked(H5Oopen(id_, path.c_str(), H5P_DEFAULT), {name_, path}, "cannot be opened"), H5Oclose);
  if (H5Iget_type(object) == H5I_GROUP) return Hdf5Kind::kGroup;
  if (H5Iget_type(object) != H5I_DATASET) return Hdf5Kind::kOther;
  const Handle type(checked(H5Dget_type(object), {name_, path}, "has no type"), H5Tclose);
  const H5T_class_t kind = H5Tget_class(type);
  if (kind == H5T_FLOAT || kind == H5T_INTEGER) return Hdf5Kind::kNumbers;
  return kind == H5T_STRING && H5Tis_variable_str(type) > 0 ? Hdf5Kind::kTexts : Hdf5Kind::kOther;
}

std::vector<std::size_t> Hdf5File::shape(const std::string& path) const {
  const Handle dataset(checked(H5Dopen2(id_, path.c_str(), H5P_DEFAULT), {name_, path}, "no such dataset"), H5Dclose);
  const Handle space(checked(H5Dget_space(dataset), {name_, path}, "has no shape"), H5Sclose);
  return shape_of(space);
}

template void Hdf5File::write(const std::string&, const NdArray<double>&);
template void Hdf5File::write(const std::string&, const NdArray<float>&);
template void Hdf5File::write(const std::string&, const NdArray<std::int64_t>&);
template void Hdf5File::write(const std::string&, const NdArray<std::int32_t>&);
template void Hdf5File::write(const std::string&, const NdArray<std::string>&);
template NdArray<double> Hdf5File::read(const std::string&) const;
template NdArray<float> Hdf5File::read(const std::string&) const;
template NdArray<std::int64_t> Hdf5File::read(const std::string&) const;
template NdArray<std::int32_t> Hdf5File::read(const std::string&) const;
template NdArray<std::string> Hdf5File::read(const std::string&) const;

}  // namespace mla
