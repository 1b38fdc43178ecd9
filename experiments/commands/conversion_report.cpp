#include "experiments/commands/conversion_report.h"

#include "experiments/cli/table.h"
#include "experiments/plan/pass_list.h"

namespace mla {

Json conversion_json(const std::vector<PassReport>& reports, const ModelSpec& source) {
  const std::vector<LayerReport> layers = combine_reports(reports);
  Json all = report_json(reports.back().pass, layers, source, reports.back().after);
  for (std::size_t i = 0; i < layers.size(); ++i) all["layers"][i]["seconds"] = layers[i].seconds;
  if (reports.size() > 1) all["passes"] = report_json(reports);
  return all;
}

void print_conversion(const Json& report, std::ostream& out) {
  Table table({"layer", "latent", "cached elements/token", "parameters", "error K,V", "error K", "error V"});
  for (const Json& layer : report["layers"]) {
    const Json& error = layer["relative_error"];
    table.add({layer["layer"].dump(), grouped(layer["latent_width"].get<std::int64_t>()),
               grouped(layer["cached_elements_per_token"].get<std::int64_t>()),
               grouped(layer["parameters"].get<std::int64_t>()), rounded(error["joint"].get<double>()),
               rounded(error["key"].get<double>()), rounded(error["value"].get<double>())});
  }
  table.print(out);
  out << "cache: " << rounded(100 * report["cache_ratio"].get<double>(), 4) << " % of the source's; parameters "
      << grouped(report["parameters_before"].get<std::int64_t>()) << " -> "
      << grouped(report["parameters"].get<std::int64_t>()) << ", weights "
      << grouped(report["weight_bytes"].get<std::int64_t>()) << " bytes\nwritten to "
      << report["output"].get<std::string>() << "\n";
}

}  // namespace mla
