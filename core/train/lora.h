// Training of low-rank adapters beside matrices that stay as they are (LoRA, arXiv 2106.09685).
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "core/model/decoder.h"

namespace mla {

/// What becomes of adapters after training.
enum class LoraSave {
  kMerged,  ///< added to the matrices: the model is as it was in shape
  kBeside,  ///< kept: matrices are untouched, codes among them
};
std::vector<std::pair<std::string, LoraSave>> enum_names(LoraSave);

struct LoraOptions {
  std::int64_t rank = 8;
  double alpha = 16;
  std::string maps = "all";
  LoraSave save = LoraSave::kMerged;

  template <class Self, class Visitor>
  static void fields(Self& self, Visitor& visit) {
    visit("rank", self.rank, "of the adapters: A is [rank, columns], B [rows, rank]");
    visit("alpha", self.alpha, "alpha / rank B A is added to a matrix; A is random at first and B zero");
    visit("maps", self.maps, "linear maps of layers: all, attention, feed_forward, or a regular expression for names");
    visit("save", self.save, "merged (into the matrices) | beside (kept, also beside packed weights)");
  }

  /// Throws ConfigError for a rank below 1 and an alpha that is not positive.
  void validate(const std::string& path) const;
};

/// The parameters that are trained, for TrainableParameters.
inline constexpr const char* kAdapterParameters = "\\.lora_[AB]\\.weight$";

/// Throws ConfigError, "<path>.…", where no linear map of a layer is chosen, one has adapters already, or is held so
/// that adapters cannot be merged into it as asked.
void check_lora(const ModelSpec& spec, const LoraOptions& options, const std::string& path);

/// Elements of the adapters that these options add.
std::int64_t adapter_elements(const ModelSpec& spec, const LoraOptions& options);

/// "LoRA of rank 8 on 14 linear maps: 12345 of 645678 parameters are trained".
std::string describe_lora(const ModelSpec& spec, const LoraOptions& options);

/// Gives the chosen maps adapters in the type of their matrices, which change nothing yet: A uniform in ±1 /
/// sqrt(columns) as `seed` and the map's name decide, B zero. Throws as check_lora().
void add_adapters(Decoder& decoder, const LoraOptions& options, std::uint64_t seed, const std::string& path);

/// Merges all adapters of the model into its matrices.
void merge_adapters(Decoder& decoder);

}  // namespace mla
