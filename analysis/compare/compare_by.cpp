#include "analysis/compare/compare_by.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <set>

#include "analysis/compare/families.h"
#include "analysis/compare/paired_items.h"
#include "analysis/compare/paired_test.h"
#include "analysis/records/dimension.h"
#include "analysis/records/mixed_programs.h"
#include "analysis/records/portable_config.h"
#include "analysis/records/usable_records.h"
#include "core/base/error.h"
#include "core/base/statistics.h"
#include "core/base/suggest.h"

namespace mla {
namespace {

struct ByColumn {
  std::string task, metric;
  bool operator==(const ByColumn&) const = default;
};

const ScoreOutline* score_of(const FamilyCell& cell, const ByColumn& column) {
  for (const ScoreOutline& score : cell.record->outline.evaluation) {
    if (score.stage == cell.stage && score.task == column.task && score.metric == column.metric) return &score;
  }
  return nullptr;
}

bool is_wanted(const ByColumn& column, const std::vector<std::string>& metrics) {
  return std::any_of(metrics.begin(), metrics.end(), [&](const std::string& metric) {
    return metric == column.metric || metric == cat(column.task, "/", column.metric);
  });
}

/// Scores that the table shows, in the order in which records have them.
std::vector<ByColumn> columns_of(const std::vector<FamilyCell>& cells, const CompareByOptions& options) {
  std::vector<ByColumn> all;
  for (const FamilyCell& cell : cells) {
    for (const ScoreOutline& score : cell.record->outline.evaluation) {
      const ByColumn column{score.task, score.metric};
      if (score.stage == cell.stage && std::find(all.begin(), all.end(), column) == all.end()) all.push_back(column);
    }
  }
  const std::vector<std::string> usual = {"accuracy_normalized", "perplexity"};
  std::vector<ByColumn> wanted;
  for (const ByColumn& column : all) {
    if (is_wanted(column, options.metrics.empty() ? usual : options.metrics)) wanted.push_back(column);
  }
  if (wanted.empty() && options.metrics.empty()) return all;
  if (wanted.empty()) {
    std::vector<std::string> names;
    for (const ByColumn& column : all) {
      if (std::find(names.begin(), names.end(), column.metric) == names.end()) names.push_back(column.metric);
    }
    throw ConfigError(cat("--metric: ", unknown_name(options.metrics.front(), names)));
  }
  return wanted;
}

class CompareBy {
 public:
  CompareBy(const RecordSet& set, const CompareByOptions& options) : options_(options), usable_(usable_records(set)) {
    collect();
    columns_ = columns_of(cells_, options_);
    families_ = make_families(cells_, options_.by, report_.table.notes);
    leave_out_single();
  }

  CompareByReport run() {
    for (const ByColumn& column : columns_) {
      for (std::size_t a = 0; a < values_.size(); ++a) {
        for (std::size_t b = a + 1; b < values_.size(); ++b) compare(column, values_[a], values_[b]);
      }
    }
    if (report_.pairs.empty())
      throw DataError("compare: no two cells that differ in --by alone have a score in common");
    correct();
    fill_table();
    return std::move(report_);
  }

 private:
  void collect() {
    std::set<std::string> paths;
    std::size_t without = 0;
    for (const LoadedRecord* record : usable_.records) {
      const std::string stage = stage_of(record->outline, options_.stage);
      const Json* value = find_at(record->outline.config, options_.by);
      for (const std::string& path : leaf_paths(record->outline.config)) paths.insert(path);
      if (value == nullptr) ++without;
      if (value == nullptr || stage.empty()) continue;
      cells_.push_back({record, plain_text(without_folders(options_.by, *value)), stage});
      if (std::find(values_.begin(), values_.end(), cells_.back().value) == values_.end())
        values_.push_back(cells_.back().value);
    }
    if (cells_.empty()) throw ConfigError(cat("--by: ", unknown_name(options_.by, {paths.begin(), paths.end()})));
    if (values_.size() < 2)
      throw DataError(cat("compare: all cells have the same value at ", options_.by, ", ", values_.front()));
    if (without > 0) note(cat(without, " cells have no value at ", options_.by, " and are left out"));
    std::stable_sort(values_.begin(), values_.end(), [](const std::string& a, const std::string& b) {
      char *end_a = nullptr, *end_b = nullptr;
      const double x = std::strtod(a.c_str(), &end_a), y = std::strtod(b.c_str(), &end_b);
      return *end_a == '\0' && *end_b == '\0' && !a.empty() && !b.empty() && x < y;
    });
  }

  /// Values whose cells differ from all others in more: what is best among the rest is not known of them.
  void leave_out_single() {
    std::erase_if(values_, [&](const std::string& value) {
      const bool paired = std::any_of(families_.begin(), families_.end(), [&](const Family& family) {
        return family.size() > 1 && family.contains(value);
      });
      if (!paired)
        note(cat(value, ": left out, since none of its cells differs from another in ", options_.by, " alone"));
      return !paired;
    });
  }

  void note(std::string text) { report_.table.notes.push_back(std::move(text)); }

  RecordSamples& samples(const FamilyCell& cell) {
    return samples_.try_emplace(cell.record, *cell.record).first->second;
  }

  void compare(const ByColumn& column, const std::string& before, const std::string& after) {
    PairedValues pair{column.task, column.metric, before, after};
    std::vector<std::pair<const ScoreOutline*, const ScoreOutline*>> scores;
    std::vector<std::pair<const FamilyCell*, const FamilyCell*>> cells;
    for (const Family& family : families_) {
      const auto a = family.find(before), b = family.find(after);
      if (a == family.end() || b == family.end()) continue;
      const ScoreOutline *x = score_of(*a->second, column), *y = score_of(*b->second, column);
      if (x == nullptr || y == nullptr || !std::isfinite(x->value) || !std::isfinite(y->value)) continue;
      scores.emplace_back(x, y);
      cells.emplace_back(a->second, b->second);
    }
    if (scores.empty()) return;
    pair.cells = scores.size();
    pair.higher_is_better = scores.front().first->higher_is_better;
    for (const auto& [x, y] : scores) {
      pair.mean_before += x->value / static_cast<double>(scores.size());
      pair.mean_after += y->value / static_cast<double>(scores.size());
    }
    pair.difference = pair.mean_after - pair.mean_before;
    if (!pair_items(cells, scores, pair)) pair_cells(scores, pair);
    report_.pairs.push_back(std::move(pair));
  }

  /// By items. False where cells have none in common.
  bool pair_items(const std::vector<std::pair<const FamilyCell*, const FamilyCell*>>& cells,
                  const std::vector<std::pair<const ScoreOutline*, const ScoreOutline*>>& scores, PairedValues& pair) {
    std::vector<DifferencePart> parts;
    std::vector<SamplePart> first;
    for (std::size_t i = 0; i < cells.size(); ++i) {
      RecordSamples &of_a = samples(*cells[i].first), &of_b = samples(*cells[i].second);
      const auto a = of_a.parts_of(*scores[i].first), b = of_b.parts_of(*scores[i].second);
      pair.unpaired_because = unpaired_because(a, of_a, b, of_b);
      if (i == 0) first = a;
      if (pair.unpaired_because.empty() && i > 0)
        pair.unpaired_because = unpaired_because(first, samples(*cells[0].first), a, of_a);
      if (!pair.unpaired_because.empty()) return false;
      parts.resize(a.size());
      for (std::size_t k = 0; k < a.size(); ++k) {
        parts[k].groups = a[k].groups.empty() ? b[k].groups : a[k].groups;
        std::vector<double> differences(a[k].values.size());
        for (std::size_t n = 0; n < differences.size(); ++n) differences[n] = b[k].values[n] - a[k].values[n];
        parts[k].differences.push_back(std::move(differences));
      }
    }
    // A single mean's differences are those of the mean; what the score is a function of has the same p-value.
    const bool single = first.size() == 1;
    for (std::size_t k = 0; k < parts.size(); ++k) parts[k].slope = single ? 1 : first[k].slope();
    const PairedTest test = paired_test(parts, options_.confidence);
    const auto in_score = [&](double difference) {
      if (!single) return difference;
      const SamplePart& part = first.front();
      return part.exponential ? pair.mean_before * std::expm1(difference) : part.factor * difference;
    };
    pair.difference = in_score(test.difference);
    if (test.low) pair.low = in_score(*test.low);
    if (test.high) pair.high = in_score(*test.high);
    note(test, pair);
    pair.items = test.items;
    pair.groups = test.groups;
    return true;
  }

  /// By the scores of cells alone: each pair is one difference.
  void pair_cells(const std::vector<std::pair<const ScoreOutline*, const ScoreOutline*>>& scores, PairedValues& pair) {
    if (scores.size() < 2) return;
    DifferencePart part;
    part.differences.emplace_back();
    for (const auto& [x, y] : scores) part.differences.front().push_back(y->value - x->value);
    const PairedTest test = paired_test({part}, options_.confidence);
    pair.low = test.low;
    pair.high = test.high;
    note(test, pair);
  }

  static void note(const PairedTest& test, PairedValues& pair) {
    pair.p_value = test.p_value;
    pair.effect = test.effect;
    pair.effect_low = test.effect_low;
    pair.effect_high = test.effect_high;
  }

  /// Pairs that are the same in every item are no tests: they could not come out otherwise.
  void correct() {
    std::vector<PairedValues*> tests;
    std::vector<double> p_values;
    for (PairedValues& pair : report_.pairs) {
      if (!pair.p_value || (pair.low == 0.0 && pair.high == 0.0)) continue;
      tests.push_back(&pair);
      p_values.push_back(*pair.p_value);
    }
    const std::vector<double> adjusted = holm_adjusted(p_values);
    for (std::size_t i = 0; i < tests.size(); ++i) tests[i]->p_holm = adjusted[i];
    report_.tests = tests.size();
  }

  /// Cells of a value in the families that count for a column: those that hold all values, where there are any.
  std::vector<const FamilyCell*> cells_of(const std::string& value, const ByColumn& column, bool whole) const {
    std::vector<const FamilyCell*> cells;
    for (const Family& family : families_) {
      if (whole && !is_whole(family, column)) continue;
      const auto found = family.find(value);
      if (found != family.end() && score_of(*found->second, column)) cells.push_back(found->second);
    }
    return cells;
  }

  bool is_whole(const Family& family, const ByColumn& column) const {
    return std::all_of(values_.begin(), values_.end(), [&](const std::string& value) {
      const auto found = family.find(value);
      return found != family.end() && score_of(*found->second, column) != nullptr;
    });
  }

  void fill_table() {
    Table& table = report_.table;
    table.keys = {{options_.by, options_.by, false}};
    table.has_ties = true;
    for (const std::string& value : values_) {
      TableRow row;
      row.keys = {value};
      row.runs = static_cast<std::size_t>(
          std::count_if(cells_.begin(), cells_.end(), [&](const FamilyCell& cell) { return cell.value == value; }));
      table.rows.push_back(std::move(row));
    }
    bool other_cells = false;
    for (const ByColumn& column : columns_) add_column(column, other_cells);
    mark_best(table, [](const TableRow&) { return true; });
    for (std::size_t i = 0; i < columns_.size(); ++i) mark_ties(columns_[i], i);
    if (other_cells) note("where not every value was run with all settings, means are over other cells");
    note(cat("~: not told from the best of its column at ", 100 * options_.confidence, " % certainty (Holm, ",
             report_.tests, " tests), or not comparable with it"));
    for (const std::string& left_out : usable_.left_out) table.left_out.push_back(left_out);
    const std::string mixed = mixed_programs(usable_.records);
    if (!mixed.empty()) note(mixed);
  }

  void add_column(const ByColumn& column, bool& other_cells) {
    Table& table = report_.table;
    const bool whole =
        std::any_of(families_.begin(), families_.end(), [&](const Family& family) { return is_whole(family, column); });
    other_cells = other_cells || !whole;
    TableColumn shown;
    shown.name = cat(column.task, " ", column.metric);
    for (std::size_t i = 0; i < values_.size(); ++i) {
      std::vector<double> values;
      const ScoreOutline* score = nullptr;
      for (const FamilyCell* cell : cells_of(values_[i], column, whole)) {
        score = score_of(*cell, column);
        values.push_back(score->value);
      }
      std::optional<TableValue> value;
      if (score != nullptr) {
        shown.higher_is_better = score->higher_is_better;
        const Estimate mean = grouped_mean(values, {});
        value.emplace();
        value->mean = mean.value;
        value->runs = values.size();
        if (values.size() > 1) value->run_error = value->error = mean.standard_error;
        if (values.size() == 1) value->sample_error = value->error = score->standard_error;
      }
      table.rows[i].values.push_back(value);
    }
    table.columns.push_back(std::move(shown));
  }

  void mark_ties(const ByColumn& column, std::size_t index) {
    std::string best;
    for (std::size_t i = 0; i < values_.size() && best.empty(); ++i) {
      const auto& value = report_.table.rows[i].values[index];
      if (value && value->best) best = values_[i];
    }
    if (best.empty()) return;
    for (std::size_t i = 0; i < values_.size(); ++i) {
      auto& value = report_.table.rows[i].values[index];
      if (!value || value->best) continue;
      const auto pair = std::find_if(report_.pairs.begin(), report_.pairs.end(), [&](const PairedValues& each) {
        const bool both =
            (each.before == best && each.after == values_[i]) || (each.after == best && each.before == values_[i]);
        return both && each.task == column.task && each.metric == column.metric;
      });
      value->tied = pair == report_.pairs.end() || !pair->p_holm || *pair->p_holm > 1 - options_.confidence;
    }
  }

  const CompareByOptions& options_;
  UsableRecords usable_;
  std::vector<FamilyCell> cells_;
  std::vector<std::string> values_;
  std::vector<ByColumn> columns_;
  std::vector<Family> families_;
  std::map<const LoadedRecord*, RecordSamples> samples_;
  CompareByReport report_;
};

}  // namespace

CompareByReport compare_by(const RecordSet& set, const CompareByOptions& options) {
  return CompareBy(set, options).run();
}

}  // namespace mla
