#include "core/base/message_line.h"

#include <algorithm>

namespace mla {
namespace {

// Several of the longest paths that Linux takes as a name's part, and what is wrong with them.
constexpr std::size_t kBeginning = 2000, kEnd = 1000;

}  // namespace

std::string message_line(std::string text) {
  while (!text.empty() && text.back() == '\n') text.pop_back();
  std::replace(text.begin(), text.end(), '\n', ' ');
  if (text.size() > kBeginning + kEnd + 5) text.replace(kBeginning, text.size() - kBeginning - kEnd, " ... ");
  return text;
}

}  // namespace mla
