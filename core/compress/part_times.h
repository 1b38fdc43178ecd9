// Where the time of a conversion goes, for one line of the log.
#pragma once

#include <chrono>
#include <string>
#include <utility>
#include <vector>

namespace mla {

/// Seconds of named parts, in the order in which they were met first. Of parts that run within each other the time goes
/// to the inner one alone.
class PartTimes {
 public:
  /// Runs until it is destroyed.
  class Running {
   public:
    Running(PartTimes& times, std::string part) : times_(times), outer_(times.current_) {
      times.settle();
      times.current_ = std::move(part);
    }
    ~Running() {
      times_.settle();
      times_.current_ = outer_;
    }
    Running(const Running&) = delete;
    Running& operator=(const Running&) = delete;

   private:
    PartTimes& times_;
    std::string outer_;
  };

  double seconds(const std::string& part) const;
  /// "19.1 s: moments 12.3 s, sizes 6.8 s"
  std::string text() const;

 private:
  using Clock = std::chrono::steady_clock;
  /// What has passed since the last change goes to the part that runs.
  void settle();

  std::vector<std::pair<std::string, double>> parts_;
  std::string current_;  ///< empty: none
  Clock::time_point since_ = Clock::now();
};

}  // namespace mla
