// Golden outputs of other compression systems, held against what this program's own passes make of the same inputs.
#pragma once

#include <filesystem>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "core/base/json.h"
#include "core/compress/pass.h"
#include "core/model/checkpoint.h"
#include "core/model/safetensors.h"

namespace mla {

/// A file {"system": …, "cases": [{"id", parameters, numbers, "tensors": {part: name}}]} with the tensors beside it.
struct RelatedFile {
  std::filesystem::path path;
  std::string system;
  Json json;
  WeightMap tensors;
  std::optional<std::filesystem::path> model;  ///< the model of all cases, instead of the one that a case names
};

/// One case of it, and the comparisons made.
class RelatedCase {
 public:
  RelatedCase(const RelatedFile& file, const Json& json, std::string where);

  const std::string& id() const { return id_; }
  const Json& json() const { return json_; }
  const std::string& where() const { return where_; }
  const RelatedFile& file() const { return file_; }

  /// A tensor by its name in the file; throws DataError naming the case.
  const at::Tensor& tensor(const std::string& name) const;
  /// The tensor that the case calls `part`; nothing where it has none of that name.
  std::optional<at::Tensor> part(const std::string& part) const;
  /// The case's model in float64: `model` of the file's reader, or the folder of that name in weights/ two above the
  /// file; the small real model where the case names none.
  Decoder decoder() const;

  /// Numbers that must agree to `limit`, absolutely.
  void hold(const std::string& what, double found, double wanted, double limit);
  void hold(const std::string& what, const std::vector<double>& found, const std::vector<double>& wanted, double limit);
  void hold(const std::string& what, const at::Tensor& found, const at::Tensor& wanted, double limit);
  /// -log p of each token of `ids`, of a model, against {"mean_nll": …, "nll": […]}.
  void hold_nll(const std::string& what, const Decoder& decoder, const std::vector<std::int64_t>& ids,
                const Json& wanted, double limit);

  /// Comparisons made; a case without any has not passed.
  std::size_t checks() const { return checks_.size(); }
  bool passed() const;
  /// {"id", "passed", "checks": {what: {difference, limit, passed}}}.
  Json report() const;

 private:
  const RelatedFile& file_;
  const Json& json_;
  std::string where_, id_;
  Json checks_ = Json::object();
};

/// The -log p of every token after the first, by a model in float64.
std::vector<double> nll_of(const Decoder& decoder, const std::vector<std::int64_t>& ids);

/// `decoder` after one pass, {"name": …, options}, in float64; `rows` are what it is calibrated on.
PassReport apply_pass(Decoder& decoder, const Json& pass, const std::vector<std::int64_t>& rows = {});

/// What holds a case of one system against its passes. One file each registers it, by the word that begins "system".
class RelatedSystem {
 public:
  static constexpr const char* kKind = "related_system";
  struct Options {
    template <class Self, class Visitor>
    static void fields(Self&, Visitor&) {}
  };
  virtual ~RelatedSystem() = default;
  virtual void run(RelatedCase& one) const = 0;
};

/// Whether the file holds cases of a system, and not of codecs.
bool holds_related_cases(const std::filesystem::path& path);

/// Reads such a file. Throws DataError naming the file for another form, and for a system that this program has no
/// part for, with those that it has.
RelatedFile read_related_cases(const std::filesystem::path& path, const std::optional<std::filesystem::path>& tensors,
                               const std::optional<std::filesystem::path>& model);

/// The reports of all cases, or of that of id `only`. Throws DataError where there is none.
std::vector<Json> run_related_cases(const RelatedFile& file, const std::string& only);

}  // namespace mla
