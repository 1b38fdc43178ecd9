// Any processor: loops over sixteen lanes.
#include <c10/util/Half.h>

#include "core/ops/panel_kernel.h"
#include "core/ops/panel_kernel_body.h"

namespace mla {
namespace {

struct PlainLanes {
  struct Bytes {
    std::uint8_t of[64];
  };
  struct Ints {
    std::int32_t of[kPanelRows];
  };
  struct Floats {
    float of[kPanelRows];
  };

  template <class Lanes, class Each>
  static Lanes lanes(const Each& each) {
    Lanes made;
    int i = 0;
    for (auto& lane : made.of) lane = each(i++);
    return made;
  }
  static Bytes load(const std::uint8_t* from) {
    return lanes<Bytes>([&](int i) { return from[i]; });
  }
  static Bytes low_halves(const Bytes& both) {
    return lanes<Bytes>([&](int i) { return static_cast<std::uint8_t>(both.of[i] & 15); });
  }
  static Bytes high_halves(const Bytes& both) {
    return lanes<Bytes>([&](int i) { return static_cast<std::uint8_t>(both.of[i] >> 4); });
  }
  template <int SHIFT>
  static Bytes bit_pairs(const Bytes& all) {
    return lanes<Bytes>([&](int i) { return static_cast<std::uint8_t>((all.of[i] >> SHIFT & 3) << 4); });
  }
  static Bytes with_pairs(const Bytes& nibbles, const Bytes& pairs) {
    return lanes<Bytes>([&](int i) { return static_cast<std::uint8_t>(nibbles.of[i] | pairs.of[i]); });
  }

  static Ints ints(int number) {
    return lanes<Ints>([&](int) { return number; });
  }
  template <bool LARGE>
  static Ints dot(const Ints& sum, const Bytes& codes, const std::int8_t* four) {
    return lanes<Ints>([&](int i) {
      const std::uint8_t* own = codes.of + 4 * i;
      return sum.of[i] + own[0] * four[0] + own[1] * four[1] + own[2] * four[2] + own[3] * four[3];
    });
  }

  static Floats halves(const std::uint8_t* from) {
    c10::Half numbers[kPanelRows];
    __builtin_memcpy(numbers, from, sizeof(numbers));
    return lanes<Floats>([&](int i) { return static_cast<float>(numbers[i]); });
  }
  static Floats unsigned_bytes(const std::uint8_t* from) {
    return lanes<Floats>([&](int i) { return static_cast<float>(from[i]); });
  }
  static Floats signed_bytes(const std::uint8_t* from) {
    return lanes<Floats>([&](int i) { return static_cast<float>(static_cast<std::int8_t>(from[i])); });
  }
  static Floats floats(const Ints& whole) {
    return lanes<Floats>([&](int i) { return static_cast<float>(whole.of[i]); });
  }
  static Floats all(float number) {
    return lanes<Floats>([&](int) { return number; });
  }
  static Floats product(const Floats& a, const Floats& b) {
    return lanes<Floats>([&](int i) { return a.of[i] * b.of[i]; });
  }
  static Floats sum(const Floats& a, const Floats& b) {
    return lanes<Floats>([&](int i) { return a.of[i] + b.of[i]; });
  }
  static Floats negative(const Floats& a) {
    return lanes<Floats>([&](int i) { return -a.of[i]; });
  }
  static void store(float* to, const Floats& lanes) { __builtin_memcpy(to, lanes.of, sizeof(lanes.of)); }
};

}  // namespace

void plain_panels(const PanelTask& task) { panels_of_kind<PlainLanes, 1>(task); }

}  // namespace mla
