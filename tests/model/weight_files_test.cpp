// Files whose tensors do not lie as the formats say, or under other names.
#include "core/model/weight_files.h"

#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>

#include "core/base/error.h"
#include "core/base/file.h"
#include "core/model/checkpoint.h"
#include "tests/support/errors.h"
#include "tests/support/temporary_folder.h"
#include "tests/support/tiny_models.h"

namespace mla {
namespace {

using test::message_of;
using test::TemporaryFolder;
using testing::AllOf;
using testing::HasSubstr;

std::string file_bytes(const std::string& header, std::size_t data) {
  const std::uint64_t length = header.size();
  return std::string(reinterpret_cast<const char*>(&length), sizeof length) + header + std::string(data, '\0');
}

/// The error of reading a file with this header and so many bytes behind it.
std::string error_of(const std::string& header, std::size_t data) {
  const TemporaryFolder folder;
  const auto file = folder.write("x.safetensors", file_bytes(header, data));
  return message_of<DataError>([&] { read_safetensors(file); });
}

/// A header with one tensor "a".
std::string one(const std::string& shape, const std::string& offsets, const std::string& dtype = "F32") {
  return R"({"a":{"dtype":")" + dtype + R"(","shape":)" + shape + R"(,"data_offsets":)" + offsets + "}}";
}

std::string two(const std::string& first, const std::string& second) {
  const auto entry = [](const std::string& offsets) {
    return R"({"dtype":"F32","shape":[2],"data_offsets":)" + offsets + "}";
  };
  return R"({"a":)" + entry(first) + R"(,"b":)" + entry(second) + "}";
}

TEST(Safetensors, EveryByteBelongsToOneTensor) {
  EXPECT_EQ(error_of(two("[0,8]", "[8,16]"), 16), "no error");
  EXPECT_EQ(error_of(two("[8,16]", "[0,8]"), 16), "no error");
  EXPECT_THAT(error_of(two("[0,8]", "[8,16]"), 20), HasSubstr("4 bytes follow the last tensor"));
  EXPECT_THAT(error_of(two("[0,8]", "[12,20]"), 20),
              AllOf(HasSubstr("b: its data begin at byte 12"), HasSubstr("holes")));
  EXPECT_THAT(error_of(two("[4,12]", "[12,20]"), 20), HasSubstr("a: its data begin at byte 4"));
  EXPECT_THAT(error_of(two("[0,8]", "[4,12]"), 12), HasSubstr("inside another tensor's"));
  EXPECT_THAT(error_of(two("[0,8]", "[0,8]"), 8), HasSubstr("inside another tensor's"));
  EXPECT_EQ(error_of("{}", 0), "no error");
  EXPECT_THAT(error_of("{}", 1), HasSubstr("1 bytes follow"));
  EXPECT_EQ(error_of(one("[0]", "[0,0]"), 0), "no error");
}

TEST(Safetensors, SizesThatWrapAreRefused) {
  for (const char* shape : {"[9223372036854775808]", "[0,9223372036854775808]", "[18446744073709551615]", "[-1]",
                            "[1.5]", "[\"1\"]", "[null]", "[[1]]", "7", "{}", "[1e3]"}) {
    EXPECT_THAT(error_of(one(shape, "[0,4]"), 4), HasSubstr("is not a list of sizes")) << shape;
  }
  for (const char* shape :
       {"[4611686018427387904,4]", "[4294967296,4294967296]", "[0,4611686018427387904,8]", "[9223372036854775807]"}) {
    EXPECT_THAT(error_of(one(shape, "[0,4]"), 4), HasSubstr("is too large")) << shape;
  }
  std::string dims = "[1";
  for (int i = 0; i < 100000; ++i) dims += ",1";
  EXPECT_THAT(error_of(one(dims + "]", "[0,4]"), 4), HasSubstr("shape has 100001 entries; at most 64"));
  for (const char* offsets :
       {"[0]", "[0,4,8]", "[0,18446744073709551615]", "[-4,0]", "[4,0]", "[0,8]", "4", "[0,4.0]"}) {
    EXPECT_NE(error_of(one("[1]", offsets), 4), "no error") << offsets;
  }
}

TEST(Safetensors, WrongEntriesAreNamedShortly) {
  const std::string large(100000, 'x');
  for (const std::string& header :
       {one("[1]", "[0,4]", large), "{\"" + large + "\":1}", "{\"" + large + "\":{\"dtype\":\"F32\"}}",
        "{\"a\":\"" + large + "\"}", "{\"__metadata__\":{\"" + large + "\":1}}", "{\"a\":[\"" + large + "\"]}"}) {
    const std::string message = error_of(header, 4);
    EXPECT_NE(message, "no error");
    EXPECT_LT(message.size(), 500u) << message.substr(0, 600);
  }
  EXPECT_THAT(error_of(R"({"__metadata__":{"format":1}})", 0), HasSubstr("__metadata__.format = 1: must be a string"));
  EXPECT_THAT(error_of(R"({"__metadata__":[]})", 0), HasSubstr("__metadata__: expected an object, found an array"));
  EXPECT_THAT(error_of(R"([1])", 0), HasSubstr("does not begin with {"));
  EXPECT_THAT(error_of("{\"a\":" + std::string(100000, '['), 0), HasSubstr("nested too deep"));
}

/// A tiny model in two shards, of which `spoil` may change anything.
struct Sharded {
  TemporaryFolder folder;
  WeightMap first, second;
  Json map = Json::object();

  Sharded() {
    save_checkpoint(test::tiny_checkpoint("mha", at::kFloat), folder.path());
    for (const auto& [name, tensor] : read_safetensors(folder / "model.safetensors")) {
      const bool early = name < "model.layers.1";
      (early ? first : second).emplace(name, tensor.clone());
      map[name] = early ? "one.safetensors" : "two.safetensors";
    }
    std::filesystem::remove(folder / "model.safetensors");
  }
  void write() const {
    write_safetensors(folder / "one.safetensors", {first.begin(), first.end()});
    write_safetensors(folder / "two.safetensors", {second.begin(), second.end()});
    write_json(folder / kIndexFile, {{"metadata", {{"total_size", 1}}}, {"weight_map", map}});
  }
  std::string error() const {
    write();
    return message_of<DataError>([&] { load_checkpoint(folder.path()); });
  }
};

TEST(WeightFiles, TheWeightMapDecidesWhichShardATensorComesFrom) {
  const std::string name = "model.norm.weight";
  Sharded model;
  ASSERT_EQ(model.error(), "no error");
  const at::Tensor right = load_checkpoint(model.folder.path()).decoder.final_norm;
  for (const bool moved : {false, true}) {
    Sharded copies;
    copies.first[name] = copies.second[name] = copies.second.at(name);
    (moved ? copies.second : copies.first)[name] = at::full_like(right, 7);
    copies.map[name] = moved ? "one.safetensors" : "two.safetensors";
    ASSERT_EQ(copies.error(), "no error");
    EXPECT_TRUE(at::equal(load_checkpoint(copies.folder.path()).decoder.final_norm, right)) << moved;
  }
}

TEST(WeightFiles, IndicesThatDoNotFitAreRefused) {
  const auto with = [](const std::string& name, const Json& file) {
    Sharded model;
    model.map[name] = file;
    return model.error();
  };
  EXPECT_THAT(with("model.norm.weight", "one.safetensors"),
              HasSubstr("one.safetensors: tensor model.norm.weight is missing"));
  EXPECT_THAT(with("model.norm.weight", "three.safetensors"), HasSubstr("shard three.safetensors is missing"));
  for (const Json& file :
       {Json("../one.safetensors"), Json("/etc/passwd"), Json("sub/one.safetensors"), Json(".."), Json(""),
        Json(std::string(300, 'x')), Json(3), Json(nullptr), Json::array({"one.safetensors"})}) {
    EXPECT_THAT(with("model.norm.weight", file), HasSubstr("expected the name of a file beside the index")) << file;
  }
  Sharded unnamed;
  unnamed.map.erase("model.norm.weight");
  EXPECT_THAT(unnamed.error(), HasSubstr("tensor model.norm.weight is not in the weight_map"));
  for (const Json& index : {Json(3), Json::array(), Json{{"weight_map", 3}}, Json{{"weight_map", Json::array()}},
                            Json{{"weight_map", Json::object()}}, Json::object()}) {
    Sharded model;
    model.write();
    write_json(model.folder / kIndexFile, index);
    EXPECT_THAT(message_of<DataError>([&] { load_checkpoint(model.folder.path()); }), HasSubstr(kIndexFile)) << index;
  }
}

TEST(WeightFiles, OtherFormsAreNamedWithWhatConvertsThem) {
  for (const auto& [file, advice] : {std::pair{"pytorch_model.bin", "save_pretrained"},
                                     {"pytorch_model.bin.index.json", "save_pretrained"},
                                     {"consolidated.00.pth", "convert_llama"},
                                     {"model-q4.gguf", "name that file itself"},
                                     {"other.safetensors", "rename"}}) {
    const TemporaryFolder folder;
    save_checkpoint(test::tiny_checkpoint("mha", at::kFloat), folder.path());
    std::filesystem::remove(folder / "model.safetensors");
    folder.write(file, "x");
    EXPECT_THAT(message_of<DataError>([&] { load_checkpoint(folder.path()); }),
                AllOf(HasSubstr("holds neither model.safetensors"), HasSubstr(file), HasSubstr(advice)));
  }
}

TEST(WeightFiles, ALoraAdapterIsNamedWhereverAModelIsOpened) {
  for (const char* file : {"adapter_config.json", "adapter_model.safetensors", "adapter_model.bin"}) {
    for (const bool with_config : {true, false}) {
      const TemporaryFolder folder;
      save_checkpoint(test::tiny_checkpoint("mha", at::kFloat), folder.path());
      if (!with_config) std::filesystem::remove(folder / "config.json");
      folder.write(file, "{}");
      const auto wanted = AllOf(HasSubstr("holds a LoRA adapter"), HasSubstr(file), HasSubstr("merge_and_unload"));
      EXPECT_THAT(message_of<DataError>([&] { load_checkpoint(folder.path()); }), wanted);
      EXPECT_THAT(message_of<DataError>([&] { load_spec(folder.path()); }), wanted);
    }
  }
}

/// A saved tiny model with every tensor's name changed.
template <class Rename>
void rename_all(const std::filesystem::path& folder, const Rename& rename) {
  std::vector<std::pair<std::string, at::Tensor>> renamed;
  for (const auto& [name, tensor] : read_safetensors(folder / "model.safetensors"))
    renamed.emplace_back(rename(name), tensor.clone());
  write_safetensors(folder / "model.safetensors", renamed);
}

TEST(WeightNames, WithoutModelInFrontTheyLoad) {
  for (const char* kind : {"mha", "gqa"}) {
    const TemporaryFolder folder;
    save_checkpoint(test::tiny_checkpoint(kind, at::kFloat), folder.path());
    const Checkpoint usual = load_checkpoint(folder.path());
    rename_all(folder.path(),
               [](const std::string& name) { return name.starts_with("model.") ? name.substr(6) : name; });
    const at::Tensor ids = test::random_ids(usual.decoder.spec(), 1, 12);
    EXPECT_TRUE(at::equal(load_checkpoint(folder.path()).decoder.forward(ids), usual.decoder.forward(ids))) << kind;
  }
}

TEST(WeightNames, OtherPrefixesAreNamed) {
  const auto with_prefix = [](const std::string& prefix) {
    const TemporaryFolder folder;
    save_checkpoint(test::tiny_checkpoint("mha", at::kFloat), folder.path());
    rename_all(folder.path(), [&](const std::string& name) { return prefix + name; });
    return message_of<DataError>([&] { load_checkpoint(folder.path()); });
  };
  EXPECT_THAT(with_prefix("_orig_mod."),
              AllOf(HasSubstr("every name begins with _orig_mod."), HasSubstr("torch.compile")));
  EXPECT_THAT(with_prefix("module."), AllOf(HasSubstr("tensor model.embed_tokens.weight is missing"),
                                            HasSubstr("the file holds module.model.embed_tokens.weight"),
                                            HasSubstr("every name not yet used begins with module.")));
}

TEST(WeightFiles, ATiedConfigWithAnotherOutputMatrixKeepsIt) {
  const TemporaryFolder folder, again;
  const Checkpoint tied = test::tiny_checkpoint("gqa", at::kFloat);
  save_checkpoint(tied, folder.path());
  const auto add_output = [&](const at::Tensor& matrix) {
    WeightMap weights = read_safetensors(folder / "model.safetensors");
    for (auto& [name, tensor] : weights) tensor = tensor.clone();
    weights["lm_head.weight"] = matrix;
    write_safetensors(folder / "model.safetensors", {weights.begin(), weights.end()});
    return load_checkpoint(folder.path());
  };
  const Checkpoint same = add_output(tied.decoder.embedding.to_dense().clone());
  EXPECT_TRUE(same.decoder.spec().tied_embeddings);
  EXPECT_FALSE(same.decoder.output.defined());
  const at::Tensor other = tied.decoder.embedding.to_dense().flip(0).clone();
  const Checkpoint untied = add_output(other);
  EXPECT_FALSE(untied.decoder.spec().tied_embeddings);
  EXPECT_TRUE(at::equal(untied.decoder.output.to_dense(), other));
  EXPECT_EQ(untied.config["tie_word_embeddings"], false);
  save_checkpoint(untied, again.path());
  EXPECT_TRUE(at::equal(load_checkpoint(again.path()).decoder.output.to_dense(), other));
  EXPECT_FALSE(load_spec(again.path()).tied_embeddings);
}

}  // namespace
}  // namespace mla
