// HDF5 files over the C API: whole-file images, attributes and arrays, with errors that name the file.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <string>
#include <utility>
#include <variant>
#include <vector>

namespace mla {

/// The value of an HDF5 attribute; h5py shows them as numpy.bool_, int64, uint64, float64 and str.
using AttributeValue = std::variant<bool, std::int64_t, std::uint64_t, double, std::string>;

/// What stands at a path; kOther is what this class does not read.
enum class Hdf5Kind { kMissing, kGroup, kNumbers, kTexts, kOther };

/// An N-dimensional array in row-major order; an empty shape is a scalar with one value.
template <class T>
struct NdArray {
  std::vector<std::size_t> shape;
  std::vector<T> values;
  bool operator==(const NdArray&) const = default;
};

/// One HDF5 file, held in memory: made by create() and put on disk by save(), or read whole by open(). A full disk
/// can thus neither crash the HDF5 library nor leave half a file; a checksum after HDF5's end of file, which other
/// readers skip, keeps damaged files from it. Objects are named by paths such as
/// "/training/loss"; groups on the way are made. All methods throw DataError naming the file, the object and HDF5's
/// innermost complaint. The library is not thread-safe: use this from one thread at a time in the whole process.
class Hdf5File {
 public:
  /// An empty file that exists only in memory; `name` stands in errors.
  static Hdf5File create(const std::string& name);
  /// Throws DataError when `path` is missing, not HDF5, truncated or damaged.
  static Hdf5File open(const std::filesystem::path& path);
  /// The file whose bytes are `image`, without a checksum; `name` stands in errors.
  static Hdf5File from_image(const std::string& image, const std::string& name);

  ~Hdf5File();
  Hdf5File(Hdf5File&& other) noexcept;
  Hdf5File& operator=(Hdf5File&&) = delete;
  Hdf5File(const Hdf5File&) = delete;
  Hdf5File& operator=(const Hdf5File&) = delete;

  /// Writes the file to `path` under a temporary name and renames it. `note` stands after HDF5's end of file, where
  /// HDF5's readers skip it, under the same checksum.
  void save(const std::filesystem::path& path, const std::string& note = "") const;

  /// The note of a file, read without HDF5, which takes milliseconds for some hundreds of objects; empty where there is
  /// none. Throws DataError for a file that is missing or damaged.
  static std::string read_note(const std::filesystem::path& path);
  /// Where HDF5's own content of a file ends, by its superblock (HDF5 File Format Specification 3.0, section II.A); 0
  /// for bytes that are no HDF5 file.
  static std::size_t content_size(const std::string& image);
  /// Whether the file ends in this writer's checksum. Throws DataError as read_note does.
  static bool is_sealed(const std::filesystem::path& path);

  /// Whether open() found this writer's checksum at the end of the file.
  bool sealed() const { return sealed_; }

  bool exists(const std::string& path) const;
  /// Names of the members of a group, in the order they were made; not those that hide() was told of, nor links that
  /// lead elsewhere by name.
  std::vector<std::string> children(const std::string& group) const;
  /// Names of the links of a group that lead elsewhere by name, which children() leaves out.
  std::vector<std::string> links(const std::string& group) const;
  /// From now on children() leaves these paths out.
  void hide(std::vector<std::string> paths) { hidden_ = std::move(paths); }
  void make_group(const std::string& path);

  void set_attribute(const std::string& object, const std::string& name, const AttributeValue& value);
  bool has_attribute(const std::string& object, const std::string& name) const;
  AttributeValue attribute(const std::string& object, const std::string& name) const;
  /// All attributes of an object that are a single boolean, number or text, but those named in `except`, in
  /// alphabetical order; much faster than one by one. What another program wrote in a form of its own is left out.
  std::vector<std::pair<std::string, AttributeValue>> attributes(const std::string& object,
                                                                 const std::vector<std::string>& except = {}) const;

  /// Names of all attributes of an object, of whatever form, in alphabetical order.
  std::vector<std::string> attribute_names(const std::string& object) const;

  Hdf5Kind kind(const std::string& path) const;
  /// The shape of a dataset, without reading it.
  std::vector<std::size_t> shape(const std::string& path) const;

  /// Writes an array of double, float, int64, int32 or std::string; `path` must be new. Numbers are compressed and
  /// carry checksums.
  template <class T>
  void write(const std::string& path, const NdArray<T>& array);

  /// Reads an array; numbers are converted to T, a dataset of another class (text, number) is an error.
  template <class T>
  NdArray<T> read(const std::string& path) const;

  const std::string& name() const { return name_; }

 private:
  Hdf5File(std::int64_t id, std::string name) : id_(id), name_(std::move(name)) {}

  std::vector<std::string> members(const std::string& group, bool links) const;

  std::int64_t id_ = -1;
  std::string name_;
  bool sealed_ = false;
  std::vector<std::string> hidden_;
};

/// The version of the HDF5 library that runs, "1.10.8".
std::string hdf5_version();

}  // namespace mla
