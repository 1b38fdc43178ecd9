// Configs as far as they know no model: bases, --set, grids, variables.
#include <algorithm>

#include "core/base/config.h"
#include "core/base/error.h"
#include "core/base/grid.h"
#include "core/base/hash.h"
#include "core/base/yaml.h"
#include "tests/fuzz/support/input_files.h"
#include "tests/fuzz/support/target.h"

namespace mla::fuzz {
namespace {

/// A config, its base, and lines of --set and (after a '+') --grid.
std::vector<std::string> config_seeds() {
  return {
      join_parts(
          {R"({"base": "base.json", "a": {"b": [1, {"c": 2}]}, "grid": {"a.b[1].c": [1, 2], "x,y": [[1, 2], [3, 4]]}})",
           R"({"a": {"d": "${HOME:-x}"}, "x": 0, "y": 0})", "a.b[0]=5\na.e=\"t\"\n+x=1,2,[3,4]"}),
      join_parts({R"({"base": ["base.json"], "list": []} // a comment)", "{}",
                  "list[0]={\"k\": [1]}\nnew.key=abc\n+new.key=1,2"})};
}

void run_config(std::string_view input) {
  const auto parts = parts_of(input, 3);
  input_file("config/base.json", parts[1]);
  Json config = resolve_config(input_file("config/config.json", parts[0]));
  std::string_view rest = parts[2];
  while (!rest.empty()) {
    const std::string_view line = rest.substr(0, rest.find('\n'));
    rest.remove_prefix(std::min(rest.size(), line.size() + 1));
    if (line.starts_with('+')) {
      add_grid(config, line.substr(1));
    } else {
      apply_set(config, line);
    }
  }
  for (Cell& cell : expand_grid(config)) {
    promise(!cell.name.empty() && cell.name.find('/') == std::string::npos, "a cell's name that is no file name");
    hash_json(cell.config);
    expand_environment(cell.config);
  }
}

const Registration kConfig({"config",
                            run_config,
                            config_seeds,
                            {"base", "base.json", "config.json", "grid", "${", "}", ":-", "a.b[1].c", "[0]", "\n+",
                             "="}});

std::vector<std::string> yaml_seeds() {
  return {
      "base: base.json\na: {b: [1, {c: 2}]} # a comment\ngrid:\n  a.b[1].c: [1, 2]\n  ? x,y\n  : [[1, 2], [3, 4]]\n",
      "%YAML 1.2\n---\none: &anchor [~, true, 0x1f, 0o17, 1e3, .5, -0, '12:30', no]\ntwo: *anchor\n...\n",
      "text: |+\n  kept\n\nfolded: >-\n  one\n  line\nquoted: \"\\u00e4\\t\\x41\"\n- \"tag\": !!str 5\n",
      "- !!map {a: 1}\n- !!seq [!!int 3, !!float 2, !!null '', !!bool true]\n-\n  - - deep\n"};
}

/// What YAML says is JSON, and says as JSON what it said.
void run_yaml(std::string_view input) {
  const Json value = parse_yaml(std::string(input), "config.yaml");
  promise(parse_json(value.dump(), "config.json") == value, "a value that JSON does not hold");
}

const Registration kYaml({"yaml",
                          run_yaml,
                          yaml_seeds,
                          {"---",   "...",         "&a",
                           "*a",    "!!",          "<<: *a",
                           "|",     ">-",          "? ",
                           ": ",    "- ",          "{",
                           "[",     "%YAML 1.2",   "%TAG ! tag:x,2000:",
                           "\\x",   "\\U0010FFFF", ".nan",
                           "-.inf", "0x",          "9223372036854775808"},
                          150});

}  // namespace
}  // namespace mla::fuzz
