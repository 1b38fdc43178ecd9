// Models of the official MHA2MLA code, and the files that name their pairs.
#include <ATen/ATen.h>

#include "core/base/file.h"
#include "core/model/checkpoint.h"
#include "core/model/torch_tensor.h"
#include "tests/fuzz/model/tiny_config.h"
#include "tests/fuzz/support/input_files.h"
#include "tests/fuzz/support/target.h"
#include "tests/support/torch_file.h"

namespace mla::fuzz {
namespace {

std::string torch_file(const at::Tensor& tensor) {
  const auto path = input_file("official/made.pth", "");
  test::write_torch_file(path, tensor);
  return read_file(path);
}

std::vector<std::string> torch_tensor_seeds() {
  return {torch_file(at::arange(6, at::kFloat).view({2, 3})),
          torch_file(at::arange(24).view({2, 3, 4}).transpose(0, 2)), torch_file(at::ones({1, 1, 2, 2}, at::kHalf))};
}

void run_torch_tensor(std::string_view input) {
  const at::Tensor tensor = read_torch_tensor(input_file("official/x.pth", input));
  promise(tensor.nbytes() <= input.size(), "a tensor larger than its file");
  tensor.to(at::kDouble).sum().item<double>();
}

const Registration kTorchTensor({"torch_tensor",
                                 run_torch_tensor,
                                 torch_tensor_seeds,
                                 {"PK\1\2", "PK\3\4", "PK\5\6", "data.pkl", "data/0", "FloatStorage", "ByteStorage",
                                  "_rebuild_tensor_v2", "\x85", "\x86", "\x87", "\x8c"}});

/// Heads are wide enough for pairs to be left out.
Json official_config() {
  Json config = tiny_config("llama");
  config["hidden_size"] = 8;
  return config;
}

/// config.json and the file with the ranks of pairs.
std::vector<std::string> official_seeds() {
  Json main = official_config();
  main["mha2mla"] = {{"partial_rope_version", "high"}, {"rope_dim_for_mla", 2},
                     {"uniform_start_point", 0},       {"qk_tensor_path", "a/ranks.pth"},
                     {"svd_init_method", "joint"},     {"low_rank", 2},
                     {"is_baseline", false},           {"is_gqa2mha2mla", false}};
  Json ranked = main;
  ranked["mha2mla"]["partial_rope_version"] = "2-norm";
  Json release = official_config();
  release["RoPE"] = {{"partial_rope_version", 4}, {"top_k_rope_dim", 1}, {"uniform_start_point", 0},
                     {"uniform_step", 1},         {"n_gqa_group", 2},    {"qk_tensor_path", "ranks.pth"}};
  release["SVD"] = {{"method", 7}, {"low_rank", 2}};
  const std::string ranks = torch_file(at::tensor({0, 1, 0, 1}).view({1, 1, 4}).to(at::kByte));
  return {join_parts({main.dump(), ""}), join_parts({ranked.dump(), ranks}),
          join_parts({release.dump(), torch_file(at::tensor({0.5F, 0.25F}).view({1, 1, 2}))})};
}

void run_official(std::string_view input) {
  const auto parts = parts_of(input, 2);
  input_file("official/ranks.pth", parts[1]);
  const auto path = input_file("official/config.json", parts[0]);
  const ModelSpec spec = load_spec(path.parent_path());
  promise(count_parameters(spec).total() > 0 && cached_elements(spec) >= 0, "sizes that wrap");
}

const Registration kOfficial({"mha2mla_config",
                              run_official,
                              official_seeds,
                              {"mha2mla", "RoPE", "SVD", "2-norm", "uniform", "low", "high", "rope_dim_for_mla",
                               "split", "only_value", "only_key", "none", "top_k_rope_dim", "last_k_rope_dim",
                               "uniform_step", "low_rank", "qk_tensor_path", "ranks.pth"}});

}  // namespace
}  // namespace mla::fuzz
