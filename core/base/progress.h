// Progress of a long loop: a bar on a terminal, an occasional plain line elsewhere.
#pragma once

#include <chrono>
#include <cstdint>
#include <cstdio>
#include <functional>
#include <string>
#include <string_view>
#include <type_traits>

namespace mla {

/// Where and how progress is shown; one for the process.
struct ProgressStyle {
  std::FILE* out = stderr;
  bool terminal = false;                                    ///< redraw one line in place
  bool quiet = false;                                       ///< show nothing
  double seconds_between_lines = 10;                        ///< where it is no terminal
  double seconds_between_draws = 0.1;                       ///< on a terminal
  std::function<void(const std::string& line)> listener{};  ///< told now and then, also when quiet; may be empty
  double seconds_between_calls = 2;                         ///< of the listener
};

/// The style in use; `terminal` is set from isatty(stderr) at first use. Change it before making a Progress.
ProgressStyle& progress_style();

/// Counts the steps of a loop and shows count, rate and time left:
///
///   Progress bar("fine-tune", total_tokens, "tokens");
///   bar.advance(tokens, [&] { return cat("loss ", loss); });
///
/// An advance() that shows nothing costs one look at the clock. When it is destroyed, one last line says what was done
/// and how long it took. Use one from one thread; nested ones share the terminal's line.
class Progress {
 public:
  /// `total` counts `unit`s; 0 or less: unknown.
  Progress(std::string label, std::int64_t total, std::string unit);
  ~Progress();
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

  /// `count` more units are done. `note` is a text, or a function returning one that is called only when it is shown.
  template <class Note>
  void advance(std::int64_t count, Note&& note) {
    done_ += count;
    if constexpr (std::is_invocable_v<Note&>) {
      if (due()) show(note());
    } else {
      if (due()) show(note);
    }
  }
  void advance(std::int64_t count = 1) { advance(count, std::string_view()); }

  /// `count` units were done before: they count as done, but not for the rate.
  void take_over(std::int64_t count) {
    done_ += count;
    taken_over_ += count;
  }

  std::int64_t done() const { return done_; }

  /// Clears the bar from the terminal, if one is drawn, so that a line can be written; the next advance draws it again.
  static void hide();

 private:
  using Clock = std::chrono::steady_clock;

  bool due() const;
  void show(std::string_view note);
  void draw();
  std::string line(bool last) const;

  std::string label_, unit_, note_;
  std::int64_t total_ = 0, done_ = 0, taken_over_ = 0;
  Clock::time_point start_, next_draw_, next_call_;
};

}  // namespace mla
