// Records made by formula: what a sweep leaves, without running one.
#pragma once

#include <cmath>
#include <filesystem>
#include <string>

#include "core/base/random.h"
#include "core/store/record.h"

namespace mla::test {

struct SyntheticCell {
  std::string rope = "two_norm", low_rank = "joint_svd";
  int pairs = 2, d_kv = 8, seed = 1;
};

inline ScoreRecord synthetic_score(const std::string& stage, const std::string& task, const std::string& metric,
                                   double value, std::vector<double> samples, bool higher_is_better) {
  ScoreRecord score;
  score.stage = stage;
  score.task = task;
  score.metric = metric;
  score.value = value;
  score.n = static_cast<std::int64_t>(samples.size());
  score.standard_error = 0.02;
  score.higher_is_better = higher_is_better;
  score.unit = metric == "nll" ? "nats per token" : metric.starts_with("accuracy") ? "share of items" : "";
  score.per_sample = std::move(samples);
  return score;
}

/// Scores of one stage: tasks of 40 items and a perplexity of 40 documents, better for a smaller `loss`.
inline void add_synthetic_scores(RunRecord& record, const std::string& stage, double loss, RandomStream& random) {
  for (const char* task : {"agreement", "copying", "arithmetic"}) {
    std::vector<double> items(40);
    double right = 0;
    for (double& item : items) right += item = random.uniform() < std::exp(-loss / 3) ? 1 : 0;
    record.evaluation.push_back(synthetic_score(stage, task, "accuracy_normalized", right / 40, items, true));
  }
  std::vector<double> documents(40);
  double sum = 0;
  for (double& document : documents) sum += document = loss + 0.1 * random.normal();
  record.evaluation.push_back(synthetic_score(stage, "perplexity", "nll", sum / 40, documents, false));
  record.evaluation.push_back(synthetic_score(stage, "perplexity", "perplexity", std::exp(sum / 40), {}, false));
}

/// A cell of a model of 4 layers with 4 heads of width 32; a larger cache and more pairs lose less.
inline RunRecord synthetic_record(const SyntheticCell& cell, const std::string& experiment = "sweep") {
  RunRecord record;
  const std::string name = "low_rank.name=" + cell.low_rank + ",rope.name=" + cell.rope +
                           ",pairs=" + std::to_string(cell.pairs) + ",d_kv=" + std::to_string(cell.d_kv) +
                           ",seed=" + std::to_string(cell.seed);
  RandomStream random(static_cast<std::uint64_t>(cell.seed), name);
  record.head = {RunStatus::kComplete, "", experiment, name, "", "2026-01-31T12:00:00Z"};
  const Json pass = {{"name", "mha2mla"},
                     {"rope", {{"name", cell.rope}, {"pairs", cell.pairs}}},
                     {"low_rank", {{"name", cell.low_rank}, {"d_kv", cell.d_kv}}}};
  record.config = {{"model", {{"path", "data/toy_mha"}}},
                   {"compress", Json::array({pass})},
                   {"train", {{"steps", 20}, {"learning_rate", 1e-3}, {"seed", cell.seed}}}};
  record.overrides = {{"compress[0].low_rank.name", cell.low_rank},
                      {"compress[0].rope.name", cell.rope},
                      {"compress[0].rope.pairs", cell.pairs},
                      {"compress[0].low_rank.d_kv", cell.d_kv},
                      {"train.seed", cell.seed}};
  record.head.content_hash = cat(std::hex, std::hash<std::string>()(name));
  record.provenance.git_hash = "0123456789abcdef";
  record.provenance.created = record.head.created;
  record.seconds = {{"evaluate_source", 1}, {"compress", 0.5}, {"train", 3}};
  const double width = cell.d_kv + 2 * cell.pairs;
  for (int layer = 0; layer < 4; ++layer) {
    LayerRecord each;
    for (std::int64_t head = 0; head < 4; ++head) {
      each.pairs.emplace_back();
      for (std::int64_t pair = 0; pair < cell.pairs; ++pair)
        each.pairs.back().push_back((pair * 3 + head * layer) % 16);
      std::sort(each.pairs.back().begin(), each.pairs.back().end());
    }
    for (int i = 0; i < 4 * cell.d_kv; ++i) each.singular_values.push_back(std::exp(-0.05 * i) * (1 + layer));
    each.joint_error = std::exp(-0.05 * 4 * cell.d_kv) + 0.01 * layer;
    each.key_error = 1.1 * each.joint_error;
    each.value_error = 0.9 * each.joint_error;
    each.latent_width = 4 * cell.d_kv;
    each.cached_elements = static_cast<std::int64_t>(4 * width);
    each.cached_elements_before = 256;
    each.parameters = 50'000 + 100 * cell.d_kv;
    each.parameters_before = 65'536;
    record.compression.push_back(each);
  }
  const double lost = 4 / width + (cell.rope == "low" ? 0.3 : 0) + (cell.low_rank == "split_svd" ? 0.1 : 0);
  RandomStream source(0, "source");  // the source model's scores are the same in every record
  add_synthetic_scores(record, "source", 0.9, source);
  add_synthetic_scores(record, "converted", 0.9 + 4 * lost, random);
  add_synthetic_scores(record, "fine_tuned", 0.9 + lost + 0.02 * random.normal(), random);
  for (int step = 1; step <= 20; ++step) {
    record.training.step.push_back(step);
    record.training.tokens.push_back(2048 * step);
    record.training.loss.push_back(1 + lost + std::exp(-step / 6.0) + 0.05 * random.normal());
    record.training.learning_rate.push_back(1e-3);
    record.training.gradient_norm.push_back(1);
  }
  record.cache = {{"source", 64, 64 * 256 * 4 * 4, 64 * 256 * 4 * 4}};
  const auto bytes = static_cast<std::int64_t>(64 * 4 * 4 * 4 * width);
  for (const char* stage : {"converted", "fine_tuned"}) record.cache.push_back({stage, 64, bytes, bytes});
  return record;
}

/// The source model fine-tuned alike.
inline RunRecord synthetic_baseline(int seed, const std::string& experiment = "sweep") {
  RunRecord record = synthetic_record({"high", "none", 16, 0, seed}, experiment);
  record.head.cell = "baseline,seed=" + std::to_string(seed);
  record.head.content_hash = "baseline" + std::to_string(seed);
  record.config["compress"] = Json::array();
  record.overrides = {{"train.seed", seed}};
  record.compression.clear();
  std::erase_if(record.evaluation, [](const ScoreRecord& score) { return score.stage == "converted"; });
  record.cache.resize(1);
  record.cache.push_back({"fine_tuned", 64, record.cache[0].predicted_bytes, record.cache[0].counted_bytes});
  return record;
}

/// `count` cells over strategies, sizes and seeds, in FOLDER/sweep; the first ones are `baselines`.
inline void write_synthetic_records(const std::filesystem::path& folder, int count, int baselines = 0) {
  for (int i = 0; i < baselines; ++i) {
    const RunRecord record = synthetic_baseline(i + 1);
    write_record(folder / "sweep" / (record.head.cell + ".h5"), record);
  }
  const char* ropes[] = {"high", "low", "uniform", "two_norm"};
  const char* low_ranks[] = {"joint_svd", "split_svd"};
  const int pairs[] = {1, 2, 4}, widths[] = {4, 8, 16};
  for (int i = 0; i < count - baselines; ++i) {
    const SyntheticCell cell{ropes[i % 4], low_ranks[i / 4 % 2], pairs[i / 8 % 3], widths[i / 24 % 3], 1 + i / 72};
    const RunRecord record = synthetic_record(cell);
    write_record(folder / "sweep" / (record.head.cell + ".h5"), record);
  }
}

}  // namespace mla::test
