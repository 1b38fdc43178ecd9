// What the user is told of an exception, and the exit code it ends with.
#pragma once

#include <exception>
#include <string>

#include "core/base/error.h"

namespace mla {

struct Failure {
  ExitCode code = ExitCode::kInternal;
  std::string message;  ///< one line
};

/// The error's message as one line; LibTorch's backtraces are left out.
std::string one_line(const std::exception& error);

/// The failure that the exception being handled stands for. Call it inside a catch block.
Failure current_failure();

}  // namespace mla
