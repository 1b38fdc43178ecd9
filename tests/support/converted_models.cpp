#include "tests/support/converted_models.h"

#include <string>
#include <vector>

namespace mla::test {

PassedModel::PassedModel(const ModelSpec& spec, std::int64_t rows)
    : source(tiny_decoder(spec)), ids(random_ids(spec, 2, 14)), calibration(random_rows(spec, rows, 20)) {}

std::vector<std::string> linear_kinds() {
  std::vector<std::string> kinds = tiny_kinds();
  std::erase(kinds, "qk_norm");
  return kinds;
}

}  // namespace mla::test
