// mlaforge-report: reads records, never writes into them; no tensor library in the process.
#include <boost/program_options.hpp>
#include <iostream>

#include "analysis/summary.h"
#include "core/base/error.h"

namespace {

namespace po = boost::program_options;

constexpr const char* kUsage =
    "usage: mlaforge-report summary RESULTS… [--json]\n\n"
    "Prints status and scores of every record under the given folders or files.\n\n"
    "Example:\n  mlaforge-report summary results/demo\n";

int run(int argc, char** argv) {
  po::options_description options("options");
  std::vector<std::string> words;
  options.add_options()("help", "show this text")("json", "print one JSON object on stdout")(
      "words", po::value<std::vector<std::string>>(&words), "");
  po::positional_options_description positions;
  positions.add("words", -1);
  po::variables_map given;
  po::store(po::command_line_parser(argc, argv).options(options).positional(positions).run(), given);
  po::notify(given);
  if (given.contains("help")) {
    std::cout << kUsage;
    return 0;
  }
  if (words.empty() || words.front() != "summary") {
    throw mla::ConfigError(words.empty() ? "name a command; known: summary" : "no '" + words.front() + "'; known: summary");
  }
  if (words.size() < 2) throw mla::ConfigError("summary: name at least one results folder or record");
  const mla::Summary summary = mla::summarize({words.begin() + 1, words.end()});
  if (given.contains("json")) {
    std::cout << mla::to_json(summary).dump() << "\n";
  } else {
    mla::print(summary, std::cout);
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
