// Files that TensorBoard shows: TFRecords of Event messages with scalar summaries, by the documented formats.
#pragma once

#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace mla {

/// CRC-32C (Castagnoli) of `bytes`, rotated and offset as TFRecords hold it.
std::uint32_t masked_crc32c(std::string_view bytes);

/// An event file of one run. A record is its length (uint64, little endian), the length's checksum, the message, and
/// the message's checksum (tensorflow/core/lib/io/record_writer.h); a message is an Event of
/// tensorflow/core/util/event.proto.
class EventFile {
 public:
  /// Begins a new file in `folder`, and removes those of earlier runs there. Throws DataError when it cannot be
  /// written.
  explicit EventFile(const std::filesystem::path& folder);

  /// Values of one step, by tag; numbers are kept as float32. `wall_time`: seconds since 1970.
  void add(double wall_time, std::int64_t step, const std::vector<std::pair<std::string, double>>& scalars);

 private:
  void write(const std::string& message);

  struct Close {
    void operator()(std::FILE* file) const { std::fclose(file); }
  };
  std::filesystem::path path_;
  std::unique_ptr<std::FILE, Close> file_;
};

}  // namespace mla
