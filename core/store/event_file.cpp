#include "core/store/event_file.h"

#include <unistd.h>

#include <array>
#include <bit>
#include <cerrno>
#include <cstring>
#include <ctime>

#include "core/base/error.h"

namespace mla {
namespace {

constexpr const char* kPrefix = "events.out.tfevents.";

/// The reflected polynomial, byte by byte.
constexpr std::array<std::uint32_t, 256> crc_table() {
  std::array<std::uint32_t, 256> table{};
  for (std::uint32_t byte = 0; byte < 256; ++byte) {
    std::uint32_t crc = byte;
    for (int bit = 0; bit < 8; ++bit) crc = (crc >> 1) ^ ((crc & 1U) != 0 ? 0x82F63B78U : 0U);
    table[byte] = crc;
  }
  return table;
}

std::string little_endian(std::uint64_t value, int bytes) {
  std::string text;
  for (int i = 0; i < bytes; ++i) text += static_cast<char>(value >> (8 * i) & 0xFF);
  return text;
}

// Fields of protocol buffers: a key (number and wire type), then the value.
constexpr std::uint64_t kVarint = 0, kFixed64 = 1, kBytes = 2, kFixed32 = 5;

std::string varint(std::uint64_t value) {
  std::string text;
  for (; value >= 0x80; value >>= 7) text += static_cast<char>((value & 0x7F) | 0x80);
  return text += static_cast<char>(value);
}
std::string key(std::uint64_t field, std::uint64_t type) { return varint(field << 3 | type); }
std::string double_field(std::uint64_t field, double value) {
  return key(field, kFixed64) + little_endian(std::bit_cast<std::uint64_t>(value), 8);
}
std::string float_field(std::uint64_t field, float value) {
  return key(field, kFixed32) + little_endian(std::bit_cast<std::uint32_t>(value), 4);
}
std::string bytes_field(std::uint64_t field, const std::string& value) {
  return key(field, kBytes) + varint(value.size()) + value;
}

void remove_earlier(const std::filesystem::path& folder) {
  std::error_code error;
  for (std::filesystem::directory_iterator it(folder, error), end; !error && it != end; it.increment(error)) {
    if (it->path().filename().string().starts_with(kPrefix)) ::unlink(it->path().c_str());
  }
}

}  // namespace

std::uint32_t masked_crc32c(std::string_view bytes) {
  static constexpr std::array<std::uint32_t, 256> kTable = crc_table();
  std::uint32_t crc = 0xFFFFFFFFU;
  for (const char c : bytes) crc = kTable[(crc ^ static_cast<unsigned char>(c)) & 0xFF] ^ (crc >> 8);
  crc = ~crc;
  return std::rotr(crc, 15) + 0xA282EAD8U;
}

EventFile::EventFile(const std::filesystem::path& folder) {
  std::error_code error;
  std::filesystem::create_directories(folder, error);
  if (error) throw DataError(cat(folder.string(), ": cannot be made: ", error.message()));
  remove_earlier(folder);
  char host[256] = {};
  ::gethostname(host, sizeof host - 1);
  path_ = folder / cat(kPrefix, std::time(nullptr), ".", host, ".", ::getpid());
  file_.reset(std::fopen(path_.c_str(), "wbe"));
  if (!file_) throw DataError(cat(path_.string(), ": cannot be written: ", std::strerror(errno)));
  write(double_field(1, static_cast<double>(std::time(nullptr))) + bytes_field(3, "brain.Event:2"));
}

void EventFile::add(double wall_time, std::int64_t step, const std::vector<std::pair<std::string, double>>& scalars) {
  std::string summary;
  for (const auto& [tag, value] : scalars)
    summary += bytes_field(1, bytes_field(1, tag) + float_field(2, static_cast<float>(value)));
  write(double_field(1, wall_time) + key(2, kVarint) + varint(static_cast<std::uint64_t>(step)) +
        bytes_field(5, summary));
}

void EventFile::write(const std::string& message) {
  const std::string length = little_endian(message.size(), 8);
  const std::string record =
      length + little_endian(masked_crc32c(length), 4) + message + little_endian(masked_crc32c(message), 4);
  if (std::fwrite(record.data(), 1, record.size(), file_.get()) != record.size() || std::fflush(file_.get()) != 0)
    throw DataError(cat(path_.string(), ": cannot be written: ", std::strerror(errno)));
}

}  // namespace mla
