// One spelling of the same option, whichever command and program has it.
#pragma once

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <regex>
#include <set>
#include <string>

namespace mla::test {

/// Words for an option that were in use, or that would come to mind, by the one that the commands have.
inline std::string spelling_of(const std::string& name) {
  static const std::map<std::string, std::set<std::string>> others = {
      {"model", {"model-path", "checkpoint", "source-model"}},
      {"output", {"out", "output-dir", "output-file", "out-dir", "record", "save-to"}},
      {"max-…", {"limit"}},
      {"max-items", {"limit-items", "num-items", "max-samples", "max-examples"}},
      {"max-documents", {"limit-documents"}},
      {"separator", {"documents"}},
      {"new-tokens", {"tokens", "max-tokens", "max-new-tokens"}},
      {"dtype", {"arithmetic", "precision"}},
      {"device", {"accelerator", "hardware", "gpu", "device-name"}},
      {"only", {"case", "run", "select", "filter"}},
      {"tokenizer", {"vocab"}},
      {"seed", {"random-seed"}},
      {"batch", {"batch-size"}},
      {"context", {"context-length"}},
      {"config", {"config-file"}},
      {"threads", {"num-threads"}},
      {"quiet", {"silent"}}};
  for (const auto& [spelling, words] : others) {
    if (words.contains(name)) return spelling;
  }
  return name;
}

/// Fails for options in the help text of `command` that the commands spell otherwise.
inline void expect_one_spelling(const std::string& command, const std::string& help) {
  SCOPED_TRACE(command);
  const std::regex option(R"(\n  (-\w \[ )?--([a-z0-9-]+)( \])?( \S+)?)");
  // The short form, or what stands for the value.
  const std::map<std::string, std::string> forms = {{"output", "-o [ "},    {"help", "-h [ "},  {"model", " MODEL"},
                                                    {"tokenizer", " PATH"}, {"dtype", " TYPE"}, {"device", " DEVICE"},
                                                    {"max-…", " N"}};
  std::size_t found = 0;
  for (std::sregex_iterator each(help.begin(), help.end(), option), end; each != end; ++each, ++found) {
    const std::string short_form = (*each)[1], name = (*each)[2], value = (*each)[4];
    if (command != "mlaforge verify-export" || name != "tokens") {  // how many are compared, or which: none are made
      EXPECT_EQ(name, spelling_of(name)) << "as it is called elsewhere";
    }
    const auto form = forms.find(name.starts_with("max-") ? "max-…" : name);
    if (form != forms.end()) {
      EXPECT_EQ(name == "output" || name == "help" ? short_form : value, form->second) << "--" << name;
    }
  }
  EXPECT_GT(found, 0U) << "the pattern no longer finds options";
}

}  // namespace mla::test
