// What the sources may not say: a method is known by its registration, not by name or type, to everything else.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <regex>
#include <set>
#include <sstream>
#include <string>
#include <vector>

#include "core/attention/spec.h"
#include "core/attention/weight_storage.h"
#include "core/base/registry.h"
#include "core/compress/pass.h"
#include "core/low_rank/factorizer.h"
#include "core/partial_rope/key_rotation.h"

namespace mla {
namespace {

namespace fs = std::filesystem;

/// Code of core/ and experiments/ by its path below the project, comments left out.
std::vector<std::pair<std::string, std::string>> sources() {
  std::vector<std::pair<std::string, std::string>> all;
  for (const char* house : {"core", "experiments"}) {
    for (const auto& entry : fs::recursive_directory_iterator(fs::path(MLA_SOURCE_DIR) / house)) {
      const std::string extension = entry.path().extension().string();
      if (extension != ".cpp" && extension != ".h") continue;
      std::ifstream file(entry.path());
      std::string code;
      for (std::string line; std::getline(file, line);) code += line.substr(0, line.find("//")) + "\n";
      all.emplace_back(fs::relative(entry.path(), MLA_SOURCE_DIR).string(), code);
    }
  }
  return all;
}

template <class Interface>
void add_names(std::set<std::string>& names) {
  for (const std::string& name : Registry<Interface>::instance().names()) names.insert(name);
}

TEST(Sources, KindsAreAskedForInTheirOwnFilesAlone) {
  // A type is looked at by the file that makes it: of a kind, or of an exception.
  const std::set<std::string> own = {"core/attention/adapted_weights.cpp", "core/attention/grouped_query.cpp",
                                     "core/attention/latent.cpp", "core/attention/latent_spec.cpp",
                                     "experiments/cli/failure.cpp"};
  std::size_t found = 0;
  for (const auto& [path, code] : sources()) {
    const bool casts = code.find("dynamic_cast<") != std::string::npos;
    EXPECT_TRUE(!casts || own.contains(path)) << path;
    found += casts;
  }
  EXPECT_EQ(found, own.size());
}

TEST(Sources, MethodsAreNotComparedByName) {
  std::set<std::string> names;
  add_names<AttentionSpec>(names);
  add_names<Pass>(names);
  add_names<RotationStrategy>(names);
  add_names<Factorizer>(names);
  add_names<WeightStorage>(names);
  // Words of other options, too.
  names.erase("all");
  names.erase("none");
  names.erase("packed");
  ASSERT_GT(names.size(), 12u);
  std::string any;
  for (const std::string& name : names) any += (any.empty() ? "" : "|") + name;
  const std::regex comparison("[=!]= *\"(" + any + ")\"|\"(" + any + ")\" *[=!]=");
  for (const auto& [path, code] : sources()) {
    std::smatch match;
    EXPECT_FALSE(std::regex_search(code, match, comparison)) << path << ": " << match.str();
  }
}

// Sizes of a model stand in ModelSpec and the fields of its layers; a struct that repeats one of them is a view that is
// handed to strategies, each with its reason.
TEST(Sources, SizesOfAModelAreStatedOnce) {
  const std::set<std::string> views = {
      "core/attention/spec.h",             // HeadFields, the one place
      "core/low_rank/factorizer.h",        // what a strategy sees of a layer: it knows no model
      "core/partial_rope/key_rotation.h",  // likewise
      "core/model/llama2c.cpp"             // the header of a file
  };
  const std::regex field("int64_t [^;()]*\\bkv_heads\\b[^;()]*;");
  for (const auto& [path, code] : sources()) {
    if (path.ends_with(".h") || path == "core/model/llama2c.cpp") {
      EXPECT_TRUE(!std::regex_search(code, field) || views.contains(path)) << path;
    }
  }
}

// Products go through Linear, whose tensors are private; who takes its matrix apart says so here.
TEST(Sources, MatricesOfLinearMapsAreReadByConversionsAlone) {
  const std::set<std::string> conversions = {
      "core/attention/linear.h",           // the one place
      "core/attention/latent_decode.cpp",  // products of matrices, made once for all steps
      "core/attention/adapted_weights.cpp",
      "core/attention/block_weights.cpp",
      "core/attention/one_bit_weights.cpp",
      "core/attention/packed_weights.cpp",
      "core/attention/split_latent.cpp",  // turned round once for all steps
      "core/compress/layers/head_weights.cpp",
      "core/compress/layers/latent_assembly.cpp",
      "core/compress/mean_key/layer.cpp",
      "core/compress/passes/fold_qk_norm.cpp",
      "core/model/pool_heads.cpp",
      "core/serve/deepseek_form.cpp",
      "core/serve/gguf_plain.cpp",
      "core/serve/transformers_code_format.cpp"};
  const std::regex matrix(R"(\bto_dense\(\))");
  std::size_t found = 0;
  for (const auto& [path, code] : sources()) {
    const bool reads = std::regex_search(code, matrix);
    EXPECT_TRUE(!reads || conversions.contains(path)) << path;
    found += reads;
  }
  EXPECT_EQ(found, conversions.size());
}

}  // namespace
}  // namespace mla
