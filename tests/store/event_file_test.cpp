// TensorBoard's files, read back by the formats' documents.
#include "core/store/event_file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <bit>
#include <cstring>

#include "core/base/error.h"
#include "core/base/file.h"
#include "tests/support/errors.h"
#include "tests/support/temporary_folder.h"

namespace mla {
namespace {

struct ReadEvent {
  double wall_time = 0;
  std::int64_t step = 0;
  std::string version;
  std::vector<std::pair<std::string, float>> scalars;
};

std::uint64_t number(std::string_view bytes, std::size_t at, int count) {
  std::uint64_t value = 0;
  for (int i = 0; i < count; ++i)
    value |= std::uint64_t{static_cast<unsigned char>(bytes[at + static_cast<std::size_t>(i)])} << (8 * i);
  return value;
}

/// Calls `field(number, type, value, bytes)` for each field of a message.
template <class Field>
void walk(std::string_view message, const Field& field) {
  std::size_t at = 0;
  const auto varint = [&] {
    std::uint64_t value = 0;
    for (int shift = 0;; shift += 7) {
      const auto byte = static_cast<unsigned char>(message[at++]);
      value |= std::uint64_t{byte & 0x7FU} << shift;
      if (byte < 0x80) return value;
    }
  };
  while (at < message.size()) {
    const std::uint64_t key = varint(), type = key & 7;
    std::uint64_t value = 0;
    std::string_view bytes;
    if (type == 0) value = varint();
    if (type == 1 || type == 5) {
      const int width = type == 1 ? 8 : 4;
      value = number(message, at, width);
      at += static_cast<std::size_t>(width);
    }
    if (type == 2) {
      const std::uint64_t length = varint();
      bytes = message.substr(at, length);
      at += length;
    }
    field(key >> 3, value, bytes);
  }
}

ReadEvent parse_event(std::string_view message) {
  ReadEvent event;
  walk(message, [&](std::uint64_t field, std::uint64_t value, std::string_view bytes) {
    if (field == 1) event.wall_time = std::bit_cast<double>(value);
    if (field == 2) event.step = static_cast<std::int64_t>(value);
    if (field == 3) event.version = bytes;
    if (field != 5) return;
    walk(bytes, [&](std::uint64_t, std::uint64_t, std::string_view summary) {
      std::pair<std::string, float> scalar;
      walk(summary, [&](std::uint64_t part, std::uint64_t bits, std::string_view tag) {
        if (part == 1) scalar.first = tag;
        if (part == 2) scalar.second = std::bit_cast<float>(static_cast<std::uint32_t>(bits));
      });
      event.scalars.push_back(scalar);
    });
  });
  return event;
}

std::vector<ReadEvent> read_events(const std::filesystem::path& file) {
  const std::string bytes = read_file(file);
  std::vector<ReadEvent> events;
  for (std::size_t at = 0; at < bytes.size();) {
    const std::uint64_t length = number(bytes, at, 8);
    EXPECT_EQ(number(bytes, at + 8, 4), masked_crc32c(std::string_view(bytes).substr(at, 8)));
    const std::string_view message = std::string_view(bytes).substr(at + 12, length);
    EXPECT_EQ(number(bytes, at + 12 + length, 4), masked_crc32c(message));
    events.push_back(parse_event(message));
    at += 16 + length;
  }
  return events;
}

// RFC 3720, B.4: the checksums of 32 zeros and of "123456789" before rotation are 8a9136aa and e3069283.
TEST(EventFile, ChecksumsAreThoseOfTheStandard) {
  const auto masked = [](std::uint32_t crc) { return std::rotr(crc, 15) + 0xA282EAD8U; };
  EXPECT_EQ(masked_crc32c(std::string(32, '\0')), masked(0x8A9136AAU));
  EXPECT_EQ(masked_crc32c("123456789"), masked(0xE3069283U));
}

TEST(EventFile, HoldsScalarsByStep) {
  const test::TemporaryFolder folder;
  folder.write("events/events.out.tfevents.1.old", "of an earlier run");
  {
    EventFile file(folder / "events");
    file.add(1.5, 0, {{"train/loss", 2.25}});
    file.add(2.5, 300, {{"train/loss", 2.0}, {"evaluate/text/nll", 1.125}});
  }
  std::vector<std::filesystem::path> files;
  for (const auto& entry : std::filesystem::directory_iterator(folder / "events")) files.push_back(entry.path());
  ASSERT_EQ(files.size(), 1u);
  const auto events = read_events(files.front());
  ASSERT_EQ(events.size(), 3u);
  EXPECT_EQ(events[0].version, "brain.Event:2");
  EXPECT_EQ(events[1].wall_time, 1.5);
  EXPECT_EQ(events[1].scalars, (std::vector<std::pair<std::string, float>>{{"train/loss", 2.25F}}));
  EXPECT_EQ(events[2].step, 300);
  EXPECT_EQ(events[2].scalars.back(), (std::pair<std::string, float>{"evaluate/text/nll", 1.125F}));
}

TEST(EventFile, AFolderThatCannotBeMadeIsADataError) {
  const test::TemporaryFolder folder;
  folder.write("file", "");
  EXPECT_THAT(test::message_of<DataError>([&] { EventFile(folder / "file/events"); }),
              testing::HasSubstr("file/events: cannot be made"));
}

}  // namespace
}  // namespace mla
