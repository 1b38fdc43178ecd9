#include "analysis/planner/planner.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <queue>
#include <set>

#include "analysis/tables/table.h"
#include "analysis/tables/text_table.h"
#include "core/base/error.h"
#include "core/store/record_file.h"

namespace mla {
namespace {

std::vector<PlannerCandidate> candidates(const FigureInput& input) {
  std::vector<PlannerCandidate> found;
  for (const RunGroup& group : input.groups) {
    const Observation& run = group.runs.front();
    auto bytes = run_number(run, "bytes_per_token");
    const auto quality = quality_of(group, *input.quality);
    if (bytes && quality) found.push_back({&group, *bytes, group.saved_percent, *quality, 0});
  }
  return found;
}

/// The model that is not compressed: fine-tuned alike where there is a record of that, or else the source model.
std::optional<double> reference_of(const FigureInput& input, PlannerAnswer& answer) {
  for (const RunGroup& group : input.groups) {
    const auto quality = quality_of(group, *input.quality);
    if (group.compressed || !quality || group.runs.front().stage == "source") continue;
    answer.reference = cat(group.label, ", ", group.runs.front().stage);
    return quality->mean;
  }
  std::optional<double> coded;
  for (const RunGroup& group : input.groups) {
    const LoadedRecord* record = group.runs.front().record;
    const auto quality = quality_of(Observation{record, "source", true}, *input.quality);
    if (!quality) continue;
    const bool through_codec =
        input.quality->through_cache && !codec_of({record, "source", true, CacheScores::kThroughCodec}).is_null();
    if (through_codec) {
      if (!coded || (input.quality->higher_is_better ? *quality > *coded : *quality < *coded)) coded = quality;
      continue;
    }
    answer.reference = "the source model";
    return quality;
  }
  if (coded) {
    answer.reference = "the source model through its best codec";
    answer.notes.emplace_back("no record has the source model's score through a cache kept as computed");
  }
  return coded;
}

// ---- spectra ----

struct LayerSpectrum {
  std::vector<double> gains;  ///< share of the layer's energy that each further rank adds
};

struct SpectralSource {
  std::string label;
  std::vector<LayerSpectrum> layers;
  double bytes_per_element = 0;
  double rope_elements = 0;  ///< cached besides the latent, all layers
};

std::optional<SpectralSource> spectra_of(const RunGroup& group) {
  const Observation& run = group.runs.front();
  if (dimension(run, "low_rank_name") != "joint_svd" || !codec_of(run).is_null()) return {};
  const auto& layers = run.record->outline.layers;
  const auto bytes = run_number(run, "bytes_per_token"), elements = run_number(run, "cached_elements");
  if (layers.empty() || !bytes || !elements || *elements <= 0) return {};
  SpectralSource source;
  source.label = cat(plain_text(dimension(run, "rope")), " + joint_svd");
  source.bytes_per_element = *bytes / *elements;
  std::vector<std::string> paths;
  for (std::size_t layer = 0; layer < layers.size(); ++layer) {
    paths.push_back(layer_group(layer) + "/singular_values");
    source.rope_elements += layers[layer].value("cached_elements", 0.0) - layers[layer].value("latent_width", 0.0);
  }
  const auto arrays = read_arrays(run.record->path, paths);
  for (std::size_t layer = 0; layer < layers.size(); ++layer) {
    double kept = 0;
    for (const double value : arrays[layer]) kept += value * value;
    const double error = layers[layer].value("joint_error", 1.0);
    if (kept <= 0 || !(error < 1)) return {};
    LayerSpectrum spectrum;
    for (const double value : arrays[layer]) spectrum.gains.push_back(value * value * (1 - error * error) / kept);
    source.layers.push_back(std::move(spectrum));
  }
  return source;
}

double energy_of(const SpectralSource& source, const std::vector<std::int64_t>& ranks) {
  double sum = 0;
  for (std::size_t layer = 0; layer < ranks.size(); ++layer) {
    for (std::size_t rank = 0;
         rank < static_cast<std::size_t>(ranks[layer]) && rank < source.layers[layer].gains.size(); ++rank) {
      sum += source.layers[layer].gains[rank];
    }
  }
  return sum / static_cast<double>(source.layers.size());
}

/// Ranks one at a time where they add most: the best possible, since gains fall along each spectrum.
std::vector<std::int64_t> share_out(const SpectralSource& source, std::int64_t total) {
  std::vector<std::int64_t> ranks(source.layers.size(), 0);
  std::priority_queue<std::pair<double, std::size_t>> next;
  const auto push = [&](std::size_t layer) {
    const auto rank = static_cast<std::size_t>(ranks[layer]);
    if (rank < source.layers[layer].gains.size()) next.emplace(source.layers[layer].gains[rank], layer);
  };
  for (std::size_t layer = 0; layer < ranks.size(); ++layer) push(layer);
  for (; total > 0 && !next.empty(); --total) {
    const std::size_t layer = next.top().second;
    next.pop();
    ++ranks[layer];
    push(layer);
  }
  return ranks;
}

void finish(const SpectralSource& source, SpectralPlan& plan) {
  double elements = source.rope_elements;
  for (std::size_t layer = 0; layer < plan.ranks.size(); ++layer) {
    elements += static_cast<double>(plan.ranks[layer]);
    plan.at_end_of_spectrum =
        plan.at_end_of_spectrum || static_cast<std::size_t>(plan.ranks[layer]) == source.layers[layer].gains.size();
  }
  plan.label = source.label;
  plan.bytes_per_token = elements * source.bytes_per_element;
  plan.energy = energy_of(source, plan.ranks);
  plan.uniform_energy = energy_of(source, std::vector<std::int64_t>(plan.ranks.size(), plan.uniform_rank));
}

std::optional<SpectralPlan> plan_for_bytes(const SpectralSource& source, double bytes) {
  const double elements = bytes / source.bytes_per_element - source.rope_elements;
  const auto layers = static_cast<double>(source.layers.size());
  if (elements < layers) return {};
  SpectralPlan plan;
  plan.uniform_rank = static_cast<std::int64_t>(elements / layers);
  plan.ranks = share_out(source, static_cast<std::int64_t>(elements));
  finish(source, plan);
  return plan;
}

std::optional<SpectralPlan> plan_for_energy(const SpectralSource& source, double energy) {
  SpectralPlan plan;
  for (const LayerSpectrum& layer : source.layers) {
    double sum = 0;
    std::size_t rank = 0;
    while (rank < layer.gains.size() && sum < energy) sum += layer.gains[rank++];
    if (sum < energy) return {};  // beyond what was recorded
    plan.ranks.push_back(static_cast<std::int64_t>(rank));
  }
  plan.uniform_rank = *std::max_element(plan.ranks.begin(), plan.ranks.end());
  finish(source, plan);
  return plan;
}

/// One plan per selection of pairs: of the widest spectra that were recorded for it.
void add_spectral(const FigureInput& input, const PlannerQuestion& question, std::optional<double> bytes,
                  PlannerAnswer& answer) {
  std::set<std::string> seen;
  for (const RunGroup& group : input.groups) {  // more cache first: the widest spectra
    const auto source = spectra_of(group);
    if (!source || !seen.insert(source->label).second) continue;
    const auto made = question.energy ? plan_for_energy(*source, *question.energy)
                      : bytes         ? plan_for_bytes(*source, *bytes)
                                      : std::nullopt;
    if (made) answer.spectral.push_back(*made);
    if (!made && question.energy)
      answer.notes.push_back(
          cat(source->label, ": its recorded spectra end before ", *question.energy, " of the energy"));
  }
  std::stable_sort(answer.spectral.begin(), answer.spectral.end(), [&](const SpectralPlan& a, const SpectralPlan& b) {
    return question.energy ? a.bytes_per_token < b.bytes_per_token : a.energy > b.energy;
  });
}

bool meets(const PlannerCandidate& candidate, const PlannerQuestion& question, double reference) {
  if (question.bytes_per_token && candidate.bytes_per_token > *question.bytes_per_token * (1 + 1e-9)) return false;
  if (question.saved_percent && candidate.saved_percent < *question.saved_percent - 1e-6) return false;
  if (!question.tolerance) return true;
  const double limit = question.tolerance_is_relative ? *question.tolerance * std::abs(reference) : *question.tolerance;
  return candidate.loss <= limit;
}

Json recommendation(const PlannerCandidate& candidate) {
  const Observation& run = candidate.group->runs.front();
  Json json = {{"label", candidate.group->label}};
  for (const char* key : {"method", "rope_name", "pairs", "low_rank_name", "d_kv", "cache"})
    json[key] = dimension(run, key);
  const auto bits = codec_bits(codec_of(run));
  json["bits"] = bits ? Json(*bits) : Json();
  json["bytes_per_token"] = candidate.bytes_per_token;
  json["saved_percent"] = candidate.saved_percent;
  json["quality"] = candidate.quality.mean;
  json["standard_error"] = candidate.quality.error ? Json(*candidate.quality.error) : Json();
  json["loss"] = candidate.loss;
  json["runs"] = candidate.group->runs.size();
  Json evidence = Json::array();
  for (const Observation& each : candidate.group->runs) evidence.push_back(each.record->path.string());
  json["records"] = evidence;
  return json;
}

std::string error_text(const GroupValue& value, const char* before) {
  return value.error ? fmt::format("{}{:.2g}", before, *value.error) : "";
}

}  // namespace

PlannerAnswer plan(const FigureInput& input, const PlannerQuestion& question) {
  if (!question.bytes_per_token && !question.saved_percent && !question.tolerance && !question.energy) {
    throw ConfigError("planner: give --bytes-per-token, --saved, --tolerance or --energy");
  }
  PlannerAnswer answer;
  std::optional<double> source_bytes;
  for (const RunGroup& group : input.groups) {
    if (!source_bytes)
      source_bytes = run_number(Observation{group.runs.front().record, "source", true}, "bytes_per_token");
  }
  auto bytes = question.bytes_per_token;
  if (!bytes && question.saved_percent && source_bytes) bytes = *source_bytes * (1 - *question.saved_percent / 100);
  add_spectral(input, question, bytes, answer);
  const bool from_spectra_alone = !question.bytes_per_token && !question.saved_percent && !question.tolerance;
  if (!input.quality || from_spectra_alone) {
    if (answer.spectral.empty() && answer.notes.empty()) {
      throw DataError("planner: no record has a score or spectra of a joint SVD");
    }
    return answer;
  }
  answer.measured = true;
  if (!input.mixed.empty()) answer.notes.push_back(input.mixed);
  const auto reference = reference_of(input, answer);
  answer.reference_quality = reference.value_or(0);
  std::vector<PlannerCandidate> all = candidates(input);
  if (all.empty() && answer.spectral.empty()) throw DataError("planner: no record has both a cache and a score");
  for (PlannerCandidate& candidate : all) {
    const double change = candidate.quality.mean - answer.reference_quality;
    candidate.loss = reference ? (input.quality->higher_is_better ? -change : change) : 0;
    if (candidate.group->compressed && meets(candidate, question, answer.reference_quality))
      answer.fitting.push_back(candidate);
  }
  const bool by_size = question.tolerance.has_value();
  std::stable_sort(answer.fitting.begin(), answer.fitting.end(),
                   [&](const PlannerCandidate& a, const PlannerCandidate& b) {
                     return by_size ? std::pair(a.bytes_per_token, a.loss) < std::pair(b.bytes_per_token, b.loss)
                                    : std::pair(a.loss, a.bytes_per_token) < std::pair(b.loss, b.bytes_per_token);
                   });
  for (std::size_t i = 1; i < answer.fitting.size(); ++i) {
    const PlannerCandidate &best = answer.fitting.front(), &other = answer.fitting[i];
    const bool same_size = !by_size || other.bytes_per_token == best.bytes_per_token;
    if (same_size && best.quality.error && other.quality.error &&
        std::abs(other.loss - best.loss) <= std::hypot(*best.quality.error, *other.quality.error))
      answer.equal.push_back(other);
  }
  return answer;
}

void print_plan(const FigureInput& input, const PlannerAnswer& answer, std::ostream& out) {
  if (answer.measured && answer.fitting.empty()) out << "No config that was measured meets this.\n";
  if (!answer.fitting.empty()) {
    const PlannerCandidate& best = answer.fitting.front();
    out << fmt::format(
        "Recommended: {}\n  {:.6g} bytes per token ({:.2f} % saved), {} {}{} over {} runs; {:+.4g} against {} "
        "({})\n\nEvidence:\n",
        best.group->label, best.bytes_per_token, best.saved_percent, input.quality->label,
        short_number(best.quality.mean), error_text(best.quality, " ±"), best.group->runs.size(),
        best.quality.mean - answer.reference_quality, short_number(answer.reference_quality), answer.reference);
    std::vector<std::vector<std::string>> lines = {
        {"config", "bytes/token", "saved %", input.quality->label, "±", "loss", "runs"}};
    for (const PlannerCandidate& each : answer.fitting) {
      if (lines.size() > 10) break;
      lines.push_back({each.group->label, fmt::format("{:.6g}", each.bytes_per_token),
                       fmt::format("{:.2f}", each.saved_percent), short_number(each.quality.mean),
                       error_text(each.quality, ""), fmt::format("{:.4g}", each.loss), cat(each.group->runs.size())});
    }
    print_text_table(lines, 1, out);
    if (!answer.equal.empty())
      out << answer.equal.size()
          << " of these cannot be told from the recommended one: they lie within one standard error\n";
    if (best.group->runs.size() < 2 && best.quality.error)
      out << "One run of it: the error is that of the samples alone, another seed may differ by more\n";
  }
  if (!answer.spectral.empty()) {
    out << "\nFrom spectra of the weights alone (energy kept; nothing was trained, and energy does not say what "
           "training recovers):\n";
    std::vector<std::vector<std::string>> lines = {
        {"spectra of", "bytes/token", "energy, same rank", "energy, ranks by layer", "rank", "ranks"}};
    for (const SpectralPlan& each : answer.spectral) {
      std::string ranks;
      for (const std::int64_t rank : each.ranks) ranks += cat(ranks.empty() ? "" : " ", rank);
      lines.push_back({each.label, fmt::format("{:.6g}", each.bytes_per_token),
                       fmt::format("{:.4f}", each.uniform_energy), fmt::format("{:.4f}", each.energy),
                       cat(each.uniform_rank),
                       ranks + (each.at_end_of_spectrum ? " (the end of a recorded spectrum)" : "")});
    }
    print_text_table(lines, 1, out);
  }
  for (const std::string& note : answer.notes) out << note << "\n";
}

Json plan_json(const FigureInput& input, const PlannerAnswer& answer) {
  Json fitting = Json::array(), spectral = Json::array(), equal = Json::array();
  for (const PlannerCandidate& each : answer.fitting) fitting.push_back(recommendation(each));
  for (const PlannerCandidate& each : answer.equal) equal.push_back(each.group->label);
  for (const SpectralPlan& each : answer.spectral) {
    spectral.push_back({{"spectra_of", each.label},
                        {"bytes_per_token", each.bytes_per_token},
                        {"uniform_rank", each.uniform_rank},
                        {"uniform_energy", each.uniform_energy},
                        {"ranks", each.ranks},
                        {"energy", each.energy},
                        {"at_end_of_spectrum", each.at_end_of_spectrum}});
  }
  return {{"quality", input.quality ? Json(input.quality->label) : Json()},
          {"reference", answer.reference},
          {"reference_quality", answer.reference_quality},
          {"recommended", answer.fitting.empty() ? Json() : recommendation(answer.fitting.front())},
          {"fitting", fitting},
          {"within_one_standard_error", equal},
          {"from_spectra_alone", spectral},
          {"notes", answer.notes}};
}

}  // namespace mla
