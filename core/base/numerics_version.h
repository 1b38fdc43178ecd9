// Which numbers this program computes.
#pragma once

namespace mla {

constexpr int kNumericsVersion = 2;

}  // namespace mla
