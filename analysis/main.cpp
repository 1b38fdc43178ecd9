// mlaforge-report: reads records, never writes into them; no tensor library in the process.
#include <boost/program_options.hpp>
#include <algorithm>
#include <iostream>

#include "analysis/results_table.h"
#include "analysis/summary.h"
#include "core/base/error.h"
#include "core/base/suggest.h"

namespace {

namespace po = boost::program_options;

constexpr const char* kUsage =
    "usage: mlaforge-report summary RESULTS… [--json]\n"
    "       mlaforge-report table RESULTS… [--stage STAGE] [--metric METRIC] [--json]\n\n"
    "summary  prints status and scores of every record under the given folders or files.\n"
    "table    prints methods against tasks: means and standard errors over seeds, and the cache saved.\n"
    "         STAGE: source, converted or fine_tuned (by default the last one of each record);\n"
    "         METRIC of multiple choice: accuracy_normalized (the default), accuracy or accuracy_per_byte.\n\n"
    "Examples:\n  mlaforge-report summary results/demo\n  mlaforge-report table results/demo/ablation\n";

/// Prints `report` as JSON or as text.
template <class Report>
void show(const Report& report, bool json) {
  if (json) {
    std::cout << mla::to_json(report).dump() << "\n";
  } else {
    mla::print(report, std::cout);
  }
}

int run(int argc, char** argv) {
  po::options_description options("options");
  std::vector<std::string> words;
  mla::ResultsTableOptions table;
  options.add_options()("help", "show this text")("json", "print one JSON object on stdout")(
      "stage", po::value(&table.stage))("metric", po::value(&table.metric))("words", po::value<std::vector<std::string>>(&words), "");
  po::positional_options_description positions;
  positions.add("words", -1);
  po::variables_map given;
  po::store(po::command_line_parser(argc, argv).options(options).positional(positions).run(), given);
  po::notify(given);
  if (given.contains("help")) {
    std::cout << kUsage;
    return 0;
  }
  const std::vector<std::string> known = {"summary", "table"};
  if (words.empty()) throw mla::ConfigError("name a command; known: " + mla::join(known));
  const std::string command = words.front();
  if (std::find(known.begin(), known.end(), command) == known.end()) {
    throw mla::ConfigError(mla::unknown_name(command, known));
  }
  if (words.size() < 2) throw mla::ConfigError(command + ": name at least one results folder or record");
  const mla::Summary summary = mla::summarize({words.begin() + 1, words.end()});
  if (command == "summary") {
    show(summary, given.contains("json"));
  } else {
    show(mla::make_results_table(summary, table), given.contains("json"));
  }
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  const auto fail = [](const std::exception& error, mla::ExitCode code) {
    std::cerr << "mlaforge-report: " << error.what() << "\n";
    return static_cast<int>(code);
  };
  try {
    return run(argc, argv);
  } catch (const mla::ConfigError& error) {
    return fail(error, mla::ExitCode::kConfig);
  } catch (const po::error& error) {
    return fail(error, mla::ExitCode::kConfig);
  } catch (const mla::DataError& error) {
    return fail(error, mla::ExitCode::kData);
  } catch (const std::exception& error) {
    return fail(error, mla::ExitCode::kInternal);
  }
}
