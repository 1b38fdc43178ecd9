// Owned HDF5 identifiers and the library's complaints as exceptions; for hdf5_*.cpp only.
#pragma once

#include <hdf5.h>

#include <string>

#include "core/base/error.h"

namespace mla::hdf5 {

/// The innermost message of HDF5's error stack, which it empties.
std::string last_message();

/// What an error is about: "<file>: <object>".
struct Place {
  const std::string& file;
  const std::string& object;
};

[[noreturn]] void fail(const Place& place, const std::string& what);

/// `result` unless it is negative, HDF5's sign of failure; then a DataError "<file>: <object>: <what>: <HDF5's
/// reason>".
template <class Result>
Result checked(Result result, const Place& place, const char* what) {
  if (result < 0) fail(place, cat(what, ": ", last_message()));
  return result;
}

/// An identifier that is closed with its scope.
class Handle {
 public:
  using Close = herr_t (*)(hid_t);
  Handle(hid_t id, Close close) : id_(id), close_(close) {}
  ~Handle() {
    if (id_ >= 0) close_(id_);
  }
  Handle(const Handle&) = delete;
  Handle& operator=(const Handle&) = delete;
  operator hid_t() const { return id_; }

 private:
  hid_t id_;
  Close close_;
};

/// The type of UTF-8 text of any length; the caller closes it.
inline hid_t text_type() {
  const hid_t type = H5Tcopy(H5T_C_S1);
  H5Tset_size(type, H5T_VARIABLE);
  H5Tset_cset(type, H5T_CSET_UTF8);
  return type;
}

}  // namespace mla::hdf5
