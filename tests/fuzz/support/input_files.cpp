#include "tests/fuzz/support/input_files.h"

#include <fcntl.h>
#include <unistd.h>

#include <stdexcept>

#include "tests/support/temporary_folder.h"

namespace mla::fuzz {
namespace {

constexpr std::string_view kBetweenParts = "\n%%%\n";

}  // namespace

std::filesystem::path input_file(const std::string& name, std::string_view bytes) {
  static const test::TemporaryFolder folder;
  const std::filesystem::path path = folder / name;
  if (name.find('/') != std::string::npos) std::filesystem::create_directories(path.parent_path());
  // A new file each time: the old one may still be mapped.
  ::unlink(path.c_str());
  const int fd = ::open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
  if (fd < 0) throw std::runtime_error("cannot write " + path.string());
  while (!bytes.empty()) {
    const ssize_t written = ::write(fd, bytes.data(), bytes.size());
    if (written <= 0) break;
    bytes.remove_prefix(static_cast<std::size_t>(written));
  }
  ::close(fd);
  if (!bytes.empty()) throw std::runtime_error("cannot write " + path.string());
  return path;
}

std::vector<std::string_view> parts_of(std::string_view input, std::size_t count) {
  std::vector<std::string_view> parts;
  while (parts.size() + 1 < count) {
    const std::size_t end = input.find(kBetweenParts);
    if (end == std::string_view::npos) break;
    parts.push_back(input.substr(0, end));
    input.remove_prefix(end + kBetweenParts.size());
  }
  parts.push_back(input);
  parts.resize(count);
  return parts;
}

std::string join_parts(const std::vector<std::string>& parts) {
  std::string joined;
  for (std::size_t i = 0; i < parts.size(); ++i) joined += (i > 0 ? std::string(kBetweenParts) : "") + parts[i];
  return joined;
}

}  // namespace mla::fuzz
