#include "core/store/hdf5_file.h"

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <cstring>
#include <string_view>

#include "core/base/file.h"
#include "core/base/hash.h"
#include "core/store/hdf5_handle.h"

namespace mla {
namespace hdf5 {

std::string last_message() {
  std::string message;
  const auto take_first = [](unsigned, const H5E_error2_t* error, void* out) -> herr_t {
    *static_cast<std::string*>(out) = error->desc;
    return 1;  // Ends the walk, which starts at the innermost function.
  };
  H5Ewalk2(H5E_DEFAULT, H5E_WALK_UPWARD, take_first, &message);
  H5Eclear2(H5E_DEFAULT);
  return message.empty() ? "HDF5 gives no reason" : message;
}

void fail(const Place& place, const std::string& what) {
  throw DataError(cat(place.file, place.object.empty() ? "" : ": " + place.object, ": ", what));
}

}  // namespace hdf5

namespace {

using hdf5::checked;
using hdf5::Handle;

constexpr std::size_t kGrowth = 1 << 20;  // Bytes by which the image in memory grows.
const std::string kNoObject;

/// HDF5 would print its error stack to stderr; here the innermost message goes into the exception.
void silence() { H5Eset_auto2(H5E_DEFAULT, nullptr, nullptr); }

/// HDF5 takes two files in memory for the same one when their names are equal.
std::string unique_name() {
  static std::atomic<int> counter = 0;
  return cat("memory-", counter++);
}

/// Access to a file that lives in memory.
hid_t memory_access(const std::string& name) {
  const hid_t access = checked(H5Pcreate(H5P_FILE_ACCESS), {name, kNoObject}, "cannot be opened");
  H5Pset_fapl_core(access, kGrowth, false);
  return access;
}

// A line after the end that HDF5 knows of, which its readers skip: a hash of all before it. HDF5 itself can crash on a
// damaged file, so damage must be found first.
constexpr std::string_view kSealStart = "\nXXH3-128 ";
constexpr std::size_t kHashDigits = 32;
constexpr std::size_t kSealSize = kSealStart.size() + kHashDigits + 1;

std::string seal_of(std::string_view image) { return cat(kSealStart, hash_bytes(image), "\n"); }

/// Takes the seal off `image`; whether there was one. A file without one is of another writer, or cut, which open()
/// notices.
bool remove_seal(std::string& image, const std::string& name) {
  const std::size_t size = image.size() - std::min(kSealSize, image.size());
  if (image.compare(size, kSealStart.size(), kSealStart) != 0) return false;
  if (image.substr(size) != seal_of(std::string_view(image).substr(0, size))) {
    throw DataError(cat(name, ": the file is damaged: its checksum does not fit its content"));
  }
  image.resize(size);
  return true;
}

// The note ends in its length: "<note>\nnote 00000123".
constexpr std::string_view kNoteEnd = "\nnote ";
constexpr std::size_t kNoteDigits = 8;

std::string note_block(const std::string& note) {
  if (note.empty()) return "";
  std::string digits = std::to_string(note.size());
  expects(digits.size() <= kNoteDigits, "a note is too long");
  return cat(note, kNoteEnd, std::string(kNoteDigits - digits.size(), '0'), digits);
}

/// The note at the end of `image`, whose seal is off.
std::string note_of(const std::string& image) {
  const std::size_t tail = kNoteEnd.size() + kNoteDigits;
  if (image.size() < tail || image.compare(image.size() - tail, kNoteEnd.size(), kNoteEnd) != 0) return "";
  const std::size_t size = std::strtoull(image.c_str() + image.size() - kNoteDigits, nullptr, 10);
  return size + tail > image.size() ? "" : image.substr(image.size() - tail - size, size);
}

constexpr unsigned kKeepOrder = H5P_CRT_ORDER_TRACKED | H5P_CRT_ORDER_INDEXED;

/// Whether the first block of a whole file states sizes that a file has, of which HDF5 makes sizes of memory as they are:
/// how many members the nodes of groups hold (it writes 4 and 16), and no block of a driver, whose size would be read
/// from anywhere. Later forms of the block have no such numbers.
bool states_usual_sizes(const std::string& image) {
  constexpr std::size_t kVersion = 8, kAddressBytes = 13, kOldBlock = 96, kLeaf = 16, kInternal = 18,
                        kMostMembers = 1024, kAddresses = 24, kBeforeDriver = 3;
  if (image[kVersion] > 1) return true;
  if (image.size() < kOldBlock) return false;
  const auto bytes = static_cast<unsigned char>(image[kAddressBytes]);
  if (bytes != 4 && bytes != 8) return false;
  const std::string driver = image.substr(kAddresses + image[kVersion] * 4U + kBeforeDriver * bytes, bytes);
  if (driver != std::string(bytes, '\xff')) return false;
  for (const std::size_t at : {kLeaf, kInternal}) {
    std::uint16_t members = 0;
    std::memcpy(&members, image.data() + at, sizeof members);
    if (members == 0 || members > kMostMembers) return false;
  }
  return true;
}

/// A file without a seal is of another writer, or was cut. HDF5 takes the sizes in its first block as they are (4 GB of
/// memory for a file of 49 bytes), so what cannot be a whole file is kept from it.
void check_size(const std::string& image, const std::string& name) {
  const std::size_t end = Hdf5File::content_size(image);
  if (end == image.size() && end > 0) {
    if (states_usual_sizes(image)) return;
    throw DataError(cat(name, ": not a whole HDF5 file: its first block is damaged"));
  }
  // A file of this writer is longer than HDF5 knows, by its seal.
  if (end > 0 && end < image.size())
    throw DataError(cat(name, ": the file is damaged: it was cut after its HDF5 content"));
  throw DataError(cat(name, ": not a whole HDF5 file: ",
                      image.empty() ? "it is empty"
                      : end == 0    ? "it does not begin as one"
                                    : cat("it has ", image.size(), " of the ", end, " bytes that it states")));
}

}  // namespace

Hdf5File Hdf5File::create(const std::string& name) {
  silence();
  const Handle access(memory_access(name), H5Pclose);
  const Handle creation(H5Pcreate(H5P_FILE_CREATE), H5Pclose);
  H5Pset_link_creation_order(creation, kKeepOrder);
  // The root's members stand in the first block, with room for all of a record's: of a file that was cut, what is left
  // can be found.
  constexpr unsigned kRootMembers = 16, kNameLength = 16;
  H5Pset_link_phase_change(creation, 2 * kRootMembers, kRootMembers);
  H5Pset_est_link_info(creation, kRootMembers, kNameLength);
  const hid_t id = H5Fcreate(unique_name().c_str(), H5F_ACC_TRUNC, creation, access);
  return Hdf5File(checked(id, {name, kNoObject}, "cannot be created"), name);
}

Hdf5File Hdf5File::open(const std::filesystem::path& path) {
  silence();
  const std::string name = path.string();
  std::string image = read_file(path);
  const bool sealed = remove_seal(image, name);
  if (!sealed) check_size(image, name);
  Hdf5File file = from_image(image, name);
  file.sealed_ = sealed;
  return file;
}

Hdf5File Hdf5File::from_image(const std::string& image, const std::string& name) {
  silence();
  const Handle access(memory_access(name), H5Pclose);
  std::string bytes = image;  // HDF5 asks for memory that it may write to, and copies it
  checked(H5Pset_file_image(access, bytes.data(), bytes.size()), {name, kNoObject}, "cannot be read");
  const hid_t id = H5Fopen(unique_name().c_str(), H5F_ACC_RDONLY, access);
  return Hdf5File(checked(id, {name, kNoObject}, "not a whole HDF5 file"), name);
}

std::size_t Hdf5File::content_size(const std::string& image) {
  constexpr std::string_view kSignature("\x89HDF\r\n\x1a\n", 8);
  constexpr std::size_t kSmallest = 48;
  if (image.size() < kSmallest || image.compare(0, kSignature.size(), kSignature) != 0) return 0;
  const int version = image[kSignature.size()];
  const std::size_t at = version == 0 ? 40 : version == 1 ? 44 : 28;
  std::uint64_t end = 0;  // little-endian, as this machine and every record
  std::memcpy(&end, image.data() + at, std::min(sizeof end, image.size() - at));
  constexpr std::uint64_t kLargest = std::uint64_t{1} << 36;
  return end < kLargest ? static_cast<std::size_t>(end) : 0;
}

std::string Hdf5File::read_note(const std::filesystem::path& path) {
  std::string image = read_file(path);
  return remove_seal(image, path.string()) ? note_of(image) : "";
}

bool Hdf5File::is_sealed(const std::filesystem::path& path) {
  std::string image = read_file(path);
  return remove_seal(image, path.string());
}

Hdf5File::~Hdf5File() {
  if (id_ >= 0) H5Fclose(id_);
}

Hdf5File::Hdf5File(Hdf5File&& other) noexcept
    : id_(std::exchange(other.id_, -1)),
      name_(std::move(other.name_)),
      sealed_(other.sealed_),
      hidden_(std::move(other.hidden_)) {}

void Hdf5File::save(const std::filesystem::path& path, const std::string& note) const {
  checked(H5Fflush(id_, H5F_SCOPE_GLOBAL), {name_, kNoObject}, "cannot be flushed");
  const ssize_t size = checked(H5Fget_file_image(id_, nullptr, 0), {name_, kNoObject}, "has no image");
  std::string image(static_cast<std::size_t>(size), '\0');
  checked(H5Fget_file_image(id_, image.data(), image.size()), {name_, kNoObject}, "has no image");
  image += note_block(note);
  write_file_atomically(path, image + seal_of(image));
}

bool Hdf5File::exists(const std::string& path) const {
  // H5Lexists wants every group on the way to exist.
  for (std::size_t end = path.find('/', 1);; end = path.find('/', end + 1)) {
    const std::string part = path.substr(0, end);
    if (part != "/" && H5Lexists(id_, part.c_str(), H5P_DEFAULT) <= 0) {
      H5Eclear2(H5E_DEFAULT);
      return false;
    }
    if (end == std::string::npos) return true;
  }
}

std::vector<std::string> Hdf5File::members(const std::string& group, bool links) const {
  const Handle id(checked(H5Gopen2(id_, group.c_str(), H5P_DEFAULT), {name_, group}, "not a group"), H5Gclose);
  struct Names {
    std::vector<std::string> own, links;
  };
  const auto collect = [](hid_t, const char* name, const H5L_info_t* info, void* out) -> herr_t {
    auto& names = *static_cast<Names*>(out);
    (info->type == H5L_TYPE_HARD ? names.own : names.links).emplace_back(name);
    return 0;
  };
  Names names;
  // Files of other writers may not have kept the order.
  if (H5Literate(id, H5_INDEX_CRT_ORDER, H5_ITER_INC, nullptr, collect, &names) < 0) {
    H5Eclear2(H5E_DEFAULT);
    names = {};
    checked(H5Literate(id, H5_INDEX_NAME, H5_ITER_INC, nullptr, collect, &names), {name_, group}, "cannot be listed");
  }
  return links ? names.links : names.own;
}

std::vector<std::string> Hdf5File::children(const std::string& group) const {
  std::vector<std::string> names = members(group, false);
  if (hidden_.empty()) return names;
  std::erase_if(names, [&](const std::string& name) {
    const std::string path = cat(group, group.ends_with('/') ? "" : "/", name);
    return std::find(hidden_.begin(), hidden_.end(), path) != hidden_.end();
  });
  return names;
}

std::vector<std::string> Hdf5File::links(const std::string& group) const { return members(group, true); }

void Hdf5File::make_group(const std::string& path) {
  const Handle creation(H5Pcreate(H5P_GROUP_CREATE), H5Pclose);
  H5Pset_link_creation_order(creation, kKeepOrder);
  // HDF5 can make the groups on the way by itself, but those would not keep the order of their members.
  for (std::size_t end = path.find('/', 1);; end = path.find('/', end + 1)) {
    const std::string part = path.substr(0, end);
    if (part != "/" && !exists(part)) {
      const hid_t id = H5Gcreate2(id_, part.c_str(), H5P_DEFAULT, creation, H5P_DEFAULT);
      const Handle group(checked(id, {name_, part}, "cannot be made"), H5Gclose);
    }
    if (end == std::string::npos) return;
  }
}

std::string hdf5_version() {
  unsigned major = 0, minor = 0, release = 0;
  H5get_libversion(&major, &minor, &release);
  return cat(major, ".", minor, ".", release);
}

}  // namespace mla
