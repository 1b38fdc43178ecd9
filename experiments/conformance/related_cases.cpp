#include "experiments/conformance/related_cases.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cctype>
#include <cmath>
#include <numeric>

#include "core/base/error.h"
#include "core/base/registry.h"
#include "core/base/suggest.h"
#include "core/evaluate/token_nll.h"
#include "experiments/conformance/result_json.h"

namespace mla {
namespace {

constexpr const char* kUsualModel = "tinystories-656k";

std::string tensors_beside(const std::filesystem::path& path) {
  return (path.parent_path() / path.stem()).string() + ".safetensors";
}

/// "KV-Heads SVD-a (2406.07056)" -> "kv_heads"; "Shared Attention (…)" -> "shared_attention": the registered name that
/// its words begin with.
std::string part_of(const std::string& system) {
  std::string words;
  for (const char c : system.substr(0, system.find('('))) {
    const auto letter = static_cast<unsigned char>(c);
    words += std::isalnum(letter) ? static_cast<char>(std::tolower(letter)) : '_';
  }
  for (const std::string& name : Registry<RelatedSystem>::instance().names()) {
    if (words.starts_with(name + "_") || words == name) return name;
  }
  return {};
}

/// A folder with config.json as it is; of a llama2.c model the file of the folder's name, or the only one with weights.
std::filesystem::path weights_in(const std::filesystem::path& folder) {
  if (!std::filesystem::is_directory(folder) || std::filesystem::exists(folder / "config.json")) return folder;
  std::vector<std::filesystem::path> found;
  for (const auto& entry : std::filesystem::directory_iterator(folder)) {
    if (entry.path().extension() != ".bin") continue;
    if (entry.path().stem() == folder.filename()) return entry.path();
    found.push_back(entry.path());
  }
  return found.size() == 1 ? found.front() : folder;
}

}  // namespace

RelatedCase::RelatedCase(const RelatedFile& file, const Json& json, std::string where)
    : file_(file), json_(json), where_(std::move(where)), id_(expected::text(json, "id", where_)) {}

const at::Tensor& RelatedCase::tensor(const std::string& name) const {
  const auto found = file_.tensors.find(name);
  if (found == file_.tensors.end()) throw DataError(cat(where_, ": no tensor '", name, "' in the file beside it"));
  return found->second;
}

std::optional<at::Tensor> RelatedCase::part(const std::string& part) const {
  if (!expected::has(json_, "tensors") || !expected::has(json_["tensors"], part)) return {};
  return tensor(expected::text(json_["tensors"], part, where_ + ".tensors"));
}

Decoder RelatedCase::decoder() const {
  const std::string name = expected::has(json_, "model") ? expected::text(json_, "model", where_) : kUsualModel;
  const std::filesystem::path path =
      file_.model.value_or(std::filesystem::absolute(file_.path).parent_path() / "../../weights" / name);
  if (!std::filesystem::exists(path))
    throw DataError(cat(where_, ".model = ", name, ": no ", path.lexically_normal().string(), "; name it by --model"));
  return load_checkpoint(weights_in(path), {.placement = Placement::in(at::kDouble)}).decoder;
}

void RelatedCase::hold(const std::string& what, double found, double wanted, double limit) {
  hold(what, std::vector<double>{found}, std::vector<double>{wanted}, limit);
}

void RelatedCase::hold(const std::string& what, const std::vector<double>& found, const std::vector<double>& wanted,
                       double limit) {
  double difference = found.size() == wanted.size() ? 0 : HUGE_VAL;
  for (std::size_t i = 0; i < std::min(found.size(), wanted.size()); ++i) {
    const double one = std::abs(found[i] - wanted[i]);
    difference = std::isnan(one) ? HUGE_VAL : std::max(difference, one);
  }
  const bool counts = std::isfinite(difference);
  checks_[what] = {{"difference", counts ? Json(difference) : Json("another shape, or no number")},
                   {"limit", limit},
                   {"passed", counts && difference <= limit}};
}

void RelatedCase::hold(const std::string& what, const at::Tensor& found, const at::Tensor& wanted, double limit) {
  const auto list = [](const at::Tensor& x) {
    const at::Tensor flat = x.to(at::kCPU, at::kDouble).contiguous();
    return std::vector<double>(flat.const_data_ptr<double>(), flat.const_data_ptr<double>() + flat.numel());
  };
  const bool same = found.sizes() == wanted.sizes();
  hold(what, same ? list(found) : std::vector<double>{}, same ? list(wanted) : std::vector<double>{0}, limit);
}

void RelatedCase::hold_nll(const std::string& what, const Decoder& decoder, const std::vector<std::int64_t>& ids,
                           const Json& wanted, double limit) {
  const std::string where = cat(where_, ".", what);
  const std::vector<double> nll = nll_of(decoder, ids);
  const double mean = std::accumulate(nll.begin(), nll.end(), 0.0) / static_cast<double>(nll.size());
  hold(what + " mean", mean, expected::number(wanted, "mean_nll", where), limit);
  if (expected::has(wanted, "nll")) hold(what + " tokens", nll, expected::numbers(wanted, "nll", where), 10 * limit);
}

bool RelatedCase::passed() const {
  return !checks_.empty() &&
         std::all_of(checks_.begin(), checks_.end(), [](const Json& check) { return check["passed"].get<bool>(); });
}

Json RelatedCase::report() const { return {{"id", id_}, {"passed", passed()}, {"checks", checks_}}; }

std::vector<double> nll_of(const Decoder& decoder, const std::vector<std::int64_t>& ids) {
  const c10::InferenceMode inference;
  const at::Tensor nll = token_nll(decoder, at::tensor(ids, at::kLong).unsqueeze(0)).flatten().to(at::kDouble);
  return {nll.const_data_ptr<double>(), nll.const_data_ptr<double>() + nll.numel()};
}

PassReport apply_pass(Decoder& decoder, const Json& pass, const std::vector<std::int64_t>& rows) {
  const auto made = Registry<Pass>::instance().make(pass, "pass");
  const TokenRowList list{std::vector<std::int32_t>(rows.begin(), rows.end())};
  PassInputs inputs;
  Statistics statistics;
  if (!made->requirements().empty()) statistics = calibrate(decoder, list, made->requirements(), {}, {});
  inputs.statistics = &statistics;
  inputs.rows = &list;
  inputs.arithmetic = at::kDouble;
  inputs.weights = at::kDouble;
  return run_pass(pass.at("name").get<std::string>(), *made, decoder, inputs);
}

bool holds_related_cases(const std::filesystem::path& path) {
  const Json json = read_json(path);
  return json.is_object() && json.contains("system");
}

RelatedFile read_related_cases(const std::filesystem::path& path, const std::optional<std::filesystem::path>& tensors,
                               const std::optional<std::filesystem::path>& model) {
  RelatedFile file{path, {}, read_json(path), {}, model};
  file.system = expected::text(file.json, "system", path.string());
  if (part_of(file.system).empty()) {
    throw DataError(cat(path.string(), ".system: no part of this program for '", file.system,
                        "'; known: ", join(Registry<RelatedSystem>::instance().names())));
  }
  if (!expected::has(file.json, "cases") || !file.json["cases"].is_array())
    throw DataError(cat(path.string(), ".cases: expected a list"));
  const std::filesystem::path beside = tensors.value_or(tensors_beside(path));
  if (tensors || std::filesystem::exists(beside)) file.tensors = read_safetensors(beside);
  return file;
}

std::vector<Json> run_related_cases(const RelatedFile& file, const std::string& only) {
  const auto system = Registry<RelatedSystem>::instance().make({{"name", part_of(file.system)}}, "system");
  std::vector<Json> reports;
  const Json& cases = file.json["cases"];
  for (std::size_t i = 0; i < cases.size(); ++i) {
    const std::string where = cat(file.path.string(), ".cases[", i, "]");
    if (!cases[i].is_object()) throw DataError(cat(where, ": expected an object"));
    RelatedCase one(file, cases[i], where);
    if (!only.empty() && one.id() != only) continue;
    try {
      system->run(one);
    } catch (const nlohmann::json::exception& error) {
      throw DataError(cat(where, ": ", error.what()));
    }
    reports.push_back(one.report());
  }
  if (reports.empty()) {
    throw DataError(only.empty() ? cat(file.path.string(), ": holds no cases")
                                 : cat(file.path.string(), ": no case '", only, "'"));
  }
  return reports;
}

}  // namespace mla
