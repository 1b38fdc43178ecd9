#include "experiments/cli/failure.h"

#include <c10/util/Exception.h>

#include <filesystem>
#include <new>

#include "core/base/message_line.h"
#include "core/base/path_error.h"

namespace mla {

std::string one_line(const std::exception& error) {
  if (const auto* torch = dynamic_cast<const c10::Error*>(&error)) {
    const std::string text = torch->what_without_backtrace();
    return message_line(text.substr(0, text.find('\n')));
  }
  return message_line(error.what());
}

Failure current_failure() {
  try {
    throw;
  } catch (const ConfigError& error) {
    return {ExitCode::kConfig, one_line(error)};
  } catch (const DataError& error) {
    return {ExitCode::kData, one_line(error)};
  } catch (const std::filesystem::filesystem_error& error) {
    return {ExitCode::kData, message_line(told_by_path(error))};
  } catch (const Interrupted& error) {
    return {ExitCode::kInterrupted, one_line(error)};
  } catch (const std::bad_alloc&) {
    return {ExitCode::kInternal, "out of memory"};
  } catch (const std::exception& error) {
    const std::string text = one_line(error);
    const std::size_t asked = text.find("you tried to allocate ");  // LibTorch's words where memory is refused
    return {ExitCode::kInternal, asked == std::string::npos ? text : "out of memory: " + text.substr(asked)};
  } catch (...) {
    return {ExitCode::kInternal, "an exception of unknown type"};
  }
}

}  // namespace mla
