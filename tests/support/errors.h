// The text of an expected exception.
#pragma once

#include <string>

namespace mla::test {

/// The message of the Error that `action` throws, or "no error"; any other exception passes on and fails the test.
template <class Error, class Action>
std::string message_of(Action&& action) {
  try {
    action();
  } catch (const Error& error) {
    return error.what();
  }
  return "no error";
}

}  // namespace mla::test
