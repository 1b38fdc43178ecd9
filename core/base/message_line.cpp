#include "core/base/message_line.h"

#include <algorithm>
#include <string_view>

namespace mla {
namespace {

// What is wrong often stands behind a path: both ends are kept.
constexpr std::size_t kBeginning = 2000, kEnd = 1000;
constexpr std::string_view kLeftOut = " ... ";

}  // namespace

std::string message_line(std::string text) {
  while (!text.empty() && text.back() == '\n') text.pop_back();
  std::replace(text.begin(), text.end(), '\n', ' ');
  if (text.size() > kBeginning + kLeftOut.size() + kEnd) {
    text.replace(kBeginning, text.size() - kBeginning - kEnd, kLeftOut);
  }
  return text;
}

}  // namespace mla
