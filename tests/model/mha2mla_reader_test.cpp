// Checkpoints of the official MHA2MLA code, made here by its rules (in the forms of its main branch and of release
// 1.0.1), against what that code computes with them.
#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>

#include "core/attention/latent.h"
#include "core/base/error.h"
#include "core/base/file.h"
#include "core/model/checkpoint.h"
#include "core/model/mha2mla_config.h"
#include "core/model/torch_tensor.h"
#include "tests/support/errors.h"
#include "tests/support/shared_data.h"
#include "tests/support/temporary_folder.h"
#include "tests/support/torch_file.h"

namespace mla {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

/// Of the goldens, which are float64.
constexpr double kOfficial = 1e-9;

/// Which of the cases it can hold; by the names of main.
struct OfficialCase {
  std::string id;
  bool release = false;
  Json golden;

  std::int64_t pairs() const { return golden.at("kept_subspaces_per_head"); }
  std::string strategy() const { return golden.at("strategy"); }
  std::string method() const { return golden.at("method"); }
  std::int64_t low_rank() const {
    return method() == "none" ? 0 : golden.at("low_rank_per_kv_head").get<std::int64_t>();
  }
};

/// Rows by the numbers of `all`.
at::Tensor rows_at(const at::Tensor& tensor, const std::vector<std::int64_t>& rows) {
  return tensor.index_select(0, at::tensor(rows, at::kLong));
}

/// Rows that a mask of the kept pairs holds (or does not), ascending: pair k is the dims k and k + half.
std::vector<std::int64_t> masked_rows(const Json& kept, std::int64_t heads, std::int64_t half, bool rotated) {
  std::vector<std::int64_t> rows;
  const std::int64_t group = heads / static_cast<std::int64_t>(kept.size());
  for (std::int64_t row = 0; row < heads * 2 * half; ++row) {
    const auto own = kept[static_cast<std::size_t>(row / (2 * half) / group)].get<std::vector<std::int64_t>>();
    const bool keeps = std::find(own.begin(), own.end(), row % half) != own.end();
    if (keeps == rotated) rows.push_back(row);
  }
  return rows;
}

/// Down [rank, hidden] and up [rows, rank], the singular values in the latter.
std::pair<at::Tensor, at::Tensor> factored(const at::Tensor& weight, std::int64_t rank) {
  const auto [u, s, vh] = at::linalg_svd(weight, false);
  return {vh.narrow(0, 0, rank).clone(), (u * s).narrow(1, 0, rank).clone()};
}

/// A folder as the official code saves it, of tinystories-656k.
class OfficialFolder {
 public:
  explicit OfficialFolder(const OfficialCase& of) {
    const auto source = test::shared_folder() / "data/weights/tinystories-656k";
    config = read_json(source / "config.json");
    state_options(of);
    const Checkpoint model = load_checkpoint(source, {.placement = Placement::in(at::kDouble)});
    const_cast<Decoder&>(model.decoder)
        .visit_weights({[&](const std::string& name, Linear& map) { add(name + ".weight", map.to_dense()); },
                        [&](const std::string& name, at::Tensor& tensor) { add(name, tensor); }});
    for (std::int64_t layer = 0; layer < model.decoder.spec().layer_count(); ++layer) convert(layer, of);
    write_ranks(of);
  }
  std::filesystem::path path() const { return folder_.path(); }
  Checkpoint read() const {
    write_safetensors(path() / "model.safetensors", {tensors.begin(), tensors.end()});
    write_json(path() / "config.json", config);
    return load_checkpoint(path(), {.placement = Placement::in(at::kDouble)});
  }

  Json config;
  WeightMap tensors;

 private:
  static constexpr std::int64_t kHeads = 8, kKvHeads = 4, kHalf = 8;

  void state_options(const OfficialCase& of) {
    const std::string file = "/cluster/of/someone/utils/ranks.pth";
    if (!of.release) {
      config["mha2mla"] = {{"model_name_or_path", "/cluster/model"},
                           {"partial_rope_version", of.strategy()},
                           {"rope_dim_for_mla", 2 * of.pairs()},
                           {"uniform_start_point", 0},
                           {"qk_tensor_path", file},
                           {"svd_init_method", of.method()},
                           {"low_rank", of.low_rank()},
                           {"is_baseline", false},
                           {"is_gqa2mha2mla", false}};
      return;
    }
    config["RoPE"] = {{"partial_rope_version", of.strategy() == "high"      ? 1
                                               : of.strategy() == "uniform" ? 2
                                                                            : 4},
                      {"top_k_rope_dim", of.pairs()},
                      {"uniform_start_point", 0},
                      {"uniform_step", kHalf / of.pairs()},
                      {"n_gqa_group", kHeads / kKvHeads},
                      {"qk_tensor_path", file}};
    config["SVD"] = {{"method", of.method() == "joint" ? 7 : 2}, {"low_rank", of.low_rank()}};
  }

  void add(const std::string& name, const at::Tensor& tensor) {
    if (tensor.defined()) tensors[name] = tensor.clone();
  }
  at::Tensor take(const std::string& name) { return tensors.extract(name).mapped(); }

  void convert(std::int64_t layer, const OfficialCase& of) {
    const Json& kept = of.golden.at("keep")[static_cast<std::size_t>(layer)];
    const std::string prefix = cat("model.layers.", layer, ".self_attn.");
    const at::Tensor key = take(prefix + "k_proj.weight"), value = take(prefix + "v_proj.weight");
    const at::Tensor content = rows_at(key, masked_rows(kept, kKvHeads, kHalf, false));
    tensors[prefix + (of.release ? "W_k_r.weight" : "k_r_proj.weight")] =
        rows_at(key, masked_rows(kept, kKvHeads, kHalf, true));
    if (!of.release) {
      at::Tensor& query = tensors.at(prefix + "q_proj.weight");
      query = at::cat({rows_at(query, masked_rows(kept, kHeads, kHalf, true)),
                       rows_at(query, masked_rows(kept, kHeads, kHalf, false))});
    }
    const auto put = [&](const char* main, const char* release, const at::Tensor& tensor) {
      tensors[prefix + (of.release ? release : main) + ".weight"] = tensor;
    };
    const std::int64_t rank = of.low_rank() * kKvHeads;
    if (of.method() == "joint") {
      const auto [down, up] = factored(at::cat({content, value}), rank);
      put("kv_proj.down_kv", "W_down_k", down);
      put("kv_proj.up_k", "W_up_k", up.narrow(0, 0, content.size(0)).clone());
      put("kv_proj.up_v", "W_up_v", up.narrow(0, content.size(0), value.size(0)).clone());
      return;
    }
    const bool split = of.method() == "split";
    const auto [down_k, up_k] = split ? factored(content, rank) : std::pair(at::Tensor(), content);
    const auto [down_v, up_v] = split ? factored(value, rank) : std::pair(at::Tensor(), value);
    if (split) put("kv_proj.down_k", "W_down_k", down_k);
    if (split) put("kv_proj.down_v", "W_down_v", down_v);
    put("kv_proj.up_k", "W_up_k", up_k);
    put("kv_proj.up_v", "W_up_v", up_v);
  }

  /// Main's file holds ranks of pairs, twice; that of release 1.0.1 scores.
  void write_ranks(const OfficialCase& of) const {
    const Json& keep = of.golden.at("keep");
    const auto layers = static_cast<std::int64_t>(keep.size());
    at::Tensor ranks = at::full({layers, kKvHeads, kHalf}, kHalf - 1, at::kByte);
    for (std::int64_t layer = 0; layer < layers; ++layer) {
      for (std::int64_t head = 0; head < kKvHeads; ++head) {
        std::int64_t rank = 0;
        for (const std::int64_t pair : keep[static_cast<std::size_t>(layer)][static_cast<std::size_t>(head)])
          ranks[layer][head][pair] = rank++;
      }
    }
    test::write_torch_file(folder_ / "ranks.pth",
                           of.release ? 10 - ranks.to(at::kFloat) : at::cat({ranks, ranks}, -1).contiguous());
  }

  test::TemporaryFolder folder_;
};

Json mha2mla_golden() {
  return read_json(test::shared_folder() / "data/conformance/mha2mla_conversion/tinystories-656k/golden.json");
}

OfficialCase official_case(const Json& golden, const std::string& id, bool release) {
  for (const Json& one : golden.at("cases")) {
    if (one.at("id") == id) return {id, release, one};
  }
  throw std::logic_error("no golden " + id);
}

double mean_loss(const Decoder& decoder, const at::Tensor& ids) {
  const c10::InferenceMode guard;
  const std::int64_t count = ids.size(1) - 1;
  const at::Tensor all = decoder.forward(ids).narrow(1, 0, count).log_softmax(-1);
  return -all.gather(-1, ids.narrow(1, 1, count).unsqueeze(-1)).mean().item<double>();
}

TEST(Mha2MlaReader, ComputesWhatTheOfficialCodeDoes) {
  MLA_NEEDS_SHARED("data/conformance/mha2mla_conversion");
  const Json golden = mha2mla_golden();
  std::vector<at::Tensor> rows;
  for (const auto& row : golden.at("eval_ids").get<std::vector<std::vector<std::int64_t>>>())
    rows.push_back(at::tensor(row, at::kLong));
  const at::Tensor ids = at::stack(rows);
  for (const auto& [id, release] : {std::pair{"high_r2_joint_k8", false},
                                    {"uniform_r2_split_k4", false},
                                    {"2-norm-product_r2_joint_k4", false},
                                    {"2-norm-product_r2_none", false},
                                    {"high_r1_joint_k8", true},
                                    {"uniform_r4_joint_k8", true},
                                    {"2-norm-sum_r2_split_k4", true}}) {
    SCOPED_TRACE(testing::Message() << id << (release ? ", release 1.0.1" : ", main"));
    const OfficialCase of = official_case(golden, id, release);
    const OfficialFolder folder(of);
    const Checkpoint found = folder.read();
    EXPECT_NEAR(mean_loss(found.decoder, ids), of.golden.at("mean_nll").get<double>(), kOfficial);
    EXPECT_EQ(cached_elements(found.decoder.spec().attention(0)),
              of.golden.at("cache_elements_per_token_layer").get<std::int64_t>());
    EXPECT_EQ(load_spec(folder.path()), found.decoder.spec());
  }
}

TEST(Mha2MlaReader, RefusesByNameWhatItCannotHold) {
  MLA_NEEDS_SHARED("data/conformance/mha2mla_conversion");
  const Json golden = mha2mla_golden();
  const auto refusal = [&](bool release, const std::function<void(OfficialFolder&)>& change) {
    OfficialFolder folder(official_case(golden, "2-norm-sum_r2_split_k4", release));
    change(folder);
    return test::message_of<DataError>([&] { folder.read(); });
  };
  const auto stated = [&](const char* object, const char* key, const Json& value) {
    return refusal(std::string(object) != "mha2mla",
                   [&](OfficialFolder& folder) { folder.config[object][key] = value; });
  };
  EXPECT_THAT(stated("mha2mla", "is_gqa2mha2mla", true), HasSubstr("mha2mla.is_gqa2mha2mla = true"));
  EXPECT_THAT(stated("mha2mla", "svd_init_method", "both"),
              AllOf(HasSubstr("mha2mla.svd_init_method = \"both\""), HasSubstr("known: joint, split")));
  EXPECT_THAT(stated("mha2mla", "partial_rope_version", "mkl"), HasSubstr("expected high, low, uniform or 2-norm"));
  EXPECT_THAT(stated("mha2mla", "rope_dim_for_mla", 16), HasSubstr("whole number from 2 to 14"));
  EXPECT_THAT(stated("mha2mla", "low_rank", 3), HasSubstr("expected shape"));
  EXPECT_THAT(stated("RoPE", "partial_rope_version", 0), HasSubstr("keeps all pairs"));
  EXPECT_THAT(stated("RoPE", "qk_tensor_path", "elsewhere.pth"),
              AllOf(HasSubstr("elsewhere.pth, which is not there"), HasSubstr("copy the file")));
  EXPECT_THAT(stated("SVD", "method", 9), HasSubstr("SVD.method = 9: expected a whole number from 1 to 7"));
  EXPECT_THAT(
      refusal(true, [](OfficialFolder& folder) { folder.tensors.erase("model.layers.1.self_attn.W_k_r.weight"); }),
      HasSubstr("tensor model.layers.1.self_attn.W_k_r.weight is missing"));
  EXPECT_THAT(refusal(false,
                      [](OfficialFolder& folder) {
                        test::write_torch_file(folder.path() / "ranks.pth", at::zeros({2, 4, 16}, at::kByte));
                      }),
              HasSubstr("no order of a head's pairs"));
  EXPECT_THAT(refusal(false,
                      [](OfficialFolder& folder) {
                        test::write_torch_file(folder.path() / "ranks.pth", at::zeros({2, 4, 8}, at::kByte));
                      }),
              HasSubstr("expected ranks [2, 4, 16]"));
}

TEST(TorchTensor, ReadsViewsAndTypes) {
  const test::TemporaryFolder folder;
  for (const at::ScalarType type : {at::kByte, at::kLong, at::kFloat, at::kDouble, at::kHalf, at::kBFloat16}) {
    const at::Tensor tensor = at::arange(24, at::kFloat).view({2, 3, 4}).to(type).transpose(0, 2);
    test::write_torch_file(folder / "x.pth", tensor);
    const at::Tensor read = read_torch_tensor(folder / "x.pth");
    EXPECT_EQ(read.scalar_type(), type);
    EXPECT_TRUE(read.equal(tensor));
  }
}

TEST(TorchTensor, RefusesOtherFiles) {
  const test::TemporaryFolder folder;
  const auto refusal = [&](std::string bytes) {
    write_file_atomically(folder / "x.pth", bytes);
    return test::message_of<DataError>([&] { read_torch_tensor(folder / "x.pth"); });
  };
  test::write_torch_file(folder / "x.pth", at::arange(6, at::kFloat).view({2, 3}));
  const std::string good = read_file(folder / "x.pth");
  const auto changed = [&](const std::string& from, const std::string& to) {
    std::string bytes = good;
    bytes.replace(bytes.find(from), from.size(), to);
    return bytes;
  };
  EXPECT_THAT(refusal("nothing"), HasSubstr("it is no zip archive"));
  EXPECT_THAT(refusal(changed("_rebuild_tensor_v2", "_rebuild_other__v2")), HasSubstr("it holds another object"));
  EXPECT_THAT(refusal(changed("FloatStorage", "ShortStorage")), HasSubstr("torch.ShortStorage"));
  EXPECT_THAT(refusal(changed(std::string("K\2K\3\x86", 5), std::string("K\2K\4\x86", 5))),
              HasSubstr("lie outside its numbers"));
  EXPECT_THAT(refusal(changed("ctorch._utils", "itorch._utils")), HasSubstr("more than a tensor"));
  for (std::size_t size = 0; size + 3 < good.size(); size += 7) EXPECT_NE(refusal(good.substr(0, size)), "");
  // More elements than numbers, by strides of 0 and by products that wrap.
  EXPECT_THAT(refusal(changed(std::string("K\2K\3\x86K\3K\1\x86", 10), std::string("K\7K\7\x86K\0K\0\x86", 10))),
              HasSubstr("lie outside its numbers"));
  // Lists that double with each step would be of 2^60 elements: K 0, remembered, then twice what is remembered.
  const std::size_t begin = good.find("\x80\x02"), end = good.find("tR.") + 3;
  std::string doubling = std::string("\x80\x02K\0q\0", 6);
  while (doubling.size() + 7 < end - begin) doubling += std::string("h\0h\0\x86q\0", 7);
  doubling.resize(end - begin, '.');
  EXPECT_THAT(refusal(std::string(good).replace(begin, end - begin, doubling)), HasSubstr("more than a tensor"));
}

}  // namespace
}  // namespace mla
