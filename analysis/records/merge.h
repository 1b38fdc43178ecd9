// Several results folders as one.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

namespace mla {

struct MergeReport {
  std::size_t copied = 0;
  std::size_t already_there = 0;     ///< the same run stands in the output, or came from an earlier folder
  std::vector<std::string> skipped;  ///< files that are no whole record, with the reason
};

/// Copies records, byte for byte, to OUTPUT/<experiment>/<file>, unites the plans of experiments, and notes what is
/// complete where `mlaforge run` looks for it. The inputs stay as they are. Throws DataError before anything is written
/// when two different runs would have one name (`rename`: the second is kept as <cell>@<hash>.h5).
MergeReport merge_results(const std::vector<std::filesystem::path>& inputs, const std::filesystem::path& output,
                          bool rename);

}  // namespace mla
