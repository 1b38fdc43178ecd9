#include "core/base/path_error.h"

namespace mla {

std::string told_by_path(const std::filesystem::filesystem_error& error) {
  return error.path1().string() + ": " + error.code().message();
}

}  // namespace mla
