#include "tests/fuzz/support/mutate.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <cstring>
#include <limits>

namespace mla::fuzz {
namespace {

constexpr std::size_t kLargest = 1 << 18;

constexpr std::array<std::int64_t, 20> kEdges = {0,
                                                 1,
                                                 -1,
                                                 2,
                                                 7,
                                                 127,
                                                 128,
                                                 255,
                                                 256,
                                                 65'535,
                                                 65'536,
                                                 (1LL << 24) + 1,
                                                 (1LL << 31) - 1,
                                                 1LL << 31,
                                                 -(1LL << 31),
                                                 (1LL << 32) - 1,
                                                 1LL << 32,
                                                 1LL << 62,
                                                 std::numeric_limits<std::int64_t>::max(),
                                                 std::numeric_limits<std::int64_t>::min()};

/// Numbers as they may stand in a text.
constexpr std::array<const char*, 12> kNumbers = {"0",
                                                  "-1",
                                                  "2147483648",
                                                  "4294967296",
                                                  "9223372036854775807",
                                                  "9223372036854775808",
                                                  "18446744073709551615",
                                                  "18446744073709551616",
                                                  "1e999",
                                                  "-0.0",
                                                  "1e-320",
                                                  "0.5"};

}  // namespace

std::string Mutator::mutate(const std::string& input, const std::string& other) {
  std::string changed = input;
  for (std::size_t left = 1 + below(4); left > 0; --left) change_once(changed, other);
  if (changed.size() > kLargest) changed.resize(kLargest);
  return changed;
}

void Mutator::change_once(std::string& input, const std::string& other) {
  switch (below(4)) {
    case 0:
      if (change_json(input)) return;
      [[fallthrough]];
    case 1:
      return change_bytes(input, other);
    case 2:
      return write_number(input);
    default:
      return change_digits(input);
  }
}

void Mutator::change_bytes(std::string& input, const std::string& other) {
  const std::size_t at = below(input.size() + 1), length = below(std::min<std::size_t>(input.size() - at, 64) + 1);
  switch (below(7)) {
    case 0:
      if (at < input.size()) input[at] = static_cast<char>(random_());
      return;
    case 1:
      if (at < input.size()) input[at] = static_cast<char>(input[at] ^ (1 << below(8)));
      return;
    case 2:
      input.erase(at, length);
      return;
    case 3:
      input.insert(at, input.substr(at, length));
      return;
    case 4:
      input.resize(at);
      return;
    case 5: {
      const std::size_t from = below(other.size() + 1);
      input.insert(at, other, from, below(200));
      return;
    }
    default:
      if (!words_.empty()) input.insert(at, words_[below(words_.size())]);
  }
}

/// A binary number of 1, 2, 4 or 8 bytes, little-endian.
void Mutator::write_number(std::string& input) {
  const std::size_t width = std::size_t{1} << below(4);
  if (input.size() < width) return;
  // Headers lie at the beginning.
  const std::size_t room = input.size() - width + 1,
                    at = below(below(2) == 0 ? room : std::min<std::size_t>(room, 160));
  const std::int64_t value = kEdges[below(kEdges.size())];
  std::memcpy(input.data() + at, &value, width);
}

/// A number in a text becomes another one.
void Mutator::change_digits(std::string& input) {
  const auto digit = [](char c) { return std::isdigit(static_cast<unsigned char>(c)) != 0; };
  const auto start = std::find_if(input.begin() + static_cast<std::ptrdiff_t>(below(input.size())), input.end(), digit);
  if (start == input.end()) return;
  const auto end = std::find_if_not(start, input.end(), digit);
  input.replace(start, end, kNumbers[below(kNumbers.size())]);
}

Json Mutator::odd_value() {
  switch (below(9)) {
    case 0:
      return nullptr;
    case 1:
      return below(2) == 0;
    case 2:
      return kEdges[below(kEdges.size())];
    case 3:
      return std::numeric_limits<std::uint64_t>::max() - below(2);
    case 4:
      return std::array{0.5, -1e300, 1e-320, 1e19}[below(4)];
    case 5:
      return words_.empty() || below(2) == 0 ? std::string(below(300), 'x') : words_[below(words_.size())];
    case 6:
      return Json::array();
    case 7:
      return Json::object();
    default:
      return Json::array({nullptr, 1, "a", Json::array()});
  }
}

void Mutator::change_value(Json& value) {
  // Goes down with a probability that reaches deep values too.
  Json* at = &value;
  while (at->is_structured() && !at->empty() && below(5) != 0) {
    auto member = at->begin();
    std::advance(member, below(at->size()));
    at = &*member;
  }
  switch (below(4)) {
    case 0:
      if (at->is_structured() && !at->empty()) {
        auto member = at->begin();
        std::advance(member, below(at->size()));
        at->erase(member);
        return;
      }
      break;
    case 1:
      if (at->is_array()) {
        at->push_back(at->empty() || below(2) == 0 ? odd_value() : Json(at->at(below(at->size()))));
        return;
      }
      if (at->is_object()) {
        (*at)[words_.empty() ? "key" : words_[below(words_.size())]] = odd_value();
        return;
      }
      break;
    case 2:
      *at = Json::array({*at});
      return;
    default:
      break;
  }
  *at = odd_value();
}

/// Changes a value where the input, or one line of it, is JSON.
bool Mutator::change_json(std::string& input) {
  std::size_t begin = 0, size = input.size();
  Json value = Json::parse(input, nullptr, false);
  if (value.is_discarded()) {
    begin = below(input.size() + 1);
    begin = begin == 0 ? 0 : input.rfind('\n', begin - 1) + 1;  // npos + 1 is 0
    size = std::min(input.find('\n', begin), input.size()) - begin;
    value = Json::parse(input.substr(begin, size), nullptr, false);
    if (value.is_discarded()) return false;
  }
  change_value(value);
  input.replace(begin, size, value.dump(-1, ' ', false, Json::error_handler_t::replace));
  return true;
}

}  // namespace mla::fuzz
