// Stands in for a full disk: writes beyond a limit fail.
#pragma once

#include <sys/resource.h>

#include <csignal>
#include <cstddef>

namespace mla::test {

/// While it lives, no file of this process can grow beyond `bytes`: write() fails as it does on a full disk.
class SmallFilesOnly {
 public:
  explicit SmallFilesOnly(std::size_t bytes) : old_handler_(std::signal(SIGXFSZ, SIG_IGN)) {
    ::getrlimit(RLIMIT_FSIZE, &old_limit_);
    rlimit limit = old_limit_;
    limit.rlim_cur = bytes;
    ::setrlimit(RLIMIT_FSIZE, &limit);
  }
  ~SmallFilesOnly() {
    ::setrlimit(RLIMIT_FSIZE, &old_limit_);
    std::signal(SIGXFSZ, old_handler_);
  }
  SmallFilesOnly(const SmallFilesOnly&) = delete;
  SmallFilesOnly& operator=(const SmallFilesOnly&) = delete;

 private:
  void (*old_handler_)(int);
  rlimit old_limit_{};
};

}  // namespace mla::test
