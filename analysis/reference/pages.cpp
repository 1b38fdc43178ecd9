#include "analysis/reference/pages.h"

#include <vector>

#include "analysis/reference/metrics.h"
#include "core/base/fields.h"
#include "core/base/provenance.h"
#include "core/cli/manual.h"
#include "core/store/record.h"

namespace mla {
namespace {

template <class Fields>
std::string group(const std::string& where, const std::string& what) {
  std::string text = cat("\n## ", where, "\n\n", what, "\n\n| field | meaning |\n|---|---|\n");
  for (const FieldHelp& field : describe_fields<Fields>())
    text += cat("| `", field.name, "` | ", markdown_cell(field.description), " |\n");
  return text;
}

}  // namespace

std::string metrics_page() {
  std::string text =
      "# Metrics\n\nA score stands in a record under `evaluation/STAGE/TASK/METRIC`; tables, figures and comparisons "
      "name "
      "it by METRIC. A part in capitals stands for any text.\n\n| metric | task | unit | better | meaning |\n"
      "|---|---|---|---|---|\n";
  for (const MetricHelp& metric : metric_helps()) {
    text += cat("| `", metric.name, "` | ", markdown_cell(metric.task), " | ", markdown_cell(metric.unit), " | ",
                metric.higher_is_better ? "higher" : "lower", " | ", markdown_cell(metric.description), " |\n");
  }
  return text;
}

std::string record_fields_page() {
  return cat(
      "# Fields of records\n\nA record is an HDF5 file (docs/records.md). Fields of one number or text are "
      "attributes of their group, others arrays in it.\n",
      group<RecordHead>("/", "What identifies the record."), group<Provenance>("/provenance", "What made it."),
      group<LayerRecord>("/compression/layer\\_000 …", "What compression did to a layer, all passes together."),
      group<TrainingSeries>("/training", "The course of fine-tuning, one entry per logged step."),
      group<ScoreRecord>("/evaluation/STAGE/TASK/METRIC", "One measured number."),
      group<CacheRecord>("/cache/STAGE", "Bytes of the KV cache and of the weights of a stage's model."),
      group<CachedDecodingRecord>("/cached\\_decoding/STAGE/TASK",
                                  "What a model says while it decodes through the cell's cache."),
      "\nBesides, as JSON texts: `/config` (resolved), `/overrides` (the cell's place in the grid), `/passes` (what "
      "each pass did) and `/contents`; and `/timing/STAGE`, seconds.\n");
}

}  // namespace mla
