#include "experiments/bench/bench_config.h"

#include <set>

#include "core/base/checks.h"
#include "core/base/config.h"
#include "core/base/error.h"
#include "core/base/fields.h"
#include "core/base/registry.h"
#include "core/compress/pass.h"
#include "experiments/model/decode_path.h"
#include "experiments/model/dtype.h"

namespace mla {
namespace {

void check_counts(const std::string& path, const std::vector<std::int64_t>& values, std::int64_t least) {
  if (values.empty()) throw ConfigError(cat(path, ": an empty list; nothing would be measured"));
  for (std::size_t i = 0; i < values.size(); ++i) {
    if (values[i] < least) throw ConfigError(cat(path, "[", i, "]: ", values[i], " is less than ", least));
  }
}

void validate_sweep(const BenchSweep& sweep, const std::string& path) {
  check_counts(path + ".batch", sweep.batch, 1);
  check_counts(path + ".context", sweep.context, 1);
  check_counts(path + ".new_tokens", sweep.new_tokens, 2);
  if (sweep.path.empty() || sweep.cache.empty())
    throw ConfigError(cat(path, ": path and cache name at least one each"));
  for (std::size_t i = 0; i < sweep.path.size(); ++i) parse_decode_path(sweep.path[i], cat(path, ".path[", i, "]"));
  for (std::size_t i = 0; i < sweep.cache.size(); ++i) sweep.cache[i].validate(cat(path, ".cache[", i, "]"));
}

}  // namespace

Placement BenchConfig::placement() const {
  return Placement::in(parse_dtype(dtype, "dtype"), parse_device(device, "device"),
                       parse_products(products, "products"));
}

void BenchConfig::validate() const {
  if (model.empty() == geometry.empty())
    throw ConfigError("model, geometry: name one of the two (or --model on the command line)");
  placement();  // refuses what is none
  if (models.empty() || sweeps.empty()) throw ConfigError("models, sweeps: name at least one of each");
  std::set<std::string> names;
  for (std::size_t i = 0; i < models.size(); ++i) {
    const std::string path = cat("models[", i, "]");
    if (models[i].name.empty() || !names.insert(models[i].name).second) {
      throw ConfigError(cat(path, ".name: '", models[i].name, "' is empty or there twice"));
    }
    for (std::size_t k = 0; k < models[i].compress.size(); ++k) {
      Registry<Pass>::instance().make(models[i].compress[k], cat(path, ".compress[", k, "]"));
    }
  }
  for (std::size_t i = 0; i < sweeps.size(); ++i) validate_sweep(sweeps[i], cat("sweeps[", i, "]"));
  check_at_least_one("repeats", repeats);
  check_at_least_one("calibration_rows", calibration_rows);
  check_at_least_one("calibration_length", calibration_length);
  if (warm_up < 0) throw ConfigError(cat("warm_up: ", warm_up, " is negative"));
  if (prefill_chunk < 0) throw ConfigError(cat("prefill_chunk: ", prefill_chunk, " is negative"));
}

std::vector<NamedBenchCell> bench_cells(const BenchConfig& config) {
  std::vector<NamedBenchCell> cells;
  std::set<std::string> names;
  for (const BenchSweep& sweep : config.sweeps) {
    for (const CacheConfig& cache : sweep.cache) {
      for (const std::string& path : sweep.path) {
        for (const std::int64_t batch : sweep.batch) {
          for (const std::int64_t context : sweep.context) {
            for (const std::int64_t new_tokens : sweep.new_tokens) {
              BenchCell cell{batch,          context,
                             new_tokens,     parse_decode_path(path, "path"),
                             cache,          config.prefill_chunk,
                             config.warm_up, config.repeats,
                             config.prefill, config.seed};
              std::string name = cat("batch=", batch, ",context=", context, ",new_tokens=", new_tokens, ",path=", path,
                                     ",cache=", cache.label());
              for (int copy = 2; !names.insert(name).second; ++copy) name = cat(name, ".", copy);
              cells.push_back({std::move(name), std::move(cell)});
            }
          }
        }
      }
    }
  }
  return cells;
}

BenchConfig read_bench_config(const std::filesystem::path& file, const std::vector<std::string>& assignments) {
  Json json = resolve_config(file);
  for (const std::string& assignment : assignments) apply_set(json, assignment);
  expand_environment(json);
  BenchConfig config;
  try {
    read_fields(json, "", config);
  } catch (const ConfigError& error) {
    throw ConfigError(cat(file.string(), ": ", error.what()));
  }
  if (config.name.empty()) config.name = file.stem().string();
  return config;
}

}  // namespace mla
