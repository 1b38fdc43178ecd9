# Writes OUTPUT, a header that says which sources this build is made of; run at every build, rewritten only on change.
# Arguments: SOURCE (root of the project), OUTPUT, VERSION, BUILD_TYPE.
cmake_minimum_required(VERSION 3.25)
set(hash unknown)
set(dirty false)
find_package(Git QUIET)
if(Git_FOUND)
  # Only the project's own repository counts, not one that happens to lie around an unpacked archive.
  execute_process(COMMAND ${GIT_EXECUTABLE} -C ${SOURCE} rev-parse --show-prefix HEAD
    OUTPUT_VARIABLE answer RESULT_VARIABLE failed ERROR_QUIET OUTPUT_STRIP_TRAILING_WHITESPACE)
  if(NOT failed AND answer MATCHES "^\n?([0-9a-f]+)$")
    set(hash ${CMAKE_MATCH_1})
    execute_process(COMMAND ${GIT_EXECUTABLE} -C ${SOURCE} --no-optional-locks status --porcelain
      OUTPUT_VARIABLE changes ERROR_QUIET)
    if(changes)
      set(dirty true)
    endif()
  endif()
endif()
file(CONFIGURE OUTPUT ${OUTPUT} CONTENT "// Which sources this build is made of.
#pragma once

namespace mla::build_info {
constexpr const char* kGitHash = \"${hash}\";
constexpr bool kGitDirty = ${dirty};
constexpr const char* kVersion = \"${VERSION}\";
constexpr const char* kBuildType = \"${BUILD_TYPE}\";
}  // namespace mla::build_info
")
