// Models that are written as GGUF files: the keys and bytes that llama.cpp reads, the same model when read here again,
// and one line for what files cannot say.
#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <map>
#include <set>
#include <sstream>

#include "core/attention/latent.h"
#include "core/base/error.h"
#include "core/base/file.h"
#include "core/compress/pass.h"
#include "core/gguf/file.h"
#include "core/serve/export_format.h"
#include "core/serve/gguf_tensors.h"
#include "core/text/tokenizer.h"
#include "tests/support/errors.h"
#include "tests/support/temporary_folder.h"
#include "tests/support/tiny_model_folder.h"
#include "tests/support/tiny_models.h"

namespace mla {
namespace {

using test::TemporaryFolder;
using testing::AllOf;
using testing::HasSubstr;

/// Of logits: rounding of float32 in another order of products, and of types with 11, 8 and about 8 bits.
constexpr double kSameExport = 2e-5, kHalfExport = 2e-2, kNarrowExport = 0.2;

/// Files are written from the decoder alone.
Checkpoint checkpoint_of(Decoder decoder) { return {std::move(decoder), Json::object(), {}}; }

std::filesystem::path gguf_written(const Checkpoint& model, const TemporaryFolder& folder,
                                   const std::string& type = "F32", bool pad = false, ExportReport* report = nullptr) {
  const std::filesystem::path path = folder / ("model." + type + ".gguf");
  const ExportReport made = export_model(model, "gguf", {type, pad, {}, {}}, path);
  if (report) *report = made;
  return path;
}

std::string export_refusal(const Checkpoint& model, bool pad = false) {
  const TemporaryFolder folder;
  const std::string message = test::message_of<ConfigError>([&] { gguf_written(model, folder, "F32", pad); });
  EXPECT_TRUE(message.starts_with("--format gguf: ")) << message;
  EXPECT_TRUE(std::filesystem::is_empty(folder.path())) << "nothing is left of a refused export";
  return message;
}

Decoder after(Decoder decoder, const Json& pass) {
  Registry<Pass>::instance().make(pass, "compress[0]")->apply(decoder, {});
  return decoder;
}

Json mha2mla(const Json& rope, std::int64_t d_kv = 8) {
  return {{"name", "mha2mla"}, {"rope", rope}, {"low_rank", {{"name", "joint_svd"}, {"d_kv", d_kv}}}};
}

/// Logits' largest difference in their standard deviations.
double relative_difference(const Decoder& made, const Decoder& wanted, double* mean = nullptr) {
  const at::NoGradGuard off;
  const at::Tensor ids = test::random_ids(wanted.spec(), 2, std::min<std::int64_t>(24, wanted.spec().max_positions));
  const at::Tensor logits = wanted.forward(ids).to(at::kDouble),
                   difference = made.forward(ids).to(at::kDouble) - logits;
  const double deviation = logits.std().item<double>();
  if (mean) *mean = difference.square().mean().sqrt().item<double>() / deviation;
  return difference.abs().max().item<double>() / deviation;
}

class PlainExports : public testing::TestWithParam<std::string> {};

TEST_P(PlainExports, AreTheSameModelBitForBit) {
  const TemporaryFolder folder;
  ModelSpec spec = test::tiny_spec(GetParam());
  if (GetParam() == "window") spec.max_positions = 5;  // as far as its windows reach
  spec.ends = {7};
  spec.bos = 3;
  const Checkpoint model = checkpoint_of(test::tiny_decoder(spec, at::kFloat));
  const Checkpoint read = load_checkpoint(gguf_written(model, folder));
  std::map<std::string, at::Tensor> wanted;
  const_cast<Decoder&>(model.decoder).visit_parameters([&](const std::string& name, at::Tensor& tensor) {
    wanted.emplace(name, tensor);
  });
  std::size_t found = 0;
  const_cast<Decoder&>(read.decoder).visit_parameters([&](const std::string& name, at::Tensor& tensor) {
    ++found;
    EXPECT_TRUE(at::equal(tensor, wanted.at(name))) << name;
  });
  EXPECT_EQ(found, wanted.size());
  EXPECT_EQ(read.decoder.spec().rope_scaling, spec.rope_scaling);
  EXPECT_EQ(read.decoder.spec().max_positions, spec.max_positions);
  // Windows as long as the context are left out, and computed by other kernels.
  EXPECT_LE(relative_difference(read.decoder, model.decoder), GetParam() == "window" ? kSameExport : 0);
}
INSTANTIATE_TEST_SUITE_P(Kinds, PlainExports, testing::ValuesIn(test::tiny_kinds()));

TEST(GgufExport, Llama3sRuleIsFactors) {
  const TemporaryFolder folder;
  ModelSpec spec = test::tiny_spec("mha");
  spec.max_positions = 4096;
  spec.rope_scaling.type = "llama3";
  spec.rope_scaling.factor = 8;
  spec.rope_scaling.original_positions = 1024;
  const Checkpoint model = checkpoint_of(test::tiny_decoder(spec, at::kFloat));
  const Checkpoint read = load_checkpoint(gguf_written(model, folder));
  EXPECT_EQ(read.decoder.spec().rope_scaling, spec.rope_scaling);
  EXPECT_EQ(relative_difference(read.decoder, model.decoder), 0);
}

/// Keys and tensors of a file with one of its blocks, as text.
Json contents(const std::filesystem::path& path) {
  const gguf::File file(path);
  Json all = file.metadata();
  for (const gguf::Tensor& tensor : file.tensors()) {
    if (tensor.name.starts_with("blk.1.")) continue;
    all[tensor.name] = tensor.type->name;
    for (const std::int64_t size : tensor.shape)
      all[tensor.name] = all[tensor.name].get<std::string>() + cat(' ', size);
  }
  return all;
}

/// The pairs of each KV head, the same in both layers: {"explicit", …}.
Json pairs_of_heads(const Json& heads) { return {{"name", "explicit"}, {"kept", Json::array({heads, heads})}}; }

/// By default each of two KV heads keeps one pair, every other of the model's four: together a comb.
Checkpoint converted(const std::string& kind = "gqa", const Json& heads = {{0}, {2}}) {
  return checkpoint_of(after(test::tiny_decoder(test::tiny_spec(kind), at::kFloat), mha2mla(pairs_of_heads(heads))));
}

TEST(GgufExport, ConvertedModelsHaveTheKeysOfDeepSeek2) {
  const TemporaryFolder folder;
  ExportReport report;
  const auto path = gguf_written(converted(), folder, "F32", false, &report);
  // Rotated: a pair of each of the two KV heads; latent 2 * 8; content 6 of 8 dims, so that keys have 10; pairs 0 and 2
  // of four are 1 and 10000^(-1/2), a ladder of two pairs of 10000.
  const Json wanted = {{"general.architecture", "deepseek2"},
                       {"general.type", "model"},
                       {"general.file_type", 0},
                       {"tokenizer.ggml.model", "none"},
                       {"deepseek2.vocab_size", 50},
                       {"deepseek2.context_length", 64},
                       {"deepseek2.embedding_length", 32},
                       {"deepseek2.block_count", 2},
                       {"deepseek2.feed_forward_length", 48},
                       {"deepseek2.attention.head_count", 4},
                       {"deepseek2.attention.head_count_kv", 1},
                       {"deepseek2.attention.layer_norm_rms_epsilon", 1e-6},
                       {"deepseek2.attention.q_lora_rank", 0},
                       {"deepseek2.attention.kv_lora_rank", 16},
                       {"deepseek2.attention.key_length", 20},
                       {"deepseek2.attention.value_length", 16},
                       {"deepseek2.attention.key_length_mla", 10},
                       {"deepseek2.attention.value_length_mla", 8},
                       {"deepseek2.rope.dimension_count", 4},
                       {"deepseek2.rope.freq_base", 10000},
                       {"deepseek2.leading_dense_block_count", 2},
                       {"deepseek2.expert_feed_forward_length", 48},
                       {"deepseek2.expert_shared_count", 0},
                       {"token_embd.weight", "F32 50 32"},
                       {"output_norm.weight", "F32 32"},
                       {"blk.0.attn_norm.weight", "F32 32"},
                       {"blk.0.attn_q.weight", "F32 40 32"},
                       {"blk.0.attn_kv_a_mqa.weight", "F32 20 32"},
                       {"blk.0.attn_kv_a_norm.weight", "F32 16"},
                       {"blk.0.attn_k_b.weight", "F32 4 16 6"},
                       {"blk.0.attn_v_b.weight", "F32 4 8 16"},
                       {"blk.0.attn_output.weight", "F32 32 32"},
                       {"blk.0.ffn_norm.weight", "F32 32"},
                       {"blk.0.ffn_gate.weight", "F32 48 32"},
                       {"blk.0.ffn_up.weight", "F32 48 32"},
                       {"blk.0.ffn_down.weight", "F32 32 48"}};
  LargeJson found = contents(path);
  for (const auto& [key, value] : wanted.items()) {
    EXPECT_EQ(found.value(key, LargeJson()), LargeJson(value)) << key;
  }
  for (const auto& [key, value] : found.items()) EXPECT_TRUE(wanted.contains(key)) << key;
  EXPECT_EQ(report.cached_values, 20);
  EXPECT_EQ(report.engines.front().engine, "llama.cpp");
  EXPECT_TRUE(std::filesystem::exists(folder / "model.F32.md")) << "the model card";
}

struct LatentCase {
  const char *name, *kind, *heads;
  std::int64_t cached;
};
class LatentExports : public testing::TestWithParam<LatentCase> {
 protected:
  static Checkpoint model() { return converted(GetParam().kind, Json::parse(GetParam().heads)); }
};

TEST_P(LatentExports, AreReadAsTheSameModel) {
  const TemporaryFolder folder;
  const Checkpoint source = model();
  ExportReport report;
  const auto path = gguf_written(source, folder, "F32", false, &report);
  const Checkpoint read = load_checkpoint(path);
  EXPECT_LT(relative_difference(read.decoder, source.decoder), kSameExport);
  EXPECT_EQ(report.cached_values, GetParam().cached);
  EXPECT_EQ(cached_elements(read.decoder.spec()), 2 * GetParam().cached);
  EXPECT_EQ(load_spec(path), read.decoder.spec());
  // Read, it has this form exactly: once more written it is the same file.
  const TemporaryFolder again;
  const Checkpoint twice = load_checkpoint(gguf_written(read, again));
  EXPECT_EQ(twice.decoder.spec(), read.decoder.spec());
  EXPECT_EQ(relative_difference(twice.decoder, read.decoder), 0);
  save_checkpoint(read, folder / "saved");
  EXPECT_EQ(relative_difference(load_checkpoint(folder / "saved").decoder, read.decoder), 0);
}

TEST_P(LatentExports, InEveryType) {
  const TemporaryFolder folder;
  const Checkpoint source = model();
  for (const auto& [type, bound] : {std::pair{"F16", kHalfExport}, {"BF16", kNarrowExport}}) {
    const Checkpoint read = load_checkpoint(gguf_written(source, folder, type));
    EXPECT_LT(relative_difference(read.decoder, source.decoder), bound) << type;
    EXPECT_GT(relative_difference(read.decoder, source.decoder), 0) << type;
  }
}
INSTANTIATE_TEST_SUITE_P(Models, LatentExports,
                         testing::Values(LatentCase{"comb", "gqa", "[[0], [2]]", 20},
                                         LatentCase{"all_pairs", "gqa", "[[0, 2], [1, 3]]", 24},
                                         LatentCase{"high", "gqa", "[[1], [0]]", 20},
                                         LatentCase{"untied", "mha", "[[3], [2], [1], [0]]", 40}),
                         [](const auto& one) { return std::string(one.param.name); });

TEST(GgufExport, LatentsAreAsTheyWereToTheBit) {
  const TemporaryFolder folder;
  const Checkpoint source = converted();
  const auto down = [](const Checkpoint& model) {
    const DecoderLayer& layer = model.decoder.layers[1];
    return as_latent(*layer.attention)->weights().down.to_dense();
  };
  for (const char* type : {"F32", "F16", "BF16", "Q8_0"})
    EXPECT_TRUE(at::equal(down(load_checkpoint(gguf_written(source, folder, type))), down(source))) << type;
}

/// Wide enough for blocks of 32, and a latent and content of such widths.
Checkpoint wide_model() {
  UniformModel model = test::tiny_model("mha");
  model.model.hidden = 64;
  model.model.rope_dim = model.heads.head_dim = 64;
  model.heads.heads = 2;
  model.heads.kv_heads = 1;
  model.feed_forward.width = 96;
  const Json pass = mha2mla({{"name", "high"}, {"pairs", 16}}, 64);
  return checkpoint_of(after(test::tiny_decoder(model.spec(), at::kFloat), pass));
}

TEST(GgufExport, Blocks) {
  const TemporaryFolder folder;
  const Checkpoint source = wide_model();
  for (const auto& [type, bound] : {std::pair{"Q8_0", 0.1}, {"Q4_0", 1.5}, {"Q4_1", 1.5}}) {
    const auto path = gguf_written(source, folder, type);
    Json found = contents(path);
    EXPECT_EQ(found["token_embd.weight"], "Q8_0 50 64") << "wider than four bits";
    EXPECT_EQ(found["blk.0.attn_q.weight"], cat(type, " 128 64"));
    EXPECT_EQ(found["blk.0.attn_k_b.weight"], cat(type, " 2 64 32"));
    EXPECT_EQ(found["blk.0.attn_kv_a_mqa.weight"], "F32 96 64") << "rows of two sizes";
    EXPECT_EQ(found["blk.0.attn_norm.weight"], "F32 64");
    EXPECT_EQ(found["general.quantization_version"], 2);
    double mean = 0;
    relative_difference(load_checkpoint(path).decoder, source.decoder, &mean);
    EXPECT_LT(mean, bound) << type;
    const Checkpoint packed = load_checkpoint(path, {.placement = {}, .weights = HeldWeights::kPacked});
    EXPECT_TRUE(packed.decoder.layers[0].up.storage()) << "blocks stay blocks";
    EXPECT_LT(relative_difference(packed.decoder, load_checkpoint(path).decoder), 0.5);
  }
  ExportReport report;
  const TemporaryFolder narrow;
  gguf_written(converted(), narrow, "Q8_0", false, &report);
  EXPECT_THAT(report.notes, testing::Contains(HasSubstr("are F16, as their rows are no whole blocks of 32")));
}

std::string from_hexadecimal(const std::string& text) {
  std::string bytes;
  for (std::size_t i = 0; i + 1 < text.size(); i += 2)
    bytes += static_cast<char>(std::stoi(text.substr(i, 2), nullptr, 16));
  return bytes;
}

/// How many lines of a golden file there are, each of which is held against what is made of its numbers.
std::size_t check_golden(const std::string& golden, std::set<std::string>& types) {
  std::istringstream lines(read_file(std::string(MLA_SOURCE_DIR) + "/tests/gguf/golden/" + golden));
  std::size_t checked = 0;
  for (std::string line; std::getline(lines, line);) {
    if (line.starts_with("#")) continue;
    std::istringstream words(line);
    std::string name, values, blocks;
    words >> name >> values >> blocks;
    std::vector<float> numbers;
    for (std::size_t i = 0; i < values.size(); i += 8) {
      const auto bits = static_cast<std::uint32_t>(std::stoul(values.substr(i, 8), nullptr, 16));
      numbers.push_back(std::bit_cast<float>(bits));
    }
    const gguf::ElementType* type = gguf::find_element_type(name);
    if (!type) ADD_FAILURE() << name;
    if (!type) continue;
    types.insert(name);
    const auto count = static_cast<std::int64_t>(numbers.size());
    std::string made;
    put_gguf_values(at::from_blob(numbers.data(), {count / type->block, type->block}, at::kFloat), *type, name,
                    [&](const void* bytes, std::size_t size) { made.append(static_cast<const char*>(bytes), size); });
    EXPECT_EQ(made, from_hexadecimal(blocks)) << name;
    ++checked;
  }
  return checked;
}

TEST(GgufExport, BytesAreTheReferences) {
  std::set<std::string> types;
  EXPECT_EQ(check_golden("encoded.txt", types), 21u);
  EXPECT_EQ(check_golden("encoded_numbers.txt", types), 10u);
  EXPECT_EQ(types, (std::set<std::string>{"F16", "BF16", "Q8_0", "Q4_0", "Q4_1"}));
}

TEST(GgufExport, NumbersThatDoNotFitAreRefused) {
  const gguf::ElementType& half = *gguf::find_element_type(std::string_view("F16"));
  EXPECT_THAT(test::message_of<DataError>([&] {
                put_gguf_values(at::full({1, 2}, 1e6), half, "t", [](const void*, std::size_t) {});
              }),
              AllOf(HasSubstr("tensor t: "), HasSubstr("F32 and BF16 hold every weight")));
}

TEST(GgufExport, PaddingChangesNothing) {
  const TemporaryFolder folder;
  const Checkpoint source = converted("gqa", {{0, 2}, {1, 3}});
  ExportReport report;
  const Checkpoint read = load_checkpoint(gguf_written(source, folder, "F32", true, &report));
  EXPECT_EQ(report.cached_values, 576);
  EXPECT_LT(relative_difference(read.decoder, source.decoder), kSameExport);
  EXPECT_THAT(export_refusal(converted(), true), HasSubstr("more than float32 holds; leave out --pad"));
}

TEST(GgufExport, TheTokenizerGoesIntoTheFile) {
  const TemporaryFolder folder;
  test::write_tiny_model(folder / "model");
  const auto path = gguf_written(load_checkpoint(folder / "model"), folder);
  EXPECT_EQ(gguf::File(path).metadata()["tokenizer.ggml.model"], "llama");
  EXPECT_EQ(load_tokenizer(path)->encode("aab ab"), load_tokenizer(folder / "model")->encode("aab ab"));
  const ExportRequest without{"F32", false, {}, "none"};
  export_model(load_checkpoint(folder / "model"), "gguf", without, folder / "out");
  EXPECT_EQ(gguf::File(folder / "out" / kGgufExport).metadata()["tokenizer.ggml.model"], "none");
  EXPECT_TRUE(std::filesystem::exists(folder / "out" / "README.md"));
}

TEST(GgufExport, WhatFilesCannotSay) {
  const auto plain = [](const std::string& kind, const std::function<void(ModelSpec&)>& change) {
    ModelSpec spec = test::tiny_spec(kind);
    change(spec);
    return export_refusal(checkpoint_of(test::tiny_decoder(spec, at::kFloat)));
  };
  EXPECT_THAT(plain("window", [](ModelSpec&) {}), AllOf(HasSubstr("no sliding windows"), HasSubstr("5 tokens of 64")));
  EXPECT_THAT(plain("mha",
                    [](ModelSpec& spec) {
                      spec.rope_scaling.type = "dynamic";
                      spec.rope_scaling.factor = 2;
                      spec.rope_scaling.original_positions = 64;
                    }),
              AllOf(HasSubstr("rope_scaling = dynamic"), HasSubstr("fixed ones (default, linear, llama3, yarn)")));
  EXPECT_THAT(plain("biases",
                    [](ModelSpec& spec) {
                      spec.rope_scaling.type = "llama3";
                      spec.rope_scaling.factor = 2;
                      spec.rope_scaling.original_positions = 32;
                    }),
              HasSubstr("architecture llama alone, not by qwen2"));
  EXPECT_THAT(export_refusal(converted("biases")), AllOf(HasSubstr("has no biases"), HasSubstr("deepseek_v3")));
  EXPECT_THAT(export_refusal(converted("gqa", {{1}, {1}})),
              AllOf(HasSubstr("theta^(-i/m), over one factor"), HasSubstr("high and comb")));
  EXPECT_THAT(export_refusal(checkpoint_of(test::tiny_decoder(test::tiny_spec("gqa"), at::kFloat)), true),
              HasSubstr("--pad: the model is not converted"));
  const Decoder shared = after(test::tiny_decoder(test::tiny_spec("gqa"), at::kFloat),
                               {{"name", "share_attention"}, {"layers", Json::array({1})}});
  EXPECT_THAT(export_refusal(checkpoint_of(shared.clone())), HasSubstr("which llama.cpp does not know"));
}

TEST(GgufExport, AFileIsWrittenWhereOneIsNamed) {
  const TemporaryFolder folder;
  const Checkpoint model = converted();
  folder.write("there.gguf", "x");
  EXPECT_THAT(test::message_of<ConfigError>([&] {
                export_model(model, "gguf", {"F32", false, {}, {}}, folder / "there.gguf");
              }),
              HasSubstr("is there already"));
}

}  // namespace
}  // namespace mla
