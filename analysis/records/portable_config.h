// Configs as they compare between machines: data is known by its content, not by the folder that it lies in.
#pragma once

#include <string>

#include "analysis/records/record_set.h"

namespace mla {

/// `value` at a config path, or by a key, where it names files: their names without folders. All else stays.
Json without_folders(const std::string& path, const Json& value);

/// A record's config without what does not change a result (name, description, results, save_model, …), files without
/// their folders, and with "input_hashes", a hash of the content of what was read, where the record says it. Runs of
/// one config on two machines are equal here.
Json portable_config(const LoadedRecord& record);
/// The same without seeds: what runs over several seeds have in common.
Json portable_config_without_seeds(const LoadedRecord& record);

/// Fills in what the records tell of their inputs. Of a model's files those count that all records of the model name:
/// earlier programs did not hash all of them.
void find_inputs(std::vector<LoadedRecord>& records);

/// The record's hashes of input files by role; an empty object where it has none.
Json data_hashes(const RecordOutline& record);

}  // namespace mla
