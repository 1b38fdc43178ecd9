#include "core/base/progress.h"

#include <fmt/format.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <iterator>
#include <mutex>

namespace mla {
namespace {

constexpr int kBarWidth = 24;
constexpr std::size_t kUsualColumns = 80;
constexpr const char* kClearLine = "\r\033[K";

std::mutex screen;   // Guards the terminal and `drawn`.
bool drawn = false;  // Whether the terminal's last line is a bar.

/// 950, 12.3k, 4.56M: three digits are enough to watch.
std::string compact(double number) {
  constexpr const char* kSuffix[] = {"", "k", "M", "G", "T"};
  std::size_t step = 0;
  for (; number >= 999.5 && step + 1 < std::size(kSuffix); ++step) number /= 1000;
  if (step == 0 && number == std::floor(number)) return fmt::format("{:.0f}", number);
  return fmt::format("{:.{}f}{}", number, number < 9.995 ? 2 : number < 99.95 ? 1 : 0, kSuffix[step]);
}

std::string compact(std::int64_t number) { return compact(static_cast<double>(number)); }

/// 4.2s, 42s, 3m05s, 2h07m.
std::string duration(double seconds) {
  if (seconds < 9.95) return fmt::format("{:.1f}s", seconds);
  const auto whole = static_cast<std::int64_t>(std::llround(seconds));
  if (whole < 60) return fmt::format("{}s", whole);
  if (whole < 3600) return fmt::format("{}m{:02}s", whole / 60, whole % 60);
  return fmt::format("{}h{:02}m", whole / 3600, whole % 3600 / 60);
}

std::string bar_of(double share) {
  const int full = static_cast<int>(share * kBarWidth);
  return fmt::format("[{:#<{}}{:.<{}}] ", "", full, "", kBarWidth - full);
}

std::size_t columns_of(std::FILE* terminal) {
  winsize size{};
  if (::ioctl(::fileno(terminal), TIOCGWINSZ, &size) != 0 || size.ws_col == 0) return kUsualColumns;
  return size.ws_col;
}

/// Not fmt::print: a closed or full stderr must never end a run.
void put(const std::string& text) {
  std::fputs(text.c_str(), progress_style().out);
  std::fflush(progress_style().out);
}

std::chrono::steady_clock::time_point after(double seconds) {
  const std::chrono::duration<double> wait(seconds);
  return std::chrono::steady_clock::now() + std::chrono::duration_cast<std::chrono::steady_clock::duration>(wait);
}

std::chrono::steady_clock::time_point next_draw() {
  const ProgressStyle& style = progress_style();
  return after(style.terminal ? style.seconds_between_draws : style.seconds_between_lines);
}

}  // namespace

ProgressStyle& progress_style() {
  static ProgressStyle style{.terminal = ::isatty(STDERR_FILENO) == 1};
  return style;
}

Progress::Progress(std::string label, std::int64_t total, std::string unit)
    : label_(std::move(label)),
      unit_(std::move(unit)),
      total_(total),
      start_(Clock::now()),
      next_draw_(next_draw()),
      next_call_(start_) {}

Progress::~Progress() {
  if (progress_style().quiet) return;
  const std::lock_guard lock(screen);
  put((drawn ? kClearLine : "") + line(true) + "\n");
  drawn = false;
}

bool Progress::due() const {
  const ProgressStyle& style = progress_style();
  if (style.quiet && !style.listener) return false;
  const Clock::time_point now = Clock::now();
  return (style.listener && now >= next_call_) || (!style.quiet && (done_ == total_ || now >= next_draw_));
}

void Progress::show(std::string_view note) {
  note_ = note;
  if (progress_style().listener && Clock::now() >= next_call_) {
    next_call_ = after(progress_style().seconds_between_calls);
    progress_style().listener(line(false));
  }
  // With the last step done the last line is about to be written.
  if (!progress_style().quiet && done_ != total_ && Clock::now() >= next_draw_) draw();
}

void Progress::draw() {
  next_draw_ = next_draw();
  const std::lock_guard lock(screen);
  if (!progress_style().terminal) return put(line(false) + "\n");
  std::string text = line(false);
  text.resize(std::min(text.size(), columns_of(progress_style().out) - 1));
  put(kClearLine + text);
  drawn = true;
}

std::string Progress::line(bool last) const {
  const double elapsed = std::chrono::duration<double>(Clock::now() - start_).count();
  const double rate = elapsed > 0 ? static_cast<double>(done_ - taken_over_) / elapsed : 0;
  std::string text = label_ + ": ";
  if (!last && total_ > 0) {
    const double share = std::clamp(static_cast<double>(done_) / static_cast<double>(total_), 0.0, 1.0);
    if (progress_style().terminal) text += bar_of(share);
    text += fmt::format("{:.0f}% ", std::floor(share * 100));
  }
  text += compact(done_);
  if (total_ > 0 && done_ != total_) text.append("/").append(compact(total_));
  text += fmt::format(" {}, {}/s", unit_, compact(rate));
  if (last) text += ", took " + duration(elapsed);
  if (!last && total_ > done_ && rate > 0) {
    text += fmt::format(", {} left", duration(static_cast<double>(total_ - done_) / rate));
  }
  return note_.empty() ? text : text + ", " + note_;
}

void Progress::hide() {
  const std::lock_guard lock(screen);
  if (drawn) put(kClearLine);
  drawn = false;
}

}  // namespace mla
