// Tables from records: rows and columns by any key of their configs, any metric, means over what is left.
#pragma once

#include <string>
#include <vector>

#include "analysis/records/record_set.h"
#include "analysis/tables/table.h"

namespace mla {

/// A column of tasks, several of which are averaged: {"name": "arc", "tasks": ["arc_easy", "arc_challenge"]}.
struct TaskColumn {
  std::string name;
  std::vector<std::string> tasks;

  template <class Self, class Visitor>
  static void fields(Self& self, Visitor& visit) {
    visit("name", self.name, "heading");
    visit("tasks", self.tasks, "tasks whose mean it is; empty: the task of that name");
  }
};

/// What a table shows; the content of a table config.
struct TableSpec {
  std::string title;
  std::vector<std::string> rows = {"model", "rope", "low_rank", "stage", "settings", "saved_percent"};
  std::vector<std::string> columns;
  std::vector<std::string> metrics = {"accuracy_normalized", "perplexity"};
  std::vector<TaskColumn> tasks;
  std::vector<std::string> leave_out;
  std::vector<std::string> where;
  std::string stage;
  std::string sort;
  bool average = false;
  bool source = false;
  bool separate_configs = false;
  bool through_cache = false;
  std::string errors = "runs";
  std::string paper;
  std::string paper_model;

  template <class Self, class Visitor>
  static void fields(Self& self, Visitor& visit) {
    visit("title", self.title, "stands above the table");
    visit("rows", self.rows, "keys of the rows: dimensions or config paths");
    visit("columns", self.columns, "keys of the columns beside the metrics; none: one column per metric and task");
    visit("metrics", self.metrics,
          "metric (of all tasks), task/metric, or a number of the run such as bytes_per_token");
    visit("tasks", self.tasks, "order and names of tasks; those not named come after them");
    visit("leave_out", self.leave_out, "tasks that are means of others");
    visit("where", self.where, "filters: KEY=VALUE or KEY!=VALUE, * for anything, several values with commas");
    visit("stage", self.stage, "source, converted, fine_tuned, …, all; empty: the last one of each record");
    visit("sort", self.sort, "KEY or COLUMN to sort rows by, with :desc for falling order; empty: by the rows' keys");
    visit("average", self.average, "a column for the mean over tasks whose metric is a share");
    visit("source", self.source, "rows for source models as they were");
    visit("separate_configs", self.separate_configs, "only runs that differ in seeds alone share a row");
    visit("through_cache", self.through_cache,
          "scores through a cell's codec stand in a row of their own, under the names of their tasks");
    visit("errors", self.errors,
          "standard errors where there are several runs: runs (of other seeds), or both (of other seeds and other "
          "samples; "
          "reads the samples)");
    visit("paper", self.paper, "table of the paper whose numbers stand beside ours; empty: none");
    visit("paper_model", self.paper_model, "the paper's model beside whose rows ours stand; empty: of the same name");
  }
};

/// Makes the table. Runs that share a cell of it are averaged; a note names what they differ in besides seeds.
/// Throws ConfigError for unknown keys and metrics, DataError when no record has any of the metrics.
Table make_pivot(const RecordSet& set, const TableSpec& spec);

}  // namespace mla
