#include "core/text/json_lines.h"

#include <zlib.h>

#include <algorithm>
#include <memory>
#include <string_view>

#include "core/base/error.h"
#include "core/base/file.h"

namespace mla {
namespace {

/// zlib's window of 32 KiB, for data in gzip's form.
constexpr int kGzipWindow = 15 + 16;

struct Unpacker {
  z_stream stream{};
  Unpacker() { expects(inflateInit2(&stream, kGzipWindow) == Z_OK, "zlib starts"); }
  ~Unpacker() { inflateEnd(&stream); }
  Unpacker(const Unpacker&) = delete;
  Unpacker& operator=(const Unpacker&) = delete;
};

/// gzip files may hold several members one after another.
std::string unpack(std::string& packed, const std::string& name) {
  Unpacker unpacker;
  std::string text, buffer(std::size_t{1} << 18, '\0');
  unpacker.stream.next_in = reinterpret_cast<Bytef*>(packed.data());
  unpacker.stream.avail_in = static_cast<uInt>(packed.size());
  while (true) {
    unpacker.stream.next_out = reinterpret_cast<Bytef*>(buffer.data());
    unpacker.stream.avail_out = static_cast<uInt>(buffer.size());
    const int status = inflate(&unpacker.stream, Z_NO_FLUSH);
    if (status != Z_OK && status != Z_STREAM_END) throw DataError(cat(name, ": damaged or cut short gzip file"));
    text.append(buffer, 0, buffer.size() - unpacker.stream.avail_out);
    if (status == Z_STREAM_END && unpacker.stream.avail_in == 0) return text;
    if (status == Z_STREAM_END) inflateReset(&unpacker.stream);
  }
}

}  // namespace

std::string read_text_file(const std::filesystem::path& file) {
  std::string text = read_file(file);
  return text.starts_with("\x1f\x8b") ? unpack(text, file.string()) : text;
}

void read_json_lines(const std::filesystem::path& file,
                     const std::function<bool(const Json& json, const std::string& where)>& take) {
  const std::string text = read_text_file(file);
  std::int64_t number = 0;
  for (std::size_t begin = 0; begin < text.size();) {
    const std::size_t end = std::min(text.find('\n', begin), text.size());
    const std::string line = text.substr(begin, end - begin);
    ++number;
    begin = end + 1;
    if (line.find_first_not_of(" \t\r") == std::string::npos) continue;
    const std::string where = cat(file.string(), ": line ", number);
    const Json json = parse_json(line, where);
    if (!json.is_object()) throw DataError(cat(where, ": expected an object, found ", kind_of(json)));
    if (!take(json, where)) return;
  }
}

}  // namespace mla
