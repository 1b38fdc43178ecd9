// Figures, the page and the planner, on records made by formula.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstdio>
#include <cstdlib>

#include "analysis/figures/figure.h"
#include "analysis/page/html_page.h"
#include "core/base/file.h"
#include "tests/analysis/run_report.h"
#include "tests/analysis/synthetic_records.h"
#include "tests/support/temporary_folder.h"

namespace mla {
namespace {

namespace fs = std::filesystem;
using testing::AllOf;
using testing::HasSubstr;
using testing::Not;

bool installed(const char* program) {
  return std::system(cat("command -v ", program, " >/dev/null 2>&1").c_str()) == 0;
}

class Figures : public testing::Test {
 protected:
  void SetUp() override { test::write_synthetic_records(folder_ / "results", 26, 2); }
  std::string results() const { return (folder_ / "results").string(); }
  test::TemporaryFolder folder_;
};

TEST_F(Figures, EachIsDrawnWithItsDataAndScriptBeside) {
  if (!installed("gnuplot")) GTEST_SKIP() << "gnuplot is not installed";
  const fs::path out = folder_ / "figures";
  const auto result =
      test::run_report({"figure", results(), "--output", out.string(), "--format", "svg,png,pdf,terminal"});
  ASSERT_EQ(result.exit_code, 0) << result.err;
  for (const char* name : {"loss", "pareto", "pairs", "spectra", "layer_error", "attribution"}) {
    SCOPED_TRACE(name);
    const std::string stem = (out / name).string();
    EXPECT_THAT(read_file(stem + ".svg"), HasSubstr("<svg"));
    EXPECT_THAT(read_file(stem + ".png").substr(1, 3), "PNG");
    EXPECT_THAT(read_file(stem + ".pdf").substr(0, 4), "%PDF");
    EXPECT_GT(read_file(stem + ".txt").size(), 500u);
    EXPECT_GT(fs::file_size(stem + ".dat"), 50u);
    // The script draws again by itself, in a folder of the user's.
    fs::remove(stem + ".svg");
    EXPECT_EQ(std::system(cat("cd ", out.string(), " && gnuplot ", name, ".gp 2>/dev/null").c_str()), 0);
    EXPECT_TRUE(fs::exists(stem + ".svg"));
  }
}

TEST_F(Figures, PointsOfSeveralMethodsBearTheirNames) {
  const auto script = [&] {
    const fs::path out = folder_ / "named";
    EXPECT_EQ(test::run_report({"figure", "pareto", results(), "--output", out.string(), "--format", "svg"}).exit_code,
              0);
    return read_file(out / "pareto.gp");
  };
  if (!installed("gnuplot")) GTEST_SKIP() << "gnuplot is not installed";
  EXPECT_THAT(script(), Not(HasSubstr(" mha2mla' at")));
  RunRecord other = test::synthetic_record({"high", "joint_svd", 2, 4, 1});
  other.config["compress"][0] = {{"name", "mkla"}, {"cached", 24}};
  other.head.content_hash = "other";
  for (ScoreRecord& score : other.evaluation) score.value *= score.higher_is_better ? 2 : 0.5;
  write_record(folder_ / "results" / "other" / "other.h5", other);
  const std::string named = script();
  EXPECT_THAT(named, HasSubstr(" mkla' at"));
  EXPECT_THAT(named, HasSubstr("  mkla cached=24"));
}

TEST_F(Figures, ScoresThatSpanDecadesStandOnALogarithmicAxis) {
  EXPECT_EQ(log_axis(3, 29), "");
  EXPECT_THAT(log_axis(3, 90), HasSubstr("set logscale y"));
  EXPECT_THAT(log_axis(3, 90), HasSubstr("set yrange [2:135]\nset ytics (2,5,10,20,50,100)\n"));
  EXPECT_EQ(log_axis(0, 90), "") << "zero has no place there";
  const auto pareto = [&](FigureOptions options) {
    const RecordSet set = read_records({folder_ / "results"});
    const FigureInput input = figure_input(set, options);
    for (const FigureKind& kind : figure_kinds()) {
      if (std::string(kind.name) == "pareto") return kind.draw(input).value();
    }
    return Figure{};
  };
  EXPECT_THAT(pareto({}).script, Not(HasSubstr("set logscale y")));
  RunRecord far = test::synthetic_record({"high", "joint_svd", 2, 4, 1});
  far.config["compress"][0]["low_rank"]["d_kv"] = 3;
  far.head.content_hash = "far";
  for (ScoreRecord& score : far.evaluation) score.value *= score.higher_is_better ? 1 : 1000;
  write_record(folder_ / "results" / "far" / "far.h5", far);
  const Figure figure = pareto({});
  EXPECT_THAT(figure.script, HasSubstr("set logscale y"));
  EXPECT_THAT(figure.caption, HasSubstr("logarithmic"));
  EXPECT_THAT(figure.script, Not(HasSubstr("textcolor")));
  FigureOptions labelled;
  labelled.label_all = true;
  EXPECT_THAT(pareto(labelled).script, HasSubstr("textcolor"));
}

TEST_F(Figures, AFigureThatWasCutShortIsAnError) {
  const fs::path programs = folder_ / "bin", out = folder_ / "short";
  fs::create_directories(programs);
  // As gnuplot does on a full disk: it ends well, and its file before its end.
  folder_.write("bin/gnuplot", "#!/bin/sh\necho '<svg><g>' > pareto.svg\n");
  fs::permissions(programs / "gnuplot", fs::perms::owner_all);
  const std::string before = std::getenv("PATH");
  ::setenv("PATH", (programs.string() + ":" + before).c_str(), 1);
  const auto result = test::run_report({"figure", "pareto", results(), "--output", out.string(), "--format", "svg"});
  ::setenv("PATH", before.c_str(), 1);
  EXPECT_EQ(result.exit_code, 3);
  EXPECT_THAT(result.err, HasSubstr("pareto.svg: was not written to its end"));
}

TEST_F(Figures, TheParetoFrontIsWhatNothingBeats) {
  const RecordSet set = read_records({folder_ / "results"});
  const FigureInput input = figure_input(set, {});
  ASSERT_TRUE(input.quality);
  EXPECT_EQ(input.quality->label, "perplexity");
  for (const FigureKind& kind : figure_kinds()) {
    if (std::string(kind.name) != "pareto") continue;
    const auto figure = kind.draw(input);
    ASSERT_TRUE(figure);
    // Along the front the cache grows and the perplexity falls.
    double bytes = 0, value = 1e9;
    std::istringstream lines(figure->data.substr(0, figure->data.find("# dominated")));
    std::size_t points = 0;
    for (std::string line; std::getline(lines, line);) {
      if (line.empty() || line[0] == '#') continue;
      std::istringstream words(line);
      double x = 0, y = 0;
      words >> x >> y;
      EXPECT_GT(x, bytes);
      EXPECT_LT(y, value);
      bytes = x;
      value = y;
      ++points;
    }
    EXPECT_GE(points, 2u);
    EXPECT_LT(points, input.groups.size());
  }
}

/// Text decoded through a codec's cache: what the loss is, and KL where it was asked for.
RunRecord decoded_record(int bits, double nll, std::optional<double> kl) {
  RunRecord record = test::synthetic_record({"two_norm", "joint_svd", 2, 8, 1}, "codecs");
  std::erase_if(record.evaluation, [](const ScoreRecord& score) { return score.stage == "fine_tuned"; });
  record.head.cell = record.head.content_hash = cat("bits", bits);
  const Json codec = bits == 32 ? Json() : Json({{"name", "rtn"}, {"bits", bits}});
  record.config["cache"] = {{"codec", codec}, {"update", "append_only"}};
  record.overrides = {{"cache.codec", codec}};
  for (const char* stage : {"source", "converted"}) {
    const double worse = nll + (stage == std::string("converted") ? 0.25 : 0);
    const std::string task = "text, cached";
    record.evaluation.push_back(test::synthetic_score(stage, task, "nll", worse, {}, false));
    record.evaluation.push_back(test::synthetic_score(stage, task, "perplexity", std::exp(worse), {}, false));
    record.evaluation.push_back(test::synthetic_score(stage, task, "effective_bits", bits + 1.0, {}, false));
    if (kl) record.evaluation.push_back(test::synthetic_score(stage, task, "kl_mean", *kl, {}, false));
    CachedDecodingRecord decoding;
    decoding.stage = stage;
    decoding.task = "text";
    decoding.tokens = 64;
    decoding.elements = 1024 / (stage == std::string("converted") ? 4 : 1);
    decoding.counted_bytes = decoding.predicted_bytes = decoding.tokens * decoding.elements * bits / 8;
    record.cached_decoding.push_back(decoding);
  }
  return record;
}

class CodecRecords : public testing::Test {
 protected:
  void write(const RunRecord& record) const { write_record(folder_ / (record.head.cell + ".h5"), record); }
  std::optional<Figure> draw(const std::string& name) const {
    const RecordSet set = read_records({folder_.path()});
    const FigureInput input = figure_input(set, {});
    for (const FigureKind& kind : figure_kinds()) {
      if (kind.name != name) continue;
      auto figure = kind.draw(input);
      if (figure && installed("gnuplot")) write_figure(*figure, folder_ / "drawn", {"svg", "png"});
      return figure;
    }
    return {};
  }
  test::TemporaryFolder folder_;
};

TEST_F(CodecRecords, BitsAreDrawnAgainstWhatWasMeasured) {
  write(decoded_record(4, 1.5, 0.04));
  write(decoded_record(2, 1.75, 0.5));
  auto figure = draw("bits");
  ASSERT_TRUE(figure);
  EXPECT_THAT(figure->caption, HasSubstr("KL divergence of what is predicted through the codec"));
  EXPECT_THAT(figure->data, AllOf(HasSubstr("source, rtn"), HasSubstr("\n3 0.5 0.02\n5 0.04 0.02\n")));
  write(decoded_record(2, 1.75, {}));  // one without: KL cannot be drawn, and nothing is known to divide by
  figure = draw("bits");
  EXPECT_THAT(figure->caption, HasSubstr("these records hold no KL divergence"));
  EXPECT_THAT(figure->data, HasSubstr("\n3 1.75 0.02\n5 1.5 0.02\n"));
  write(decoded_record(32, 1.5, {}));
  figure = draw("bits");
  EXPECT_THAT(figure->caption, HasSubstr("Perplexity of text decoded through the codec over that"));
  EXPECT_THAT(figure->data, HasSubstr("\n3 1.284025"));
  EXPECT_THAT(figure->script, HasSubstr("perplexity ratio"));
}

TEST_F(CodecRecords, ThePlannerWeighsBitsAgainstTheRest) {
  write(decoded_record(32, 1.5, {}));
  write(decoded_record(8, 1.5001, {}));
  write(decoded_record(2, 1.75, {}));
  const auto plan = [&](const char* option, const char* value) {
    const auto result = test::run_report({"planner", folder_.path().string(), option, value, "--json"});
    EXPECT_EQ(result.exit_code, 0) << result.err;
    return result.json();
  };
  // The source model at 8 bits holds 1024 bytes; converted and at 32 bits as many, at a larger loss.
  const Json roomy = plan("--bytes-per-token", "1024")["recommended"];
  EXPECT_EQ(roomy["method"], "none");
  EXPECT_EQ(roomy["cache"], "rtn 8 bit");
  EXPECT_EQ(roomy["bits"], 8);
  EXPECT_EQ(roomy["bytes_per_token"], 1024);
  const Json tight = plan("--bytes-per-token", "255")["recommended"];
  EXPECT_EQ(tight["cache"], "rtn 2 bit");
  EXPECT_EQ(tight["bytes_per_token"], 64);
  const Json careful = plan("--tolerance", "1%");
  EXPECT_EQ(careful["reference"], "the source model");
  EXPECT_EQ(careful["recommended"]["bits"], 8);
}

TEST_F(CodecRecords, LatencyHasACurvePerModelBatchAndCache) {
  for (const char* model : {"d_kv16", "source"}) {
    for (const int context : {64, 128}) {
      RunRecord record;
      record.head = {RunStatus::kComplete, "", "bench", cat(model, context), cat(model, context), ""};
      record.overrides = {
          {"model", model}, {"batch", 1}, {"context", context}, {"path", "auto"}, {"cache", Json::object()}};
      record.evaluation = {test::synthetic_score("source", "bench", "time_per_token", context / 64.0, {}, false),
                           test::synthetic_score("source", "bench", "bandwidth_share", 0.5, {}, true)};
      record.evaluation[0].spread = 0.02;
      record.cache = {{"source", context, 1'000'000, 1'000'000}};
      write(record);
    }
  }
  const auto figure = draw("latency");
  ASSERT_TRUE(figure);
  EXPECT_LT(figure->data.find("# source, batch 1"), figure->data.find("# d_kv16, batch 1")) << "the source comes first";
  EXPECT_THAT(figure->data, HasSubstr("\n64 1 0.02 0.5 1\n128 2 0.02 1 1\n"));
}

TEST_F(Figures, MistakesAreOneLine) {
  EXPECT_THAT(test::run_report({"figure", "paretto", results()}).err, HasSubstr("did you mean 'pareto'"));
  EXPECT_EQ(test::run_report({"figure", "pareto", results(), "--format", "gif", "--output", (folder_ / "f").string()})
                .exit_code,
            2);
  EXPECT_EQ(test::run_report({"figure", "pareto", results(), "--metric", "bleu"}).exit_code, 2);
  const auto nothing = test::run_report({"figure", "latency", results()});
  EXPECT_EQ(nothing.exit_code, 3);
  EXPECT_THAT(nothing.err, HasSubstr("nothing to show"));
}

TEST_F(Figures, ThePageHoldsEverything) {
  RunRecord failed = test::synthetic_record({"low", "split_svd", 1, 4, 99});
  failed.head.status = RunStatus::kFailed;
  failed.head.message = "no <such> tensor";
  failed.evaluation.clear();
  write_record(folder_ / "results/sweep/failed.h5", failed);
  folder_.write("results/sweep/broken.h5", "not a record");
  const fs::path page = folder_ / "report.html";
  const auto result = test::run_report({"html", results(), "--output", page.string(), "--title", "A & B"});
  ASSERT_EQ(result.exit_code, 0) << result.err;
  const std::string html = read_file(page);
  EXPECT_THAT(html, AllOf(HasSubstr("<title>A &amp; B</title>"), HasSubstr("no &lt;such&gt; tensor"),
                          HasSubstr("broken.h5"), HasSubstr("two_norm r=1")));
  EXPECT_THAT(html, AllOf(Not(HasSubstr("http://")), Not(HasSubstr("https://")), Not(HasSubstr("<link"))))
      << "it opens offline";
  EXPECT_EQ(html.find("data:image/svg+xml;base64,") != std::string::npos, installed("gnuplot"));
  const std::string marker = "id=\"cells-data\">";
  const std::size_t begin = html.find(marker) + marker.size();
  const Json cells = parse_json(html.substr(begin, html.find("</script>", begin) - begin), "cells");
  EXPECT_EQ(cells["cells"].size(), 27u);
  EXPECT_LT(cells["configs"].size(), 4u) << "cells share what they have in common";
}

TEST_F(Figures, AHeadlessBrowserShowsThePage) {
  const char* browser = installed("chromium") ? "chromium --headless" : "chromium-headless-shell";
  if (!installed("chromium") && !installed("chromium-headless-shell")) GTEST_SKIP() << "chromium is not installed";
  const fs::path page = folder_ / "report.html";
  ASSERT_EQ(test::run_report({"html", results(), "--output", page.string()}).exit_code, 0);
  // The script runs when the page is opened: a row that is clicked shows its config; keys and points do, too, and a
  // filter leaves some cells and their points.
  std::string html = read_file(page);
  html.insert(html.rfind("</body>"), R"(<script>{
    const key = {key: "Enter", bubbles: true};
    document.querySelector("tr.cell").click();
    document.querySelectorAll("tr.cell")[1].dispatchEvent(new KeyboardEvent("keydown", key));
    document.querySelector("th").dispatchEvent(new KeyboardEvent("keydown", key));
    const point = document.querySelector("#explore circle");
    point.dispatchEvent(new MouseEvent("mouseenter"));
    point.dispatchEvent(new MouseEvent("click", {bubbles: true}));
    const seen = document.createElement("p");
    seen.id = "seen";
    seen.textContent = `${document.getElementById("tip").textContent.split("\n").length} lines, ` +
      `${document.querySelectorAll("#explore circle").length} points`;
    const filter = document.getElementById("filter");
    filter.value = "two_norm";
    filter.dispatchEvent(new Event("input"));
    seen.textContent += `, then ${document.querySelectorAll("#explore circle").length}`;
    document.body.append(seen);
  }</script>)");
  folder_.write("clicked.html", html);
  const std::string command =
      cat(browser, " --no-sandbox --disable-gpu --user-data-dir=", (folder_ / "profile").string(),
          " --virtual-time-budget=2000 --dump-dom file://", (folder_ / "clicked.html").string(), " > ",
          (folder_ / "dom").string(), " 2>", (folder_ / "log").string());
  ASSERT_EQ(std::system(command.c_str()), 0) << read_file(folder_ / "log");
  const std::string dom = read_file(folder_ / "dom");
  EXPECT_THAT(dom, AllOf(HasSubstr("class=\"details\""), HasSubstr("<h3>config</h3>"), HasSubstr("data-order=\"1\""),
                         HasSubstr("aria-sort=\"ascending\""), HasSubstr("<h3>scores</h3>")));
  EXPECT_THAT(dom,
              AllOf(HasSubstr("class=\"on-front"), HasSubstr("role=\"button\""), HasSubstr("aria-label=\"sweep/")));
  const std::size_t seen = dom.find("id=\"seen\">");
  ASSERT_NE(seen, std::string::npos) << "the script stopped before its end";
  int lines = 0, points = 0, left = 0;
  ASSERT_EQ(std::sscanf(dom.c_str() + seen, "id=\"seen\">%d lines, %d points, then %d", &lines, &points, &left), 3);
  EXPECT_GE(lines, 4);
  EXPECT_GT(points, 20);
  EXPECT_GT(left, 1);
  EXPECT_LT(left, points);
}

TEST(HtmlPage, Base64OfEveryLength) {
  EXPECT_EQ(base64(""), "");
  EXPECT_EQ(base64("f"), "Zg==");
  EXPECT_EQ(base64("fo"), "Zm8=");
  EXPECT_EQ(base64("foo"), "Zm9v");
  EXPECT_EQ(base64("foob\xff"), "Zm9vYv8=");
}

TEST_F(Figures, ThePlannerTakesTheBestThatFits) {
  const Json budget = test::run_report({"planner", results(), "--saved", "80", "--json"}).json();
  ASSERT_FALSE(budget["recommended"].is_null());
  EXPECT_GE(budget["recommended"]["saved_percent"].get<double>(), 80);
  for (const Json& other : budget["fitting"]) EXPECT_GE(other["loss"], budget["recommended"]["loss"]);
  EXPECT_EQ(budget["recommended"]["low_rank_name"], "joint_svd") << "split_svd loses more at the same cache";
  EXPECT_FALSE(budget["recommended"]["records"].empty());
  const Json tolerance = test::run_report({"planner", results(), "--tolerance", "50%", "--json"}).json();
  for (const Json& other : tolerance["fitting"]) {
    EXPECT_LE(other["loss"].get<double>(), 0.5 * tolerance["reference_quality"].get<double>());
    EXPECT_GE(other["bytes_per_token"], tolerance["recommended"]["bytes_per_token"]);
  }
  EXPECT_EQ(test::run_report({"planner", results(), "--bytes-per-token", "1"}).exit_code, 0);
  EXPECT_THAT(test::run_report({"planner", results(), "--bytes-per-token", "1"}).out,
              HasSubstr("No config that was measured meets this"));
  EXPECT_EQ(test::run_report({"planner", results()}).exit_code, 2);
  EXPECT_EQ(test::run_report({"planner", results(), "--saved", "lots"}).exit_code, 2);
}

TEST_F(Figures, SpectraAloneShareRanksOutByGain) {
  // Two layers, the second of which decays much faster: it needs fewer ranks for the same energy.
  RunRecord record = test::synthetic_record({"high", "joint_svd", 2, 8, 1});
  record.compression.resize(2);
  for (std::size_t layer = 0; layer < 2; ++layer) {
    auto& values = record.compression[layer].singular_values;
    values.assign(32, 0);
    for (std::size_t i = 0; i < 32; ++i) values[i] = std::pow(layer == 0 ? 0.95 : 0.6, static_cast<double>(i));
    record.compression[layer].joint_error = 0;  // nothing lies beyond
  }
  write_record(folder_ / "one/x.h5", record);
  const Json json =
      test::run_report({"planner", (folder_ / "one").string(), "--bytes-per-token", "400", "--json"}).json();
  ASSERT_EQ(json["from_spectra_alone"].size(), 1u) << json.dump(1);
  const Json& plan = json["from_spectra_alone"][0];
  EXPECT_GT(plan["ranks"][0], plan["ranks"][1]);
  EXPECT_GE(plan["energy"], plan["uniform_energy"]);
  EXPECT_LE(plan["bytes_per_token"].get<double>(), 400);
  const Json energy = test::run_report({"planner", (folder_ / "one").string(), "--energy", "0.9", "--json"})
                          .json()["from_spectra_alone"][0];
  EXPECT_EQ(energy["ranks"][1], 3);  // 1 - 0.36^3 = 0.953, 1 - 0.36^2 = 0.87
  EXPECT_GE(energy["energy"].get<double>(), 0.9);
}

}  // namespace
}  // namespace mla
