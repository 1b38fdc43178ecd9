#include "analysis/page/html_report.h"

#include <fmt/format.h>
#include <unistd.h>

#include <cmath>
#include <map>
#include <optional>

#include "analysis/figures/figure.h"
#include "analysis/page/html_page.h"
#include "analysis/pivot/pivot.h"
#include "analysis/records/dimension.h"
#include "analysis/records/mixed_programs.h"
#include "analysis/tables/paper.h"
#include "core/base/config_path.h"
#include "core/base/error.h"
#include "core/base/file.h"
#include "core/base/provenance.h"
#include "core/base/shell.h"

namespace mla {
namespace {

namespace fs = std::filesystem;

/// A folder that is removed with all it holds at the end of the scope.
class ScratchFolder {
 public:
  ScratchFolder() {
    std::string name = (fs::temp_directory_path() / "mlaforge_report_XXXXXX").string();
    if (::mkdtemp(name.data()) == nullptr) throw DataError(cat(name, ": cannot be made"));
    path_ = name;
  }
  ~ScratchFolder() {
    std::error_code ignored;
    fs::remove_all(path_, ignored);
  }
  ScratchFolder(const ScratchFolder&) = delete;
  ScratchFolder& operator=(const ScratchFolder&) = delete;
  const fs::path& path() const { return path_; }

 private:
  fs::path path_;
};

std::string card(const std::string& number, const std::string& what, bool bad = false) {
  return cat("<div class=\"card", bad ? " bad" : "", "\"><b>", html_text(number), "</b>", html_text(what), "</div>\n");
}

std::string summary_of(const RecordSet& set) {
  std::map<std::string, std::size_t> statuses, experiments, models, commits, numerics;
  for (const LoadedRecord& record : set.records) {
    ++statuses[status_name(record.outline)];
    ++experiments[record.outline.head.experiment];
    ++models[plain_text(dimension({&record, "source", true}, "model"))];
    ++numerics[cat(numerics_version(record.outline))];
    ++commits[plain_text(record.outline.provenance.value("git_hash", Json())).substr(0, 10)];
  }
  std::string html = "<div class=\"cards\">\n" + card(cat(set.records.size()), "records");
  for (const auto& [status, count] : statuses) html += card(cat(count), status, status != "complete");
  const std::size_t skipped = skipped_notes(set).size();
  html += card(cat(skipped), "skipped", skipped > 0) + "</div>\n";
  std::vector<std::vector<std::string>> rows;
  for (const auto& [what, counts] : {std::pair{"experiment", &experiments}, std::pair{"model", &models},
                                     std::pair{"commit", &commits}, std::pair{"numerics version", &numerics}}) {
    for (const auto& [name, count] : *counts) {
      if (rows.size() < 200) rows.push_back({what, name, cat(count)});
    }
  }
  return html + html_table({"", "", "records"}, rows, 2);
}

std::string tables_of(const RecordSet& set) {
  std::string html;
  for (const std::string& name : preset_names()) {
    TableSpec spec;
    read_fields(preset(name), "", spec);
    try {
      const Table table = make_pivot(set, spec);
      const bool about_ours = table.has_paper && name != "sweep";
      if (name != "sweep" && !about_ours) continue;  // the paper's tasks were not measured: the same numbers once more
      html += cat("<h3>", html_text(table.title.empty() ? "Methods against tasks" : table.title), "</h3>\n",
                  html_table(table));
    } catch (const DataError&) {
      continue;  // nothing of its kind was measured
    }
  }
  return html.empty() ? "<p>No record has a score.</p>\n" : html;
}

std::string figures_of(const RecordSet& set, std::vector<std::string>& notes) {
  const ScratchFolder scratch;
  const FigureInput input = figure_input(set, {});
  std::string html;
  for (const FigureKind& kind : figure_kinds()) {
    try {
      auto figure = kind.draw(input);
      if (!figure) continue;
      if (!input.mixed.empty()) figure->caption += cat(" The ", input.mixed, ".");
      write_figure(*figure, scratch.path(), {"svg"});
      html += cat("<figure><h3>", html_text(figure->title), "</h3>\n<img alt=\"", html_text(figure->caption),
                  "\" src=\"data:image/svg+xml;base64,", base64(read_file(scratch.path() / (figure->name + ".svg"))),
                  "\">\n<figcaption>", html_text(figure->caption), "</figcaption></figure>\n");
    } catch (const DataError& error) {
      notes.push_back(cat(kind.name, ": ", error.what()));
    }
  }
  for (const std::string& note : notes) html += "<p class=\"bad\">" + html_text(note) + "</p>\n";
  return html.empty() ? "<p>The records have nothing to draw.</p>\n" : html;
}

std::string failures_of(const RecordSet& set) {
  std::vector<std::vector<std::string>> rows;
  for (const LoadedRecord& record : set.records) {
    const RecordHead& head = record.outline.head;
    if (head.status != RunStatus::kComplete)
      rows.push_back({status_name(record.outline), cat(head.experiment, "/", head.cell), head.message});
  }
  for (const std::string& note : skipped_notes(set)) rows.push_back({"skipped", "", note});
  return rows.empty() ? "<p>None: every record is complete.</p>\n" : html_table({"status", "cell", "message"}, rows, 3);
}

/// Each distinct value once.
class Interned {
 public:
  std::size_t add(const Json& value) {
    const auto [found, is_new] =
        index_.try_emplace(value.dump(-1, ' ', false, Json::error_handler_t::replace), values_.size());
    if (is_new) values_.push_back(value);
    return found->second;
  }
  const Json& values() const { return values_; }

 private:
  std::map<std::string, std::size_t> index_;
  Json values_ = Json::array();
};

/// A config in which what distinguishes cells is null: thousands of cells share a few of these.
Json shared_config(const RecordOutline& record) {
  Json config = record.config;
  for (const auto& [path, unused] : record.overrides.items()) {
    if (find_at(config, path)) set_at(config, path, nullptr);
  }
  return config;
}

/// Scores of the record's last stage, as they are shown beside a cell: [task, metric, value, standard error].
Json last_scores(const RecordOutline& record, const std::string& stage) {
  constexpr std::size_t kMost = 16;
  Json scores = Json::array();
  for (const ScoreOutline& score : record.evaluation) {
    if (score.stage != stage || score.metric.starts_with("choice_") || score.metric == "log_likelihood") continue;
    if (scores.size() == kMost) break;
    scores.push_back({score.task, score.metric, short_number(score.value),
                      score.standard_error ? Json(short_number(*score.standard_error)) : Json()});
  }
  return scores;
}

/// The command that made the record, for this cell alone and anew.
std::string rerun_command(const RecordOutline& record) {
  const std::string command = plain_text(record.provenance.value("command_line", Json("")));
  const bool of_sweep = command.find(" run ") != std::string::npos;
  if (!of_sweep) return command;
  return cat(command,
             command.find(" --only") == std::string::npos ? cat(" --only ", shell_quoted(record.head.cell)) : "",
             command.find(" --force") == std::string::npos ? " --force" : "");
}

std::string cells_of(const RecordSet& set) {
  const FigureInput input = figure_input(set, {});
  Interned configs, provenances;
  Json cells = Json::array();
  std::string rows;
  for (const LoadedRecord& loaded : set.records) {
    const RecordOutline& record = loaded.outline;
    std::string stage = stage_of(record, "");
    const Observation last{&loaded, stage.empty() ? "none" : stage, stage == "source"};
    std::optional<double> quality;
    if (input.quality) quality = quality_of(last, *input.quality);
    const auto saved = run_number(last, "saved_percent"), seconds = run_number(last, "seconds");
    Json provenance = record.provenance, own = Json::object(), times = Json::object();
    for (const char* key : {"created", "command_line", "seed"}) {
      if (provenance.contains(key)) own[key] = provenance[key];
      provenance.erase(key);
    }
    own["content_hash"] = record.head.content_hash;
    own["file"] = loaded.path.string();
    for (const auto& [name, value] : record.seconds) times[name] = value;
    rows += fmt::format(
        "<tr class=\"cell\" data-cell=\"{}\"><td>{}</td><td>{}</td><td{}>{}</td><td>{}</td><td class=\"n\">{}</td><td "
        "class=\"n\">{}</td><td class=\"n\">{}</td><td>{}</td></tr>\n",
        cells.size(), html_text(record.head.experiment), html_text(record.head.cell),
        record.head.status == RunStatus::kComplete ? "" : " class=\"bad\"", status_name(record), html_text(stage),
        quality ? short_number(*quality) : "", saved ? fmt::format("{:.2f}", *saved) : "",
        seconds ? fmt::format("{:.1f}", *seconds) : "",
        html_text(plain_text(record.provenance.value("git_hash", Json())).substr(0, 10)));
    const auto bytes = run_number(last, "bytes_per_token");
    cells.push_back({{"name", cat(record.head.experiment, "/", record.head.cell)},
                     {"status", status_name(record)},
                     {"bytes", bytes ? Json(*bytes) : Json()},
                     {"quality", quality && std::isfinite(*quality) ? Json(*quality) : Json()},
                     {"scores", last_scores(record, stage)},
                     {"rerun", rerun_command(record)},
                     {"config", configs.add(shared_config(record))},
                     {"overrides", record.overrides},
                     {"seconds", times},
                     {"provenance", provenances.add(provenance)},
                     {"own", own}});
  }
  const std::string mixed = input.mixed.empty() ? "" : "<br>" + html_text(input.mixed);
  const std::string quality = input.quality ? html_text(input.quality->label) : "quality";
  const bool higher = input.quality && input.quality->higher_is_better;
  return cat(
      "<div id=\"filters\" role=\"search\"><input id=\"filter\" placeholder=\"filter: words of a cell\" "
      "aria-label=\"filter cells\"></div>\n<p id=\"shown\" class=\"notes\" role=\"status\" "
      "aria-live=\"polite\"></p>\n<div id=\"explore\"></div>\n<div id=\"picked\" aria-live=\"polite\"></div>\n<div "
      "class=\"scroll\" tabindex=\"0\" role=\"region\" aria-label=\"cells\"><table><caption>All cells; a row opens by "
      "a "
      "click or Enter</caption><thead><tr><th>experiment</th><th>cell</th>"
      "<th>status</th><th>last stage</th><th class=\"n\">",
      quality, "</th><th class=\"n\">saved %</th><th class=\"n\">seconds</th><th>commit</th></tr></thead><tbody>\n",
      rows, "</tbody></table></div>\n<p class=\"notes\">A click on a cell shows its config and provenance.", mixed,
      "</p>\n<script "
      "type=\"application/json\" id=\"cells-data\">",
      script_json({{"cells", cells},
                   {"configs", configs.values()},
                   {"provenances", provenances.values()},
                   {"quality", input.quality ? Json(input.quality->label) : Json()},
                   {"higher_is_better", higher}}),
      "</script>\n");
}

}  // namespace

HtmlReport make_html_report(const std::vector<fs::path>& paths, const std::string& title) {
  const RecordSet set = read_records(paths);
  HtmlReport report;
  std::string body = cat("<h1>", html_text(title), "</h1>\n<p class=\"soft\">made ", utc_now(), " from ");
  for (std::size_t i = 0; i < paths.size(); ++i) body += cat(i > 0 ? ", " : "", html_text(paths[i].string()));
  body +=
      "</p>\n<nav aria-label=\"sections\"><a href=\"#summary\">Summary</a><a href=\"#tables\">Tables</a><a "
      "href=\"#figures\">Figures</a><a "
      "href=\"#failures\">Failures</a><a href=\"#cells\">Cells</a></nav>\n";
  const auto section = [&](const char* id, const char* heading, const std::string& content) {
    body += cat("<section id=\"", id, "\"><h2>", heading, "</h2>\n", content, "</section>\n");
  };
  section("summary", "Summary", summary_of(set));
  if (!set.records.empty()) {
    section("tables", "Tables", tables_of(set));
    section("figures", "Figures", figures_of(set, report.notes));
  }
  section("failures", "Failures", failures_of(set));
  if (!set.records.empty()) section("cells", "Cells", cells_of(set));
  report.html = html_page(title, body);
  return report;
}

}  // namespace mla
