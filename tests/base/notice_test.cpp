// What is linked stands in NOTICE.
#include <gtest/gtest.h>

#include <filesystem>
#include <regex>
#include <set>
#include <string>

#include "core/base/file.h"

namespace mla {
namespace {

TEST(Notice, NamesEveryPackageThatTheBuildLooksFor) {
  const std::filesystem::path root = MLA_SOURCE_DIR;
  const std::string notice = read_file(root / "NOTICE");
  std::set<std::string> packages;
  for (const char* file : {"CMakeLists.txt", "tests/CMakeLists.txt"}) {
    const std::string text = read_file(root / file);
    const std::regex call(R"((?:find_package|pkg_check_modules)\((\w+))");
    for (std::sregex_iterator each(text.begin(), text.end(), call), end; each != end; ++each)
      packages.insert((*each)[1]);
  }
  EXPECT_GE(packages.size(), 15u);
  for (const char* tool : {"PkgConfig", "Threads", "OpenMP"}) packages.erase(tool);  // no library, or libgomp
  for (const std::string& package : packages) EXPECT_NE(notice.find(package), std::string::npos) << package;
  for (const char* library : {"LibTorch", "libgomp", "libstdc++", "Apache License, Version 2.0"})
    EXPECT_NE(notice.find(library), std::string::npos) << library;
}

TEST(Notice, TheLicenceIsTheApacheLicence) {
  const std::string licence = read_file(std::filesystem::path(MLA_SOURCE_DIR) / "LICENSE");
  EXPECT_NE(licence.find("Apache License\n                           Version 2.0, January 2004"), std::string::npos);
  EXPECT_NE(licence.find("END OF TERMS AND CONDITIONS"), std::string::npos);
}

}  // namespace
}  // namespace mla
