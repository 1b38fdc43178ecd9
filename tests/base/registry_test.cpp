#include "core/base/registry.h"

#include <gtest/gtest.h>

#include "tests/support/errors.h"

namespace mla {
namespace {

using test::message_of;

class Shape {
 public:
  static constexpr const char* kKind = "shape";
  virtual ~Shape() = default;
  virtual double area() const = 0;
};

class Square : public Shape {
 public:
  struct Options {
    double side = 2;
    template <class Self, class Visitor>
    static void fields(Self& self, Visitor& visit) {
      visit("side", self.side, "length of a side");
    }
    void validate(const std::string& path) const {
      if (side <= 0) throw ConfigError(cat(path, ".side = ", side, ": must be above 0"));
    }
  };
  explicit Square(const Options& options) : options_(options) {}
  double area() const override { return options_.side * options_.side; }

 private:
  Options options_;
};

class Point : public Shape {
 public:
  struct Options {
    template <class Self, class Visitor>
    static void fields(Self&, Visitor&) {}
  };
  explicit Point(const Options&) {}
  double area() const override { return 0; }
};

const Registration<Shape, Square> kSquare("square", "four equal sides");
const Registration<Shape, Point> kPoint("point", "no extent");

const Registry<Shape>& shapes() { return Registry<Shape>::instance(); }

std::string error(const Json& config) {
  return message_of<ConfigError>([&] { shapes().make(config, "shapes[1]"); });
}

TEST(Registry, ListsItsNamesInOrder) { EXPECT_EQ(shapes().names(), (std::vector<std::string>{"point", "square"})); }

TEST(Registry, MakesAStrategyFromItsOptions) {
  EXPECT_EQ(shapes().make({{"name", "square"}}, "x")->area(), 4);
  EXPECT_EQ(shapes().make({{"name", "square"}, {"side", 3}}, "x")->area(), 9);
}

TEST(Registry, AnEntryDescribesItself) {
  const auto& entry = shapes().find("square", "x");
  EXPECT_EQ(entry.description, "four equal sides");
  ASSERT_EQ(entry.options.size(), 1u);
  EXPECT_EQ(entry.options[0].name, "side");
  EXPECT_EQ(entry.defaults, (Json{{"side", 2.0}}));
}

TEST(Registry, ErrorsNameThePathAndTheAlternatives) {
  EXPECT_EQ(error({{"name", "sqare"}}), "shapes[1].name: no 'sqare'; did you mean 'square'? known: point, square");
  EXPECT_EQ(error({{"name", "tesseract"}}), "shapes[1].name: no 'tesseract'; known: point, square");
  EXPECT_EQ(error({{"side", 1}}), "shapes[1].name: missing; known: point, square");
  EXPECT_EQ(error("square"), "shapes[1]: expected an object with a name, found a string");
  EXPECT_EQ(error({{"name", "square"}, {"sid", 1}}), "shapes[1].sid: unknown key; did you mean 'side'? known: side");
  EXPECT_EQ(error({{"name", "point"}, {"side", 1}}), "shapes[1].side: unknown key; known: none");
  EXPECT_EQ(error({{"name", "square"}, {"side", 0}}), "shapes[1].side = 0: must be above 0");
}

TEST(Registry, TwoStrategiesOfOneNameAreAMistakeOfTheProgram) {
  EXPECT_THROW((Registration<Shape, Point>("square", "again")), std::logic_error);
}

}  // namespace
}  // namespace mla
